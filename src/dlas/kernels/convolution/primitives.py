"""The primitives by name: which kernel computes a convolution, and in which layout.

Each is one file of this folder, which holds its kernel, the kernel's `space` for tuning and the
`PRIMITIVE` itself, and one line here.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from dlas.kernels.code.dot import taken
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.half_images import BITS, WIDE
from dlas.kernels.code.numbers import FLOAT32, Numbers
from dlas.kernels.convolution.contract import Kernel, Primitive, Request, Scaled
from dlas.kernels.ground.errors import UnsupportedError, near
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import AnyArray, Layout
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget
from dlas.kernels.ground.types import DTYPES, WINOGRAD_INT8, KernelTypes, no_csr

FILES = (
    "direct",
    "gemm",
    "spatial_pack",
    "winograd",
    "native",
    "direct_csr",
    "gemm_csr",
    "spatial_csr",
)
"""The files of this folder that hold a primitive, in the order in which messages name them."""


def _of(file: str) -> Any:
    return import_module(f"{__package__}.{file}")


PRIMITIVES: Mapping[tuple[str, str], Primitive] = {
    (p.name, p.weights): p for p in (_of(file).PRIMITIVE for file in FILES)
}
NARROW: Mapping[tuple[str, str, str], Primitive] = {
    (p.name, p.weights, p.dtype): p for file in FILES for p in getattr(_of(file), "NARROW", ())
}
"""The primitives in other types than float32."""
WEIGHTS = ("dense", "csr")


def check_weights(weights: str) -> None:
    """Refuse an unknown storage of weights.

    Raises:
        UnsupportedError: neither `dense` nor `csr`.
    """
    if weights not in WEIGHTS:
        raise UnsupportedError(f"weights must be one of {WEIGHTS}, got {weights!r}")


def check_dtype(dtype: str) -> None:
    """Refuse an unknown type of numbers.

    Raises:
        UnsupportedError: none of `DTYPES`.
    """
    if dtype not in DTYPES:
        raise UnsupportedError(
            f"dtype must be one of {DTYPES}, got {dtype!r}{near(dtype, DTYPES)}"
        )


def find(name: str, weights: str = "dense", dtype: str = "float32") -> Primitive:
    """Return the primitive of this name for this storage of the weights, in this type.

    Raises:
        UnsupportedError: there is none.
    """
    check_weights(weights)
    check_dtype(dtype)
    if dtype != "float32":
        return _narrow(name, weights, dtype)
    if (name, weights) in PRIMITIVES:
        return PRIMITIVES[name, weights]
    known = ", ".join(n for n, w in PRIMITIVES if w == weights)
    what = "primitive" if weights == "dense" else "primitive with CSR weights:"
    guess = near(name, [n for n, w in PRIMITIVES if w == weights])
    raise UnsupportedError(f"unknown {what} {name!r}; known: {known}{guess}")


def of_type(dtype: str) -> Mapping[tuple[str, str], Primitive]:
    """Return the primitives of a type, by name and storage of the weights."""
    if dtype == "float32":
        return PRIMITIVES
    return {(name, weights): p for (name, weights, of), p in NARROW.items() if of == dtype}


def _narrow(name: str, weights: str, dtype: str) -> Primitive:
    """Return a primitive in another type than float32."""
    if (name, weights, dtype) in NARROW:
        return NARROW[name, weights, dtype]
    if name == "winograd" and dtype == "int8":
        raise UnsupportedError(WINOGRAD_INT8)
    if weights == "csr":
        raise UnsupportedError(no_csr(dtype))
    known = ", ".join(n for n, w, d in NARROW if (w, d) == (weights, dtype)) or "none"
    if (name, weights) in PRIMITIVES:
        raise UnsupportedError(
            f"{name} with {weights} weights is not implemented in {dtype}; there is: {known}"
        )
    return find(name, weights)  # says that there is none of this name


def constants(
    kernel: Any,
    weight: AnyArray,
    bias: AnyArray | None,
    quantization: Quantization | None = None,
) -> tuple[AnyArray, ...]:
    """Return all that is packed ahead of time for a kernel, scales of an int8 one included."""
    if quantization is None:
        packed: tuple[AnyArray, ...] = kernel.constants(weight, bias)
        return packed
    assert isinstance(kernel, Scaled)
    exact = quantization.corrected(weight, bias, taken(kernel.target))
    return (*kernel.constants(weight, exact), *kernel.scales(quantization))


def types_of(kernel: Any) -> KernelTypes:
    """Return the types of a kernel: of what it was made for, not of what was asked."""
    numbers: Numbers = getattr(kernel, "numbers", FLOAT32)
    if getattr(kernel, "images", WIDE).y == BITS:
        return numbers.types._replace(output="bfloat16")
    return numbers.types


def plain_kernel(
    op: Conv2d,
    primitive: str,
    weights: str,
    cpu: CpuTarget,
    threads: int,
    knobs: Knobs = FIXED,
    dtype: str = "float32",
) -> Kernel:
    """Return the kernel with the smallest layouts and nothing fused: the one that is tuned."""
    chosen = find(primitive, weights, dtype)
    out = Layout(chosen.block(op, cpu))
    inp = chosen.needs(op, cpu, knobs)
    return chosen.lower(op, Request(cpu, threads, inp, out, Epilogue(), knobs))


def multiplications(
    op: Conv2d, schedule: Mapping[str, Any], weights: str, weight: AnyArray
) -> int:
    """Return how many multiplications a kernel of this schedule does, without transforms.

    Zeros that a dense kernel multiplies by count (padding and neighbouring groups do not).
    """
    if weights == "csr":
        return int(np.count_nonzero(weight)) * op.batch * op.out_height * op.out_width
    return int(schedule.get("multiplications", op.multiplications))
