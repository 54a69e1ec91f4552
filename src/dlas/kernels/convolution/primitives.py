"""The primitives by name: which kernel computes a convolution, and in which layout.

A primitive answers three questions: can it do this operator (`why_not`), which layout must the
input have at least (`needs`), and what is the kernel (`lower`).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from dlas.kernels.code.emit import PrimFunc
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.pixel_rows import RowTile
from dlas.kernels.code.pixel_rows import default_tile as default_rows
from dlas.kernels.code.register_tile import Tile, default_tile
from dlas.kernels.convolution.depthwise import Depthwise, default_columns
from dlas.kernels.convolution.direct import Direct
from dlas.kernels.convolution.direct_csr import DirectCsr
from dlas.kernels.convolution.gemm import Gemm
from dlas.kernels.convolution.gemm import default_tile as default_gemm_tile
from dlas.kernels.convolution.gemm_csr import GemmCsr
from dlas.kernels.convolution.metaschedule import Scheduled
from dlas.kernels.convolution.native import Native
from dlas.kernels.convolution.spatial_csr import SpatialCsr
from dlas.kernels.convolution.spatial_pack import SpatialPack
from dlas.kernels.convolution.whole_window import WholeWindow, is_whole_window
from dlas.kernels.convolution.winograd import Winograd, default_outputs, needed_halo
from dlas.kernels.convolution.winograd import why_not as winograd_why_not
from dlas.kernels.ground import tiling
from dlas.kernels.ground.errors import UnsupportedError, near
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import NCHW, Array, Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


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


def multiplications(op: Conv2d, schedule: Mapping[str, Any], weights: str, weight: Array) -> int:
    """Return how many multiplications a kernel of this schedule does, without transforms.

    Zeros that a dense kernel multiplies by count (padding and neighbouring groups do not).
    """
    if weights == "csr":
        return int(np.count_nonzero(weight)) * op.batch * op.out_height * op.out_width
    return int(schedule.get("multiplications", op.multiplications))


@dataclass(frozen=True)
class Request:
    """What a kernel is asked for, beside the operator."""

    target: CpuTarget
    threads: int
    inp: Layout
    """Layout that the input has; covers what the primitive needs."""
    out: Layout
    """Layout that the output shall have: what the primitive writes, perhaps with a halo."""
    epilogue: Epilogue
    knobs: Knobs = FIXED
    """Values that differ from the fixed schedule."""


@dataclass(frozen=True)
class Primitive:
    """One algorithm for convolutions."""

    name: str
    weights: str
    """`dense` or `csr`."""
    needs: Callable[[Conv2d, CpuTarget, Knobs], Layout]
    """The smallest input layout."""
    block: Callable[[CpuTarget], int]
    """Channel block of the output."""
    lower: Callable[[Conv2d, Request], Kernel]
    why_not: Callable[[Conv2d], str | None] = lambda _: None
    form: Callable[[Conv2d, CpuTarget, Knobs], Layout] | None = None
    """Layout of the output; None: blocks of channels."""

    def writes(self, op: Conv2d, target: CpuTarget, knobs: Knobs = FIXED) -> Layout:
        """Return the layout of the output, without a halo."""
        if self.form is None:
            return Layout(self.block(target))
        return self.form(op, target, knobs)


def _packed_input(op: Conv2d, target: CpuTarget, knobs: Knobs = FIXED) -> Layout:
    del knobs
    # Three colour channels in a block of 16 would multiply 13 zeros; read them as NCHW.
    small = op.in_channels * 2 <= target.lanes and not op.depthwise
    return Layout(1 if small else target.lanes, op.padding)


def _spatial_pack(op: Conv2d, r: Request) -> Kernel:
    if op.depthwise:
        columns = r.knobs.get("columns", default_columns(op, r.target))
        return Depthwise(op, r.target, r.threads, r.inp, r.out, r.epilogue, columns)
    fixed = default_tile(op, r.target)
    get = r.knobs.get
    tile = Tile(*(get(name, value) for name, value in asdict(fixed).items()))
    return SpatialPack(op, r.target, r.threads, r.inp, r.out, r.epilogue, tile)


def _spatial_csr(op: Conv2d, r: Request) -> Kernel:
    out = r.out
    if out.tiling is None:  # it was asked for by its block of channels alone
        out = tiling.written(op, r.target, r.knobs)
    return SpatialCsr(op, r.target, r.threads, r.inp, out, r.epilogue, r.knobs)


def _row_tile(op: Conv2d, r: Request) -> RowTile:
    return _with_knobs(default_rows(op, r.target), r)


def _gemm_tile(op: Conv2d, r: Request) -> RowTile:
    return _with_knobs(default_gemm_tile(op, r.target, r.threads), r)


def _gemm(op: Conv2d, r: Request) -> Kernel:
    if is_whole_window(op):
        return WholeWindow(op, r.target, r.threads, r.epilogue, r.knobs)
    return Gemm(op, r.target, r.threads, r.epilogue, _gemm_tile(op, r), r.knobs)


def _with_knobs(fixed: RowTile, r: Request) -> RowTile:
    return RowTile(r.knobs.get("rows", fixed.rows), r.knobs.get("vectors", fixed.vectors))


def _native(op: Conv2d, r: Request) -> Kernel:
    if r.knobs.module:
        return Scheduled(op, r.target, r.threads, r.epilogue, r.knobs.module)
    return Native(op, r.target, r.threads, r.epilogue)


def _outputs(op: Conv2d, knobs: Knobs) -> int:
    """Return m of Winograd's F(m x m, 3 x 3)."""
    return knobs.get("m", default_outputs(op))


def _any(_: Conv2d) -> str | None:
    return None


def _plain(
    name: str,
    lower: Callable[[Conv2d, Request], Kernel],
    weights: str = "dense",
    why_not: Callable[[Conv2d], str | None] = _any,
) -> Primitive:
    """Return a primitive that reads and writes NCHW."""
    return Primitive(
        name, weights, lambda op, target, knobs: NCHW, lambda target: 1, lower, why_not
    )


_ALL = (
    _plain(
        "direct",
        lambda op, r: Direct(op, r.target, r.threads, r.epilogue, _row_tile(op, r)),
    ),
    _plain("gemm", _gemm),
    Primitive("spatial-pack", "dense", _packed_input, lambda target: target.lanes, _spatial_pack),
    Primitive(
        "winograd",
        "dense",
        lambda op, target, knobs: Layout(target.lanes, needed_halo(op, _outputs(op, knobs))),
        lambda target: target.lanes,
        lambda op, r: Winograd(
            op, r.target, r.threads, r.inp, r.out, r.epilogue, _outputs(op, r.knobs), r.knobs
        ),
        winograd_why_not,
    ),
    _plain("native", _native),
    _plain("direct", lambda op, r: DirectCsr(op, r.target, r.threads, r.epilogue, r.knobs), "csr"),
    _plain("gemm", lambda op, r: GemmCsr(op, r.target, r.threads, r.epilogue, r.knobs), "csr"),
    Primitive(
        "spatial-pack",
        "csr",
        lambda op, target, knobs: tiling.read(op, tiling.written(op, target, knobs)),
        lambda target: 1,
        _spatial_csr,
        form=tiling.written,
    ),
)
PRIMITIVES = {(p.name, p.weights): p for p in _ALL}
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
