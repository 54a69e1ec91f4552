"""The primitives by name: which kernel computes a convolution, and in which layout.

Each is one file of this folder, which holds its kernel, the kernel's `space` for tuning and the
`PRIMITIVE` itself, and one line here.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.convolution.contract import Kernel, Primitive, Request
from dlas.kernels.ground.errors import UnsupportedError, near
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import Array, Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

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


def _of(file: str) -> Primitive:
    primitive: Primitive = import_module(f"{__package__}.{file}").PRIMITIVE
    return primitive


PRIMITIVES = {(p.name, p.weights): p for p in map(_of, FILES)}
WEIGHTS = ("dense", "csr")


def check_weights(weights: str) -> None:
    """Refuse an unknown storage of weights.

    Raises:
        UnsupportedError: neither `dense` nor `csr`.
    """
    if weights not in WEIGHTS:
        raise UnsupportedError(f"weights must be one of {WEIGHTS}, got {weights!r}")


def find(name: str, weights: str = "dense") -> Primitive:
    """Return the primitive of this name for this storage of the weights.

    Raises:
        UnsupportedError: there is none.
    """
    check_weights(weights)
    if (name, weights) in PRIMITIVES:
        return PRIMITIVES[name, weights]
    known = ", ".join(n for n, w in PRIMITIVES if w == weights)
    what = "primitive" if weights == "dense" else "primitive with CSR weights:"
    guess = near(name, [n for n, w in PRIMITIVES if w == weights])
    raise UnsupportedError(f"unknown {what} {name!r}; known: {known}{guess}")


def plain_kernel(
    op: Conv2d, primitive: str, weights: str, cpu: CpuTarget, threads: int, knobs: Knobs = FIXED
) -> Kernel:
    """Return the kernel with the smallest layouts and nothing fused: the one that is tuned."""
    chosen = find(primitive, weights)
    out = Layout(chosen.block(cpu))
    inp = chosen.needs(op, cpu, knobs)
    return chosen.lower(op, Request(cpu, threads, inp, out, Epilogue(), knobs))


def multiplications(op: Conv2d, schedule: Mapping[str, Any], weights: str, weight: Array) -> int:
    """Return how many multiplications a kernel of this schedule does, without transforms.

    Zeros that a dense kernel multiplies by count (padding and neighbouring groups do not).
    """
    if weights == "csr":
        return int(np.count_nonzero(weight)) * op.batch * op.out_height * op.out_width
    return int(schedule.get("multiplications", op.multiplications))
