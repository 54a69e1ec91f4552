"""`gemm`: convolution as a matrix product, filters [O, K] times patches [K, pixels].

The matrix of patches (im2col) is never built whole. The reduction runs in passes over a few input
channels each; in a pass one block of pixels after the other is gathered into a slab that stays in
the first-level cache while all filters of the pass go over it, and the sums wait in memory until
the next pass. The filters of a pass stay in the second-level cache, and filters are read once a
job (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 2008).
Where filters are 1x1, without stride and padding, the image is the matrix, and slabs are taken
from it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, pixel_rows, requantize
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.numbers import numbers_of
from dlas.kernels.code.pixel_rows import RowTile
from dlas.kernels.code.staging import Staging
from dlas.kernels.convolution import compact, few_pixels, space
from dlas.kernels.convolution.contract import Kernel, Request
from dlas.kernels.convolution.plain import PlainKernel, nchw_primitive
from dlas.kernels.convolution.product import (
    Buffers,
    Pass,
    Place,
    Product,
    Slabs,
    blocks,
    depth,
    in_place,
)
from dlas.kernels.convolution.space import Space
from dlas.kernels.convolution.whole_window import WholeWindow, is_whole_window
from dlas.kernels.ground import types
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import AnyArray
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

PANEL_BYTES = 1 << 19
"""A panel of patches that is gathered whole (CSR filters): what a second-level cache holds."""
SLAB_BYTES = 20_000
"""The slab of one pass: less than half of a first-level cache."""
SUMS_BYTES = 1 << 20
"""Sums that wait between passes, of one job."""
GATHERING = 5
"""What a vector of patches costs to gather, in multiply-adds of vectors."""


class Split(NamedTuple):
    """How the work is cut into jobs."""

    band: int
    """Output rows of a job."""
    parts: int
    """Parts of the output channels, a job each; every part gathers the patches for itself."""


@dataclass(frozen=True)
class Gemm(PlainKernel):
    """One dense convolution as a matrix product, NCHW to NCHW."""

    tile: RowTile
    knobs: Knobs = FIXED

    @property
    def split(self) -> Split:
        """Rows of a band and parts of the output channels."""
        fixed = default_split(self.reduced, self.target, self.threads, self.tile)
        return Split(self.knobs.get("band", fixed.band), self.knobs.get("parts", fixed.parts))

    @property
    def channels(self) -> int:
        """Input channels (elements of them) of a pass."""
        op = self.reduced
        fixed = pass_channels(op, self.target, self.tile)
        return min(op.in_channels // op.groups, self.knobs.get("channels", fixed))

    @property
    def per_part(self) -> int:
        """Row groups of a part."""
        return -(-pixel_rows.row_groups(self.reduced, self.tile) // self.split.parts)

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return the filters and the bias, flat, in the order in which they are read.

        Filters: groups, passes, row groups, K of a pass, rows.
        """
        op, each = self.reduced, self.channels
        weight = self.numbers.elements(self.op, weight)
        per_in = op.in_channels // op.groups
        packed = np.concatenate(
            [
                pixel_rows.pack_weight(op, weight[:, at : at + each], self.tile).reshape(
                    op.groups, -1
                )
                for at in range(0, per_in, each)
            ],
            axis=1,
        )
        padded = pixel_rows.pack_bias(op, bias, self.tile, self.numbers.sums)
        return packed.reshape(-1), padded

    def scales(self, quantization: Quantization) -> tuple[AnyArray, ...]:
        """Return what the last store of an int8 kernel reads."""
        factors = quantization.factors(self.op.out_channels)
        packed = pixel_rows.pack_bias(self.reduced, factors, self.tile)
        return packed, quantization.parameters()

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {
            "kernel": "gemm",
            "tile": asdict(self.tile),
            "patches": "the image" if in_place(self.reduced) else "gathered",
            **self.split._asdict(),
            "channels": self.channels,
        }

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        op, cpu = self.reduced, self.target
        tile, split = self.tile, self.split
        fixed = {
            "rows": tile.rows,
            "vectors": tile.vectors,
            "band": split.band,
            "parts": split.parts,
            "channels": self.channels,
        }
        values = {
            **space.row_values(op, self.numbers.block),
            "band": space.up_to(op.out_height),
            "parts": (1, 2, 4) if self.threads > 1 else (1,),
            "channels": space.up_to(op.in_channels // op.groups, space.CHANNELS),
        }

        def fits(s: Mapping[str, int]) -> bool:
            panel = s["band"] * op.out_width * op.out_channels
            return space.rows_fit(s, fixed, cpu) and panel <= space.PANEL_FLOATS

        return Space.of(values, fixed, fits)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [factors, parameters], [residual], y)."""
        op, tile, numbers = self.reduced, self.tile, self.numbers
        kind, seen = numbers.written, self.op
        if in_place(op):
            seen = replace(seen, height=1, width=op.height * op.width)
        padded = op.groups * pixel_rows.row_groups(op, tile) * tile.rows
        inputs = op.batch * op.in_channels * op.height * op.width
        outputs = op.batch * self.rows_out * op.out_height * op.out_width
        function = emit.Function(name, numbers.group > 1)
        with function.body():
            if in_place(op) and not numbers.paired:
                x = emit.argument("x", (inputs,), numbers.element)
            else:
                x = numbers.argument(seen, self.inp)
            w = emit.argument("weight", (padded * depth(op),), numbers.filters)
            b = emit.argument("bias", (padded,), numbers.sums)
            scales = requantize.arguments(padded, self.epilogue, numbers.quantized)
            r = emit.argument("residual", (outputs,), kind) if self.epilogue.residual else None
            y = emit.argument("y", (outputs,), kind)
            band, parts = self.split
            bands = -(-op.out_height // band)
            each = op.groups * bands * parts
            with (
                numbers.image(x, seen, self.inp, self.target, self.threads) as image,
                emit.outer(op.batch * each, self.threads) as job,
            ):
                group, at = job % each // (bands * parts), job // parts % bands * band
                place = Place(job // each, group, job % parts, at, band)
                self._job((image, w, b, r, y), scales, place)
        return function.result

    def _job(self, buffers: Buffers, scales: requantize.StoreScales | None, place: Place) -> None:
        full, rest = divmod(self.op.out_height, place.rows)
        if full and rest:
            with T.If(place.row < full * place.rows):
                with T.Then():
                    self._band(buffers, scales, place)
                with T.Else():
                    self._band(buffers, scales, place._replace(rows=rest))
        else:
            self._band(buffers, scales, place)

    def _band(self, buffers: Buffers, scales: requantize.StoreScales | None, place: Place) -> None:
        op, lanes, kind = self.reduced, self.target.lanes, self.numbers.element
        taps, each = op.kernel[0] * op.kernel[1], self.channels
        pixels = place.rows * op.out_width
        runs = blocks(pixels, lanes, self.tile.vectors)
        size = each * taps * runs[0].vectors * lanes
        slab = T.alloc_buffer((size + lanes,), kind)  # a row's overhang goes past the end
        staged = None
        if not in_place(op):
            staged = T.alloc_buffer((each * Staging(op, place.rows).plane + lanes,), kind)
        whole, rest = divmod(op.in_channels // op.groups, each)
        passes = whole + (rest > 0)
        waiting = -(-pixels // lanes) * lanes * self.per_part * self.tile.rows
        sums = T.alloc_buffer((waiting,), self.numbers.sums) if passes > 1 else None
        tails = None
        if scales is None:
            tails = T.alloc_buffer((self.per_part * self.tile.rows * lanes,), "float32")
        filters = None
        if self.numbers.widening:
            filters = T.alloc_buffer((each * taps * self.tile.rows,), self.numbers.sums)
        memory = Slabs(staged, slab, sums, tails, filters)
        product = Product(
            op, self.target, self.tile, self.per_part, self.epilogue, buffers, place, memory,
            self.numbers, scales,
        )  # fmt: skip

        def one(first: Expr, channels: int, turn: Expr) -> None:
            some = Pass(first, channels)
            product.stage(some)
            for run in runs:
                with T.serial(run.times) as q:
                    start = (run.first + q * run.vectors) * lanes
                    product.fill(run, some, start)
                    product.multiply(run, some, start, (turn, passes))

        with T.serial(whole) as turn:
            one(turn * each, each, turn)
        if rest:
            one(whole * each, rest, whole)


def pass_channels(op: Conv2d, target: CpuTarget, tile: RowTile) -> int:
    """Return the input channels of a pass: about as many as fill a slab, in equal passes."""
    step = op.kernel[0] * op.kernel[1] * tile.vectors * target.lanes * 4
    most = max(1, SLAB_BYTES // step)
    per_in = op.in_channels // op.groups
    return -(-per_in // -(-per_in // most))


def cost(op: Conv2d, target: CpuTarget, threads: int, tile: RowTile, split: Split) -> float:
    """Return what the longest thread computes, in multiply-adds of vectors a step of K.

    A step's cost is its multiply-adds (eight are needed to hide their latency), one more for each
    vector of patches and a quarter for each filter.
    """
    groups = -(-pixel_rows.row_groups(op, tile) // split.parts)

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
    """Return the fixed cut into jobs: the cheapest whose sums fit the cache."""
    groups = pixel_rows.row_groups(op, tile)
    several = pass_channels(op, target, tile) < op.in_channels // op.groups
    bands = sorted({-(-op.out_height // count) for count in range(1, op.out_height + 1)})

    def fits(split: Split) -> bool:
        each = -(-groups // split.parts) * tile.rows * split.band * op.out_width * 4
        return split.band == 1 or not several or each <= SUMS_BYTES

    parts = sorted({1, min(threads, groups)})
    splits = [Split(band, p) for band in reversed(bands) for p in parts]
    fitting = [split for split in splits if fits(split)]
    return min(fitting, key=lambda split: cost(op, target, threads, tile, split))


@cache
def default_tile(op: Conv2d, target: CpuTarget, threads: int, group: int = 1) -> RowTile:
    """Return the fixed tile: the cheapest with the cut into jobs that suits it best.

    Rows are a multiple of `group`, the channels that are stored together.
    """
    per_out = op.out_channels // op.groups
    sums = 24 if target.registers >= 32 else 12
    most = 8 if target.registers >= 32 else 4
    rows = {
        v: pixel_rows.whole_rows(min(most, sums // v, per_out), group) for v in range(1, most + 1)
    }
    tiles = [RowTile(rows[v], v) for v in range(most, 0, -1) if rows[v] * v <= sums + 4]

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
    with T.serial(per_in * op.kernel[0] * op.kernel[1]) as k, T.serial(width - pixels) as rest:
        # Last, for rows overhang: denormals by chance would cost several times the product.
        emit.store(panel, emit.constant(0, staging.dtype), k * width + pixels + rest)


def _lower(op: Conv2d, r: Request, dtype: str = "float32") -> Kernel:
    numbers = numbers_of(dtype, op, r.target)
    # The row that a linear layer writes is the image only if it is all, or of whole elements.
    rows = op.batch == 1 or op.out_channels % numbers.block == 0
    if is_whole_window(op) and rows:
        whole = WholeWindow(op, r.target, r.threads, r.epilogue, r.knobs, numbers=numbers)
        # It multiplies as the linear layer does, which may have more to choose from.
        return replace(whole, numbers=whole.product.numbers)
    if few_pixels.suits(op, r.target):
        return few_pixels.few_pixels(op, r, dtype)
    if dtype == "float32" and compact.suits(op, r.target):
        return compact.Compact(op, r.target, r.threads, r.epilogue)
    fixed = default_tile(numbers.reduced(op), r.target, r.threads, numbers.block)
    tile = pixel_rows.with_knobs(fixed, r.knobs)
    return Gemm(op, r.target, r.threads, r.epilogue, tile, r.knobs, numbers=numbers)


PRIMITIVE = nchw_primitive("gemm", _lower)
NARROW = tuple(
    nchw_primitive("gemm", partial(_lower, dtype=dtype), dtype=dtype) for dtype in types.NARROW
)
