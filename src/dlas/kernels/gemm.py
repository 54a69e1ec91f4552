"""`gemm`: convolution as a matrix product, filters [O, K] times patches [K, pixels].

The matrix of patches (im2col) is never built whole: a band of output rows at a time is gathered
into a panel that stays in the cache, and from it one block of pixels at a time into a slab that is
read in order. Where filters are 1x1, without stride and padding, the image is the matrix, and
slabs are taken from it.
"""

import contextlib
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, NamedTuple

from tvm.tirx.script.builder import ir as T

from dlas.kernels import emit, rows
from dlas.kernels.emit import Buffer, Expr, PrimFunc
from dlas.kernels.knobs import FIXED, Knobs
from dlas.kernels.layout import Array
from dlas.kernels.plain import PlainKernel
from dlas.kernels.rows import RowTile
from dlas.kernels.shape import Conv2d
from dlas.kernels.staging import Staging
from dlas.kernels.target import CpuTarget

PANEL_BYTES = 1 << 19
"""A panel of patches and the filters of one row group share the second-level cache."""
GATHERING = 6
"""What a vector of patches costs to gather, in multiply-adds of vectors."""
Buffers = tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer]


class Split(NamedTuple):
    """How the work is cut into jobs."""

    band: int
    """Output rows of a job."""
    parts: int
    """Parts of the output channels, a job each; every part gathers the patches for itself."""


class Place(NamedTuple):
    """What a job computes."""

    n: Expr
    group: Expr
    part: Expr
    row: Expr
    rows: int


