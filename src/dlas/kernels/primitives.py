"""The primitives by name: which kernel computes a convolution, and in which layout.

A primitive answers three questions: can it do this operator (`why_not`), which layout must the
input have at least (`needs`), and what is the kernel (`lower`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dlas.kernels.depthwise import Depthwise, default_columns
from dlas.kernels.direct import Direct
from dlas.kernels.emit import PrimFunc
from dlas.kernels.epilogue import Epilogue
from dlas.kernels.errors import UnsupportedError
from dlas.kernels.gemm import Gemm
from dlas.kernels.layout import NCHW, Array, Layout
from dlas.kernels.native import Native
from dlas.kernels.rows import default_tile as default_rows
from dlas.kernels.shape import Conv2d
from dlas.kernels.spatial_pack import SpatialPack, default_tile
from dlas.kernels.target import CpuTarget


class Kernel(Protocol):
    """A convolution whose algorithm, layouts and schedule are fixed."""

    @property
    def inp(self) -> Layout:
        """Layout of the input."""

    @property
    def out(self) -> Layout:
        """Layout of the output (and of the residual, halo apart)."""

    def function(self, name: str) -> PrimFunc:
        """Return the code: (x, constants ..., [residual], y)."""

    def constants(self, weight: Array, bias: Array | None) -> tuple[Array, ...]:
        """Return what is packed ahead of time, in the order of the arguments."""

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Request:
    """What a kernel is asked for, beside the operator."""

    target: CpuTarget
    threads: int
    inp: Layout
    """Layout that the input has; covers what the primitive needs."""
    out: Layout
    """Layout that the output shall have; its block is the primitive's."""
    epilogue: Epilogue


@dataclass(frozen=True)
class Primitive:
    """One algorithm for convolutions."""

    name: str
    needs: Callable[[Conv2d, CpuTarget], Layout]
    """The smallest input layout."""
    block: Callable[[CpuTarget], int]
    """Channel block of the output."""
    lower: Callable[[Conv2d, Request], Kernel]
    why_not: Callable[[Conv2d], str | None] = lambda _: None


def _packed_input(op: Conv2d, target: CpuTarget) -> Layout:
    # Three colour channels in a block of 16 would multiply 13 zeros; read them as NCHW.
    small = op.in_channels * 2 <= target.lanes and not op.depthwise
    return Layout(1 if small else target.lanes, op.padding)


def _spatial_pack(op: Conv2d, r: Request) -> Kernel:
    if op.depthwise:
        columns = default_columns(op, r.target)
        return Depthwise(op, r.target, r.threads, r.inp, r.out, r.epilogue, columns)
    tile = default_tile(op, r.target)
    return SpatialPack(op, r.target, r.threads, r.inp, r.out, r.epilogue, tile)


PRIMITIVES = {
    p.name: p
    for p in (
        Primitive(
            "direct",
            lambda op, target: NCHW,
            lambda target: 1,
            lambda op, r: Direct(op, r.target, r.threads, r.epilogue, default_rows(op, r.target)),
        ),
        Primitive(
            "gemm",
            lambda op, target: NCHW,
            lambda target: 1,
            lambda op, r: Gemm(op, r.target, r.threads, r.epilogue, default_rows(op, r.target)),
        ),
        Primitive("spatial-pack", _packed_input, lambda target: target.lanes, _spatial_pack),
        Primitive(
            "native",
            lambda op, target: NCHW,
            lambda target: 1,
            lambda op, r: Native(op, r.target, r.threads, r.epilogue),
        ),
    )
}


def find(name: str) -> Primitive:
    """Return the primitive of this name.

    Raises:
        UnsupportedError: there is none.
    """
    if name not in PRIMITIVES:
        raise UnsupportedError(f"unknown primitive {name!r}; known: {', '.join(PRIMITIVES)}")
    return PRIMITIVES[name]
