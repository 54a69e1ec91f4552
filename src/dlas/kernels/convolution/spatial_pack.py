"""`spatial-pack`: convolution on blocked channels with a register tile.

Activations are [C/b, H, W, b] with their halo in place (b = C is channels-last), filters
[O/b.., I/b, kh, kw, b_in, b_out]. A tile of `columns` pixels times `blocks` vectors of output
channels stays in registers while the reduction runs over it; every step is one broadcast pixel
times one vector of filters. Where filters larger than 1x1 exceed the first-level cache, the
reduction runs in passes over a few input blocks each, all tiles of a band of rows to a pass, so
that they are read from that cache. The name is TVM's; the blocked layout follows Liu et al.,
"Optimizing CNN Model Inference on CPUs" (USENIX ATC 2019).

In int8 an element is four channels (see `numbers`): `op` is the convolution that is computed,
`reduced` the one over elements, by which the reduction is written.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import amx, emit, half_images, requantize
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.half_images import WIDE, Images
from dlas.kernels.code.numbers import FLOAT32, Numbers
from dlas.kernels.code.register_tile import Tile, default_tile, segments
from dlas.kernels.code.walk import Channels, channels
from dlas.kernels.convolution import arithmetic, depthwise_bytes, half_sums, space, tiled
from dlas.kernels.convolution.blocked_filters import pack_bias, pack_weight
from dlas.kernels.convolution.blocked_store import BlockedStore, declared
from dlas.kernels.convolution.contract import Kernel, Primitive, Request, narrowed
from dlas.kernels.convolution.depthwise import Depthwise, default_columns
from dlas.kernels.convolution.depthwise_bytes import DepthwiseBytes
from dlas.kernels.convolution.space import Space
from dlas.kernels.convolution.tile_runs import TileRuns, runs_of
from dlas.kernels.convolution.tiled import TiledBand
from dlas.kernels.ground import types
from dlas.kernels.ground.layout import AnyArray, Layout
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

MOST_AHEAD_BYTES = 1 << 17
"""Filters fetched further ahead would leave the second-level cache before they are used."""
UNROLLED = 4
"""Steps of the reduction that are written out."""
NARROW_VECTORS = 2
"""Vectors of outputs in a tile of int8: filters are read for as many pixels as fit."""


@dataclass(frozen=True)
class SpatialPack:
    """One dense convolution by `spatial-pack`."""

    op: Conv2d
    target: CpuTarget
    threads: int
    inp: Layout
    out: Layout
    epilogue: Epilogue
    tile: Tile
    numbers: Numbers = FLOAT32
    images: Images = WIDE

    @property
    def reduced(self) -> Conv2d:
        """The convolution whose reduction is written: over elements, or rows of taps."""
        return tiled.multiplied(self.numbers, self.op)

    @property
    def block(self) -> int:
        """Input channels of the written convolution that lie side by side."""
        return amx.SIDE if self.numbers.taps else self.read.block

    @property
    def read(self) -> Layout:
        """Layout of the input's elements."""
        return self.numbers.layout(self.inp)

    @property
    def chunks(self) -> int:
        """Parts of the rows, one a thread; 1: threads share the output channels.

        What an image's rows are computed from was mostly written by the same thread in the layer
        before, so that it lies in that core's cache; but each thread reads all filters. These are
        shared where they are more than twice as large as the image.
        """
        op = self.op
        filters = math.prod(op.weight_shape)
        equal = op.out_height % self.threads == 0
        return self.threads if equal and filters <= 2 * math.prod(op.in_shape) else 1

    @property
    def runs(self) -> TileRuns:
        """How pixels are cut into tiles for AMX."""
        height = self.tile.rows * self.tile.band
        heights = {high for *_, high in segments(self.op.out_height // self.chunks, height)}
        wide = self.inp.halo[1] + self.op.width + self.inp.halo[3]
        return runs_of(self.reduced, wide, heights)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [factors, parameters], [residual], y)."""
        op, lanes, numbers = self.reduced, self.target.lanes, self.numbers
        walk = channels(op, self.block, lanes)
        total = -(-op.out_channels // lanes)
        size = total * lanes * walk.outer * walk.inner * op.kernel[0] * op.kernel[1]
        function = emit.Function(name, numbers.group > 1 or self.images.narrow)
        stored = self.images.or_bytes(numbers.quantized)
        with function.body():
            x = numbers.argument(self.op, self.inp, stored.x)
            w = emit.argument("weight", (size,), numbers.filters)
            b = emit.argument("bias", (total * lanes,), numbers.sums)
            q = requantize.arguments(total * lanes, self.epilogue, numbers.quantized)
            r, y = declared(op, self.out, self.epilogue, stored)
            words = half_images.rounding(self.target, WIDE if numbers.paired else self.images)
            with words, numbers.image(x, self.op, self.inp, self.target, self.threads) as image:
                for first, count, blocks in segments(total, self.tile.blocks):
                    _Part(self, walk, (image, w, b, r, y), q, first, count, blocks).emit()
        return function.result

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return the packed filters and the padded bias, in the order of the arguments."""
        filters = tiled.in_rows(self.numbers, self.numbers.elements(self.op, weight))
        packed = pack_weight(self.reduced, filters, self.block, self.tile, self.target)
        return packed, pack_bias(self.op, bias, self.target, self.numbers.sums)

    def scales(self, quantization: Quantization) -> tuple[AnyArray, ...]:
        """Return what the last store of an int8 kernel reads."""
        factors = quantization.factors(self.op.out_channels)
        return pack_bias(self.op, factors, self.target), quantization.parameters()

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        shared = "rows" if self.chunks > 1 else "channels"
        kernel = "spatial-pack by AMX" if self.numbers.tiled else "spatial-pack"
        said = {"kernel": kernel, "tile": asdict(self.tile), "threads_share": shared}
        more = {"rows_of_tiles": "taps"} if self.numbers.taps else {}
        return said | (more | {"sums": half_sums.SAID} if self.numbers.passing else more)

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        if self.numbers.tiled:
            return tiled.tiles(self.op, self.tile)
        op, walk = self.reduced, channels(self.reduced, self.block, self.target.lanes)
        most = half_sums.most_depth(op, walk) if self.numbers.passing else None
        return space.tiles(op, self.target, self.tile, walk, most)


Place = tuple[Expr, Expr, Expr]
"""Image, group of output blocks, and a first row (of a pass: a first input block)."""


@dataclass(frozen=True)
class _Part:
    """The loops over one run of equally wide groups of output blocks."""

    plan: SpatialPack
    walk: Channels
    buffers: tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer]
    scales: requantize.StoreScales | None
    first: int
    count: int
    blocks: int

    @property
    def store(self) -> BlockedStore:
        """The last store."""
        plan, (_, _, _, residual, y) = self.plan, self.buffers
        channels_out, blocks = plan.op.out_channels, plan.tile.blocks
        even = blocks % 2 == 0 or blocks * plan.target.lanes >= channels_out
        return BlockedStore(
            plan.target, channels_out, plan.out, plan.epilogue, residual, y, self.scales,
            even,
        )  # fmt: skip

    @property
    def _tiles(self) -> TiledBand:
        """What computes a band by AMX."""
        plan = self.plan
        return TiledBand(
            plan.reduced, plan.read, self.walk, plan.numbers, self.buffers[:3], self.first,
            self.blocks, self.store, plan.op.out_height // plan.chunks, plan.runs,
        )  # fmt: skip

    def emit(self) -> None:
        """Emit the part: a job is a band of one group of outputs, or all of a chunk of rows."""
        op, chunks = self.plan.op, self.plan.chunks
        rows = self.plan.runs.rows if self.plan.numbers.tiled else 0
        jobs = partial(amx.jobs, threads=self.plan.threads, rows=rows)
        height = self.plan.tile.rows * self.plan.tile.band
        if chunks > 1:
            share = op.out_height // chunks
            with jobs(op.batch * chunks) as job, T.serial(self.count) as group:
                for first, count, high in segments(share, height):
                    with T.serial(count) as turn:
                        row = job % chunks * share + first + turn * high
                        self._band((job // chunks, group, row), high)
            return
        bands = -(-op.out_height // height)
        with jobs(op.batch * self.count * bands) as job:
            n, group, band = job // (self.count * bands), job // bands % self.count, job % bands
            full, rest = divmod(op.out_height, height)
            if full and rest:
                with T.If(band < full):
                    with T.Then():
                        self._band((n, group, band * height), height)
                    with T.Else():
                        self._band((n, group, band * height), rest)
            else:
                self._band((n, group, band * height), height if full else rest)

    @property
    def depth(self) -> int:
        """Input blocks of one pass."""
        return self.plan.tile.depth or self.walk.outer

    def _band(self, where: Place, rows: int) -> None:
        """Emit `rows` whole rows of one group of output blocks."""
        op, y, out = self.plan.op, self.buffers[4], self.plan.out
        n, group, row = where
        if self.plan.numbers.tiled:
            scales = None if self.scales is None else self.scales.held()
            replace(self, scales=scales)._tiles.emit(where, rows)
        elif self.depth == self.walk.outer and not self.plan.numbers.passing:
            self._each_tile(rows, lambda *tile: self._whole_tile(where, *tile))
        else:
            self._passes(where, rows)
        if any(out.halo):
            vectors, size = out.block // self.plan.target.lanes, (op.out_height, op.out_width)
            fill = requantize.fill(self.scales)
            with T.serial(self.blocks) as o, T.serial(rows) as r:
                block = self.first + group * self.blocks + o
                with emit.condition(True if vectors == 1 else block % vectors == 0):
                    emit.zero_halo(y, n, block // vectors, row + r, size, out, fill)

    def _each_tile(self, rows: int, body: Callable[[Expr, Expr, int, int], None]) -> None:
        """Emit body(row, column, rows, columns) for the tiles of a band."""
        tile = self.plan.tile
        for first_row, row_count, high in segments(rows, tile.rows):
            for first, count, wide in segments(self.plan.op.out_width, tile.columns):
                with T.serial(row_count) as i, T.serial(count) as j:
                    body(first_row + i * high, first + j * wide, high, wide)

    def _passes(self, where: Place, rows: int) -> None:
        """Emit a band whose sums wait in memory between passes over the input channels."""
        width, lanes = self.plan.op.out_width, self.plan.target.lanes
        n, group, row = where
        co = self.first + group * self.blocks
        bias = self.buffers[2]
        sums = T.alloc_buffer((rows * width * self.blocks * lanes,), self.plan.numbers.sums)

        def at(pixel: Expr, o: Expr) -> Expr:
            return (pixel * self.blocks + o) * lanes

        with T.serial(rows * width) as p, T.unroll(self.blocks) as o:
            emit.each_lane(
                lanes, lambda j: emit.store(sums, bias[(co + o) * lanes + j], at(p, o) + j)
            )

        def one_pass(step: Expr, r: Expr, c: Expr, high: int, wide: int) -> None:
            sharing = (r * width + c * high, rows * width)
            if self.plan.numbers.passing:
                acc = half_sums.registers(high * wide, self.blocks, lanes)
                self._reduce(acc, (n, group, step * self.depth), (row + r, c), wide, sharing)
                with T.unroll(high) as i, T.unroll(wide) as k:
                    here = at((r + i) * width + c + k, 0)
                    half_sums.add(acc, i * wide + k, lanes, sums, here)
                return
            acc = emit.registers((high * wide, self.blocks, lanes), self.plan.numbers.sums)

            def move(store: Callable[[Expr, Expr, Expr, Expr], None]) -> None:
                with T.unroll(high) as i, T.unroll(wide) as k, T.unroll(self.blocks) as o:
                    here = at((r + i) * width + c + k, o)
                    emit.each_lane(lanes, lambda j: store(i * wide + k, o, j, here + j))

            move(lambda p, o, j, here: emit.store(acc, sums[here], p, o, j))
            self._reduce(acc, (n, group, step * self.depth), (row + r, c), wide, sharing)
            move(lambda p, o, j, here: emit.store(sums, acc[p, o, j], here))

        with T.serial(self.walk.outer // self.depth) as step:
            self._each_tile(rows, lambda *tile: one_pass(step, *tile))
        self.store.band(
            (rows, width, self.blocks), lambda r, c, o, j: sums[at(r * width + c, o) + j],
            (n, co, row, 0),
        )  # fmt: skip

    def _whole_tile(self, where: Place, r: Expr, col: Expr, rows: int, columns: int) -> None:
        lanes = self.plan.target.lanes
        n, group, row = where
        co = self.first + group * self.blocks
        acc = emit.registers((rows * columns, self.blocks, lanes), self.plan.numbers.sums)
        bias = self.buffers[2]

        with T.unroll(rows * columns) as p, T.unroll(self.blocks) as o:
            emit.each_lane(lanes, lambda j: emit.store(acc, bias[(co + o) * lanes + j], p, o, j))
        width = self.plan.op.out_width
        share = self.plan.op.out_height // self.plan.chunks
        done = ((row + r) % share if self.plan.chunks > 1 else row + r) * width + col * rows
        self._reduce(acc, (n, group, 0), (row + r, col), columns, (done, share * width))
        self.store.tile(
            (rows, columns, self.blocks), lambda i, c, o, j: acc[i * columns + c, o, j],
            (n, co, row + r, col),
        )  # fmt: skip

    def _reduce(
        self,
        acc: Buffer,
        where: Place,
        at: tuple[Expr, Expr],
        columns: int,
        sharing: tuple[Expr, int],
    ) -> None:
        """Emit one pass over a tile; `where` ends with the pass's first input block.

        `sharing`: of the pixels that share the pass's filters, how many come before; all.
        """
        n, group, first_in = where
        op, inp, walk, lanes = self.plan.reduced, self.plan.read, self.walk, self.plan.target.lanes
        x, w = self.buffers[0], self.buffers[1]
        kernel_h, kernel_w = op.kernel
        vectors = kernel_h * kernel_w * walk.inner
        base = self.first * walk.outer * vectors * lanes
        co = self.first + group * self.blocks
        # The halo that the layout carries may be wider than this operator's padding.
        up, side = inp.halo[0] - op.padding[0], inp.halo[1] - op.padding[1]
        pixels = int(acc.shape[0])
        # Written out, steps of a tile that does not fit spill many more sums than one step.
        each = half_sums.WIDE if self.plan.numbers.passing else 1
        held = (pixels + 1) * -(-self.blocks // each) + 1
        unrolled = 1 if held > self.plan.target.registers else math.gcd(walk.inner, UNROLLED)
        with (
            T.serial(self.depth) as step_in,
            T.serial(kernel_h) as kh,
            T.serial(kernel_w) as kw,
            T.serial(walk.inner // unrolled) as turn,
            T.unroll(unrolled) as i,
        ):
            ii = turn * unrolled + i
            ci = first_in + step_in
            block, lane = walk.index(op, lanes, inp.block, co, ci)
            step = ((group * walk.outer + ci) * kernel_h + kh) * kernel_w + kw
            start = base + (step * walk.inner + ii) * self.blocks * lanes
            if emit.itemsize(w) * int(w.shape[0]) >= emit.FETCHED_BYTES:
                turn_in_pass = ((step_in * kernel_h + kh) * kernel_w + kw) * walk.inner + ii
                self._fetch(w, start, turn_in_pass, pixels, sharing)

            def pixel(p: Expr) -> Expr:
                h = up + (at[0] + p // columns) * op.stride[0] + kh * op.dilation[0]
                v = side + (at[1] + p % columns) * op.stride[1] + kw * op.dilation[1]
                return half_images.wide(x[n, block, h, v, lane + ii])

            if self.plan.numbers.passing:
                half_sums.multiply_add(acc, lanes, pixel, lambda j: w[start + j])
                return
            with T.unroll(pixels) as p, T.unroll(self.blocks) as o:
                factors = (lambda _: pixel(p), lambda j: w[start + o * lanes + j])
                self.plan.numbers.multiply_add(acc, (p, o), self.plan.target, factors)

    def _fetch(
        self, w: Buffer, start: Expr, turn: Expr, pixels: int, sharing: tuple[Expr, int]
    ) -> None:
        """Emit what a step of a tile fetches ahead: its share of the next pass's filters.

        Every tile fetches a part, in proportion to its pixels: memory is never waited for, and
        never idle.
        """
        op, lanes, (done, every) = self.plan.op, self.plan.target.lanes, sharing
        steps = self.depth * op.kernel[0] * op.kernel[1] * self.walk.inner
        size, each = steps * self.blocks * lanes, emit.itemsize(w)
        first, count = start + emit.AHEAD_BYTES // each, self.blocks
        if every > pixels and each * size <= MOST_AHEAD_BYTES:
            share = (done * steps + turn * pixels) * self.blocks // every
            first = start - turn * self.blocks * lanes + size + share * lanes
            count = -(-self.blocks * pixels // every)
        emit.prefetch(w, first, count * lanes)


def _lower(op: Conv2d, r: Request, dtype: str = "float32") -> Kernel:
    numbers, own = arithmetic.chosen(dtype, op, r.target, r.inp)
    common = (op, r.target, r.threads, r.inp, r.out, r.epilogue)
    if op.depthwise:
        columns = r.knobs.get("columns", default_columns(op, r.target))
        if dtype == "int8" and depthwise_bytes.fitting(r.target, r.inp, r.out, r.epilogue):
            return DepthwiseBytes(*common, columns)
        return Depthwise(*common, columns, numbers, r.images)
    how = () if numbers.group == 1 else (numbers.layout(r.inp).block, NARROW_VECTORS)
    fixed = own or default_tile(numbers.reduced(op), r.target, *how)
    tile = Tile(*(r.knobs.get(name, value) for name, value in asdict(fixed).items()))
    return SpatialPack(*common, tile, numbers, r.images)


PRIMITIVE = Primitive("spatial-pack", "dense", arithmetic.needs, arithmetic.block, _lower)
NARROW = tuple(
    replace(each, halves=each.dtype == "bfloat16")
    for each in narrowed(PRIMITIVE, arithmetic.needs, _lower, types.NARROW, arithmetic.block)
)