@dataclass(frozen=True)
class Gemm(PlainKernel):
    """One dense convolution as a matrix product, NCHW to NCHW."""

    tile: RowTile
    knobs: Knobs = FIXED

    @property
    def depth(self) -> int:
        """Length K of the reduction."""
        return depth(self.op)

    @property
    def split(self) -> Split:
        """Rows of a band and parts of the output channels."""
        fixed = default_split(self.op, self.target, self.threads, self.tile)
        return Split(self.knobs.get("band", fixed.band), self.knobs.get("parts", fixed.parts))

    @property
    def band(self) -> int:
        """Output rows gathered at a time."""
        return self.split.band

    def constants(self, weight: Array, bias: Array | None) -> tuple[Array, ...]:
        """Return the packed filters and bias, in the order of the arguments."""
        packed = rows.pack_weight(self.op, weight, self.tile)
        return packed, rows.pack_bias(self.op, bias, self.tile)

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {
            "kernel": "gemm",
            "tile": asdict(self.tile),
            "patches": "the image" if in_place(self.op) else "gathered",
            **self.split._asdict(),
        }

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [residual], y)."""
        op, tile = self.op, self.tile
        padded = op.groups * rows.row_groups(op, tile) * tile.rows
        inputs = op.batch * op.in_channels * op.height * op.width
        outputs = op.batch * op.out_channels * op.out_height * op.out_width
        staging, slack = Staging(op), self.target.lanes
        function = emit.Function(name)
        with function.body():
            shape = (inputs,) if in_place(op) else (*op.in_shape, 1)
            x = emit.argument("x", shape)
            w = emit.argument("weight", (padded * self.depth,))
            b = emit.argument("bias", (padded,))
            r = emit.argument("residual", (outputs,)) if self.epilogue.residual else None
            y = emit.argument("y", (outputs,))
            source = x
            if not in_place(op):
                source = T.alloc_buffer((staging.size(slack),), "float32")
            band, parts = self.split
            bands = -(-op.out_height // band)
            with T.serial(op.batch) as n:
                if not in_place(op):
                    staging.fill(x, n, source, slack, self.target.lanes, self.threads)
                with emit.outer(op.groups * bands * parts, self.threads) as job:
                    buffers = (source, w, b, r, y)
                    group, at = job // (bands * parts), job // parts % bands * band
                    self._job(buffers, Place(n, group, job % parts, at, band))
        return function.result

    def _job(self, buffers: Buffers, place: Place) -> None:
        full, rest = divmod(self.op.out_height, place.rows)
        if full and rest:
            with T.If(place.row < full * place.rows):
                with T.Then():
                    self._band(buffers, place)
                with T.Else():
                    self._band(buffers, place._replace(rows=rest))
        else:
            self._band(buffers, place)

    def _band(self, buffers: Buffers, place: Place) -> None:
        op, lanes = self.op, self.target.lanes
        pixels = place.rows * op.out_width
        width = -(-pixels // lanes) * lanes
        if in_place(op):
            source, pitch = buffers[0], op.height * op.width
            channel = place.n * op.in_channels + place.group * self.depth
            first = channel * pitch + place.row * op.width
        else:
            source = T.alloc_buffer((self.depth * width + lanes,), "float32")
            pitch, first = width, 0
            goal = (place.group, place.row, place.rows, width)
            gather(Staging(op), buffers[0], source, lanes, goal)
        for run in blocks(pixels, lanes, self.tile.vectors):
            slab = T.alloc_buffer((self.depth * run.vectors * lanes,), "float32")
            with T.serial(run.times) as q:
                start = (run.first + q * run.vectors) * lanes
                self._slab(slab, run, (source, first + start, pitch))
                self._product(slab, run, buffers, place, start)

    def _slab(self, slab: Buffer, run: "Run", source: tuple[Buffer, Expr, int]) -> None:
        """Emit the copy of a block of pixels, its rows one behind the other."""
        lanes, (panel, first, pitch) = self.target.lanes, source
        width = run.vectors * lanes
        # Past the end of a panel there are zeros; past that of an image there is nothing.
        whole = run.pixels // lanes if in_place(self.op) else run.vectors
        with T.serial(self.depth) as k:
            for v in range(whole):
                emit.each_lane(
                    lanes,
                    lambda j, v=v: emit.store(  # type: ignore[misc]
                        slab, panel[first + k * pitch + v * lanes + j], k * width + v * lanes + j
                    ),
                )
            if whole < run.vectors:
                rest, at = run.pixels - whole * lanes, whole * lanes
                with T.serial(rest) as j:
                    emit.store(slab, panel[first + k * pitch + at + j], k * width + at + j)
                with T.serial(lanes - rest) as j:
                    emit.store(slab, T.float32(0), k * width + run.pixels + j)

    def _product(
        self, slab: Buffer, run: "Run", buffers: Buffers, place: Place, start: Expr
    ) -> None:
        """Emit the product of one block of pixels with the filters of the job's part."""
        op, lanes = self.op, self.target.lanes
        tile, width = RowTile(self.tile.rows, run.vectors), run.vectors * lanes
        _, w, bias, residual, y = buffers
        groups, per_out = rows.row_groups(op, tile), op.out_channels // op.groups
        per_part = -(-groups // self.split.parts)
        # A place of its own for each group: LLVM would keep a single one in registers.
        tails = T.alloc_buffer((per_part * tile.rows * lanes,), "float32")
        with T.serial(per_part) as step, T.If(place.part * per_part + step < groups), T.Then():
            g = place.part * per_part + step
            job = place.group * groups + g
            acc = emit.registers((tile.rows, tile.vectors, lanes))
            rows.clear(acc, tile, lanes, bias, job * tile.rows)
            with T.serial(self.depth) as k:
                weights = (w, (job * self.depth + k) * tile.rows)
                rows.multiply_add(acc, tile, lanes, weights, (slab, k * width))
            for o in range(tile.rows):
                channel = place.n * op.out_channels + place.group * per_out + g * tile.rows + o
                to = (channel * op.out_height + place.row) * op.out_width + start
                tail = (tails, (step * tile.rows + o) * lanes)
                with contextlib.ExitStack() as stack:
                    if (
                        groups - 1
                    ) * tile.rows + o >= per_out:  # the last group may have rows in excess
                        stack.enter_context(T.If(g * tile.rows + o < per_out))
                        stack.enter_context(T.Then())
                    rows.finish_row(
                        acc, o, run.pixels, lanes, self.epilogue, (y, residual, to), tail
                    )


def in_place(op: Conv2d) -> bool:
    """Whether the image is the matrix of patches."""
    return op.kernel == (1, 1) and op.stride == (1, 1) and not any(op.padding)


def depth(op: Conv2d) -> int:
    """Return the length K of the reduction."""
    return op.in_channels // op.groups * op.kernel[0] * op.kernel[1]


class Run(NamedTuple):
    """Equal blocks of pixels, one after the other."""

    first: int
    """First vector."""
    times: int
    vectors: int
    pixels: int
    """Pixels of a block that exist."""


def blocks(pixels: int, lanes: int, vectors: int) -> list[Run]:
    """Cut pixels into blocks of so many vectors; the last holds no vector without a pixel."""
    whole, rest = divmod(pixels, vectors * lanes)
    runs = [Run(0, whole, vectors, vectors * lanes)] if whole else []
    return [*runs, Run(whole * vectors, 1, -(-rest // lanes), rest)] if rest else runs


def cost(op: Conv2d, target: CpuTarget, threads: int, tile: RowTile, split: Split) -> float:
    """Return what the longest thread computes, in multiply-adds of vectors a step of K.

    A step's cost is its multiply-adds (eight are needed to hide their latency), one more for each
    vector of patches and a quarter for each filter.
    """
    groups = -(-rows.row_groups(op, tile) // split.parts)

    def band(count: int) -> float:
        total = 0.0
        for run in blocks(count * op.out_width, target.lanes, tile.vectors):
            step = max(tile.rows * run.vectors, 8) + run.vectors + tile.rows / 4
            total += run.times * (groups * step + GATHERING * run.vectors)
        return total

    full, rest = divmod(op.out_height, split.band)
    each = [band(split.band)] * full + ([band(rest)] if rest else [])
    jobs = [cost for cost in each for _ in range(split.parts)] * op.groups
    # The pool gives each thread a run of neighbouring jobs.
    share = -(-len(jobs) // threads)
    return max(sum(jobs[at : at + share]) for at in range(0, len(jobs), share))


@cache
def default_split(op: Conv2d, target: CpuTarget, threads: int, tile: RowTile) -> Split:
    """Return the fixed cut into jobs: the cheapest whose panel fits the cache."""
    most = op.out_height if in_place(op) else panel_rows(op, 1)
    bands = sorted({-(-op.out_height // count) for count in range(1, op.out_height + 1)})
    parts = sorted({1, min(threads, rows.row_groups(op, tile))})
    splits = [Split(band, p) for band in reversed(bands) if band <= most for p in parts]
    return min(splits, key=lambda split: cost(op, target, threads, tile, split))


@cache
def default_tile(op: Conv2d, target: CpuTarget, threads: int) -> RowTile:
    """Return the fixed tile: the cheapest with the cut into jobs that suits it best."""
    per_out = op.out_channels // op.groups
    sums = 24 if target.registers >= 32 else 12
    most = 8 if target.registers >= 32 else 4
    tiles = [RowTile(min(most, sums // v, per_out), v) for v in range(most, 0, -1)]

    def total(tile: RowTile) -> float:
        return cost(op, target, threads, tile, default_split(op, target, threads, tile))

    return min(tiles, key=total)


def panel_rows(op: Conv2d, threads: int) -> int:
    """Return the output rows gathered at a time: what the cache holds, shared by the threads."""
    depth = op.in_channels // op.groups * op.kernel[0] * op.kernel[1]
    most = max(1, PANEL_BYTES // 4 // (depth * op.out_width))
    return min(op.out_height, most, -(-op.out_height // threads))


def gather(
    staging: Staging,
    staged: Buffer,
    panel: Buffer,
    lanes: int,
    goal: tuple[Expr, Expr, int, int],
) -> None:
    """Emit the panel [K, pixels of the band]; each row's overhang is overwritten by the next row.

    Args:
        staging: geometry of the copied image.
        staged: the copied image.
        panel: K * width + lanes floats.
        lanes: floats of a vector.
        goal: group, first output row, number of rows, width of the panel.
    """
    op = staging.op
    group, row, count, width = goal
    per_in = op.in_channels // op.groups
    pixels = count * op.out_width
    with T.serial(per_in * op.kernel[0] * op.kernel[1]) as k, T.serial(width - pixels) as rest:
        # The last block's overhang must hold numbers: denormals by chance would cost time.
        emit.store(panel, T.float32(0), k * width + pixels + rest)
    with (
        T.serial(per_in) as c,
        T.serial(op.kernel[0]) as kh,
        T.serial(op.kernel[1]) as kw,
        T.serial(count) as r,
        T.serial(-(-op.out_width // lanes)) as v,
    ):
        k = (c * op.kernel[0] + kh) * op.kernel[1] + kw
        start = staging.offset(group * per_in + c, kh, kw) + (row + r) * staging.pitch
        to = k * width + r * op.out_width + v * lanes
        emit.each_lane(lanes, lambda j: emit.store(panel, staged[start + v * lanes + j], to + j))
