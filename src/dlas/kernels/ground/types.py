"""The types in which kernels multiply, and why a primitive has none in one of them."""

from collections.abc import Mapping
from typing import NamedTuple

DTYPES = ("float32", "bfloat16", "float16", "int8")
HALVES = ("bfloat16", "float16")
"""Floats of 16 bits."""
NARROW = (*HALVES, "int8")
MULTIPLYING: Mapping[str, frozenset[str]] = {
    "float16": frozenset({"avx512_fp16", "asimdhp"}),
    "bfloat16": frozenset({"avx512_bf16", "bf16"}),
}
"""Flags of CPUs that multiply halves; float32 and bytes are multiplied by any."""


class KernelTypes(NamedTuple):
    """The types of a kernel: what it multiplies, sums in and writes."""

    input: str
    """Type in which activations are multiplied."""
    weight: str
    """Type in which filters are stored."""
    accumulate: str
    output: str

    @property
    def multiplied(self) -> str:
        """The type of a product's factors: the wider of the two."""
        return "int8" if self.weight == "int8" else self.input


FLOATS = KernelTypes("float32", "float32", "float32", "float32")
BYTES = KernelTypes("uint8", "int8", "int32", "uint8")
GIVEN = {"float32": FLOATS, "bfloat16": FLOATS, "float16": FLOATS, "int8": BYTES}
"""The types of the arrays that callers give and get: filters (and, where a kernel multiplies them
so, activations) are rounded to halves by dlas."""
WINOGRAD_INT8 = (
    "winograd in int8 is not implemented: its transforms add up to four (F(2x2)) or more numbers, "
    "so that transformed images and filters need 16 bits, with which F(2x2) saves at most a tenth "
    "of the time and the sums of F(4x4) overflow"
)
SPARSE_INT8 = ("direct", "gemm")
"""The primitives that have CSR weights in int8, in groups of four input channels."""
ASKED_SPARSE_INT8 = (*SPARSE_INT8, "best", "best-by-rule")
"""What may be asked for CSR weights in int8: those, or what chooses among them."""
CSR_INT8 = (
    "CSR weights in int8 are implemented for convolutions by direct and gemm: the other sparse "
    "kernels are float32"
)
NO_SEARCH = (
    "metaschedule in {} is not implemented: it schedules TVM's own definition of a convolution in "
    "float32; tune by template"
)


def no_csr(dtype: str) -> str:
    """Return why CSR weights do not run in a narrow type, by this primitive."""
    if dtype == "int8":
        return CSR_INT8
    return f"CSR weights in {dtype} are not implemented: sparse kernels are float32 and int8"
