"""The types in which kernels multiply, and why a primitive has none in one of them."""

from typing import NamedTuple

DTYPES = ("float32", "int8")


class KernelTypes(NamedTuple):
    """The types of a kernel: what it reads, sums in and writes."""

    input: str
    weight: str
    accumulate: str
    output: str


TYPES = {
    "float32": KernelTypes("float32", "float32", "float32", "float32"),
    "int8": KernelTypes("uint8", "int8", "int32", "uint8"),
}
WINOGRAD_INT8 = (
    "winograd in int8 is not implemented: its transforms add up to four (F(2x2)) or more numbers, "
    "so that transformed images and filters need 16 bits, with which F(2x2) saves at most a tenth "
    "of the time and the sums of F(4x4) overflow"
)
SPARSE_INT8 = ("direct", "gemm")
"""The primitives that have CSR weights in int8, in groups of four input channels."""
CSR_INT8 = (
    "CSR weights in int8 are implemented for convolutions by direct and gemm: the other sparse "
    "kernels are float32"
)
