"""`gemm` for images of a few pixels: output channels in the lanes, filters streamed once.

Under pixels in lanes most of these would be idle, and each number of a filter would be loaded by
itself. Here the patches are gathered first, [K, pixels]; then a job takes a few vectors of output
channels through the whole reduction, as fast as memory delivers filters: every step is a few
vectors of them times the pixels, one broadcast each. Where not all pixels fit in registers the
reduction runs in passes, so that filters are read a second time from the first-level cache.

In int8 an element is four channels, as everywhere: a vector of output channels is stored as
several elements of a pixel. Halves are widened when they are loaded: their bytes take the time.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, pixel_rows, requantize, transpose
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.numbers import FLOAT32, INT8, WIDENED
from dlas.kernels.code.register_tile import equal_segments
from dlas.kernels.code.staging import Staging
from dlas.kernels.convolution import space
from dlas.kernels.convolution.blocked_filters import pack_bias
from dlas.kernels.convolution.contract import Request
from dlas.kernels.convolution.plain import PlainKernel
from dlas.kernels.convolution.product import in_place
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.layout import AnyArray
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

PASS_BYTES = 1 << 15
"""Filters of a pass, where several tiles of pixels read them."""
UNROLLED = 4
"""Steps of the reduction that are written out, at most."""
Buffers = tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer, requantize.StoreScales | None]


@dataclass(frozen=True)
class PixelTile:
    """The register tile: `pixels` times `blocks` vectors of output channels."""

    pixels: int
    blocks: int


def suits(op: Conv2d, target: CpuTarget) -> bool:
    """Whether an image has so few pixels that lanes are better filled by output channels."""
    pixels = op.out_height * op.out_width
    return op.groups == 1 and pixels <= 2 * target.lanes and op.out_channels >= target.lanes


@cache
def default_tile(op: Conv2d, target: CpuTarget, threads: int) -> PixelTile:
    """Return the fixed tile: the cheapest for the thread that computes most.

    A step costs its multiply-adds (eight are needed to hide their latency), half of one for each
    operand that it loads, and one for the loop.
    """
    pixels = op.out_height * op.out_width
    total = -(-op.out_channels // target.lanes)

    def cost(tile: PixelTile) -> float:
        step = 0.0
        for _, count, high in equal_segments(pixels, tile.pixels):
            step += count * (max(tile.blocks * high, 8) + (tile.blocks + high) / 2 + 1)
        jobs = -(-total // tile.blocks)
        return -(-jobs // threads) * step

    most = min(8, total)
    tiles = [PixelTile(min(pixels, target.room(blocks)), blocks) for blocks in range(most, 0, -1)]
    return min(tiles, key=cost)


@dataclass(frozen=True)
class FewPixels(PlainKernel):
    """One dense convolution of a small image as a matrix product, NCHW to NCHW."""

    tile: PixelTile

    @property
    def pixels(self) -> int:
        """Pixels of an output image."""
        return self.op.out_height * self.op.out_width

    @property
    def taps(self) -> int:
        """Numbers of a filter of one channel."""
        return self.op.kernel[0] * self.op.kernel[1]

    @property
    def pitch(self) -> int:
        """Floats of the patches of one channel: a row's overhang is its own."""
        own = self.taps * self.pixels
        return own if in_place(self.op) else own + self.target.lanes

    @property
    def channels(self) -> int:
        """Input channels of a pass: all, where all pixels are in one tile."""
        op = self.reduced
        if self.tile.pixels >= self.pixels:
            return op.in_channels
        step = self.taps * self.tile.blocks * self.target.lanes * 4
        passes = -(-op.in_channels * step // PASS_BYTES)
        return -(-op.in_channels // passes)

    @property
    def groups(self) -> list[tuple[int, int, int]]:
        """Runs of groups of vectors of output channels: first vector, groups, vectors of each."""
        return equal_segments(-(-self.op.out_channels // self.target.lanes), self.tile.blocks)

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return the filters [groups, K, vectors of a group] and the bias, flat, zeros behind."""
        lanes, count = self.target.lanes, self.op.out_channels
        elements = self.numbers.elements(self.op, weight)
        depth = elements[0].size
        padded = np.zeros((-(-count // lanes) * lanes, depth), elements.dtype)
        padded[:count] = elements.reshape(count, depth)
        parts = []
        for first, groups, vectors in self.groups:
            rows = padded[first * lanes : (first + groups * vectors) * lanes]
            parts.append(rows.reshape(groups, vectors * lanes, depth).transpose(0, 2, 1).ravel())
        return np.concatenate(parts), pack_bias(self.op, bias, self.target, self.numbers.sums)

    def scales(self, quantization: Quantization) -> tuple[AnyArray, ...]:
        """Return what the last store of an int8 kernel reads."""
        factors = quantization.factors(self.op.out_channels)
        return pack_bias(self.op, factors, self.target), quantization.parameters()

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {
            "kernel": "gemm",
            "tile": asdict(self.tile),
            "patches": "the image" if in_place(self.op) else "gathered",
            "lanes": "output channels",
            "channels": self.channels,
        }

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        cpu, tile = self.target, self.tile
        fixed = asdict(tile)
        total = -(-self.op.out_channels // cpu.lanes)
        values = {
            "pixels": tuple(range(1, min(self.pixels, space.room(cpu)) + 1)),
            "blocks": space.up_to(min(8, total)),
        }

        def fits(s: Mapping[str, int]) -> bool:
            return space.holds(s["pixels"] * s["blocks"], tile.pixels * tile.blocks, cpu)

        return Space.of(values, fixed, fits)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [factors, parameters], [residual], y)."""
        op, lanes, numbers = self.reduced, self.target.lanes, self.numbers
        padded, kind = -(-op.out_channels // lanes) * lanes, numbers.element
        depth, outputs = op.in_channels * self.taps, op.batch * self.rows_out * self.pixels
        function = emit.Function(name, vectors=True)
        with function.body():
            inputs = op.batch * op.in_channels * op.height * op.width
            x = emit.argument("x", (inputs,) if in_place(op) else (*op.in_shape, 1), kind)
            w = emit.argument("weight", (padded * depth,), numbers.filters)
            b = emit.argument("bias", (padded,), numbers.sums)
            scales = requantize.arguments(padded, self.epilogue, numbers.quantized)
            r = emit.argument("residual", (outputs,), kind) if self.epilogue.residual else None
            y = emit.argument("y", (outputs,), kind)
            patches = x
            if not in_place(op):
                patches = T.alloc_buffer((op.in_channels * self.pitch,), kind)
            with T.serial(op.batch) as n:
                start: Expr = n * op.in_channels * self.pixels
                if not in_place(op):
                    start = 0
                    self._gather(x, patches, n, scales)
                self._groups((patches, w, b, r, y, scales), start, n)
        return function.result

    def _gather(
        self, x: Buffer, patches: Buffer, n: Expr, scales: requantize.StoreScales | None
    ) -> None:
        """Emit the patches of an image, channel by channel; rows overhang, ascending."""
        op, lanes, kind = self.reduced, self.target.lanes, self.numbers.element
        staging = Staging(op, outside=None if scales is None else scales.outside)
        across = -(-op.out_width // lanes)
        with emit.outer(op.in_channels, self.threads) as c:
            size = staging.plane + across * lanes
            staged = T.alloc_buffer((size,), kind)
            staging.channel(x, (n, c, 0), staged, 0, lanes)
            emit.each(
                size - staging.plane,
                lanes,
                lambda j: emit.store(staged, emit.constant(0, kind), staging.plane + j),
            )
            with (
                T.serial(op.kernel[0]) as kh,
                T.serial(op.kernel[1]) as kw,
                T.serial(op.out_height) as row,
                T.serial(across) as v,
            ):
                at = staging.offset(0, kh, kw) + row * staging.pitch + v * lanes
                to = c * self.pitch + (kh * op.kernel[1] + kw) * self.pixels
                to = to + row * op.out_width + v * lanes
                emit.each_lane(lanes, lambda j: emit.store(patches, staged[at + j], to + j))

    def _groups(self, buffers: Buffers, start: Expr, n: Expr) -> None:
        """Emit the jobs of an image: one a group of vectors of output channels."""
        op, lanes = self.op, self.target.lanes
        runs = []
        for first, count, vectors in self.groups:
            present = min(op.out_channels, (first + count * vectors) * lanes) - first * lanes
            whole = present // (vectors * lanes)
            runs += [(first, whole, vectors, vectors * lanes)] if whole else []
            if rest := present - whole * vectors * lanes:
                runs.append((first + whole * vectors, 1, vectors, rest))
        with emit.outer(sum(run[1] for run in runs), self.threads) as job:
            self._one_of(runs, buffers, start, (n, job), 0)

    def _one_of(
        self,
        runs: list[tuple[int, int, int, int]],
        buffers: Buffers,
        start: Expr,
        at: tuple[Expr, Expr],
        before: int,
    ) -> None:
        """Emit the code of the run that the job belongs to; `before`: jobs of earlier runs."""
        (first, count, vectors, present), *others = runs
        n, job = at
        vector = first + (job - before) * vectors
        if not others:
            self._group(buffers, start, (n, vector), (vectors, present))
            return
        with T.If(job < before + count):
            with T.Then():
                self._group(buffers, start, (n, vector), (vectors, present))
            with T.Else():
                self._one_of(others, buffers, start, at, before + count)

    def _group(
        self, buffers: Buffers, start: Expr, at: tuple[Expr, Expr], size: tuple[int, int]
    ) -> None:
        """Emit all sums of some vectors of output channels of an image.

        Args:
            buffers: patches, filters, bias, residual and output.
            start: where the image's patches begin.
            at: the image, and the first vector.
            size: vectors, and output channels in them.
        """
        op, lanes, (n, vector), (vectors, present) = self.reduced, self.target.lanes, at, size
        width, bias = vectors * lanes, buffers[2]
        sums = T.alloc_buffer((self.pixels * width,), self.numbers.sums)
        with T.serial(self.pixels) as p, T.unroll(vectors) as v:
            emit.each_lane(
                lanes,
                lambda j: emit.store(
                    sums, bias[(vector + v) * lanes + j], p * width + v * lanes + j
                ),
            )
        whole, rest = divmod(op.in_channels, self.channels)
        with T.serial(whole) as turn:
            self._pass(
                buffers, sums, start, (vector, turn * self.channels), (vectors, self.channels)
            )
        if rest:
            self._pass(buffers, sums, start, (vector, whole * self.channels), (vectors, rest))
        if buffers[5] is not None:
            self._finish_quads(sums, buffers, (n, vector), (vectors, present))
            return
        run = sums
        if self.pixels > 1:
            run = T.alloc_buffer((self.pixels * width,), "float32")
            transpose.matrix(sums, run, (self.pixels, width))
        to = (n * op.out_channels + vector * lanes) * self.pixels
        pixel_rows.finish(
            run, 0, present * self.pixels, lanes, self.epilogue, (buffers[4], buffers[3], to)
        )

    def _finish_quads(
        self, sums: Buffer, buffers: Buffers, at: tuple[Expr, Expr], size: tuple[int, int]
    ) -> None:
        """Emit the last store in int8: a vector is some elements of a pixel; see `_group`."""
        (_, _, _, residual, y, scales), (n, vector), (vectors, present) = buffers, at, size
        lanes, each = self.target.lanes, self.numbers.group
        assert scales is not None
        every, quads = T.Ramp(T.int32(0), 1, lanes), lanes // each
        room = emit.registers((quads,), "int32")
        whole, kind = (
            (T.Ramp(T.int32(0), 1, quads), f"int32x{quads}") if quads > 1 else (0, "int32")
        )
        first = n * self.rows_out + vector * quads
        with T.serial(self.pixels) as p:
            for v in range(-(-present // lanes)):
                here = [
                    (first + v * quads + q) * self.pixels + p
                    for q in range(min(quads, -(-(present - v * lanes) // each)))
                ]
                other = None
                if residual is not None:
                    for q, place in enumerate(here):
                        emit.store(room, residual[place], q)
                    other = T.reinterpret(f"uint8x{lanes}", room[whole])
                total = sums[(p * vectors + v) * lanes + every]
                channel = (vector + v) * lanes + every
                value = scales.store(total, channel, other, self.epilogue.other_first, self.target)
                emit.store(room, T.reinterpret(kind, T.Cast(f"uint8x{lanes}", value)), whole)
                for q, place in enumerate(here):
                    emit.store(y, room[q], place)

    def _pass(
        self,
        buffers: Buffers,
        sums: Buffer,
        start: Expr,
        at: tuple[Expr, Expr],
        size: tuple[int, int],
    ) -> None:
        """Emit sums += filters * patches for some input channels; see `_group`."""
        (vector, channel), (vectors, channels) = at, size
        tall = self.tile.pixels
        for first, count, pixels in equal_segments(self.pixels, tall):
            with T.serial(count) as turn:
                place = start + channel * self.pitch + first + turn * pixels
                filters = (vector * self.reduced.in_channels + channel * vectors) * self.taps
                self._tile(
                    (buffers[0], place), (buffers[1], filters * self.target.lanes), sums,
                    (first + turn * pixels, pixels), (vectors, channels), first == 0,
                )  # fmt: skip

    def _tile(
        self,
        patches: tuple[Buffer, Expr],
        filters: tuple[Buffer, Expr],
        sums: Buffer,
        pixels: tuple[Expr, int],
        size: tuple[int, int],
        ahead: bool,
    ) -> None:
        """Emit one tile of pixels through some input channels.

        Args:
            patches: them, and where the first lies.
            filters: them, and where the first lies.
            sums: what there is, and what there will be.
            pixels: the first, and how many.
            size: vectors of output channels, and input channels.
            ahead: whether this tile fetches filters ahead.
        """
        lanes, (first, count), (vectors, channels) = self.target.lanes, pixels, size
        width, (x, at), (w, start) = vectors * lanes, patches, filters
        acc = emit.registers((count, vectors, lanes), self.numbers.sums)

        def move(back: bool) -> None:
            with T.unroll(count) as p, T.unroll(vectors) as v:
                to = (first + p) * width + v * lanes
                if back:
                    emit.each_lane(lanes, lambda j: emit.store(sums, acc[p, v, j], to + j))
                else:
                    emit.each_lane(lanes, lambda j: emit.store(acc, sums[to + j], p, v, j))

        def step(c: Expr, tap: Expr) -> None:
            here = start + (c * self.taps + tap) * width
            if ahead and emit.itemsize(w) * int(w.shape[0]) >= emit.FETCHED_BYTES:
                emit.prefetch(w, here + emit.AHEAD_BYTES // emit.itemsize(w), width)
            with T.unroll(count) as p, T.unroll(vectors) as v:
                patch = at + c * self.pitch + tap * self.pixels + p
                factors = (lambda _: x[patch], lambda j: w[here + v * lanes + j])
                self.numbers.multiply_add(acc, (p, v), self.target, factors)

        move(back=False)
        if self.taps == 1:
            unrolled = math.gcd(channels, UNROLLED)
            with T.serial(channels // unrolled) as c, T.unroll(unrolled) as i:
                step(c * unrolled + i, 0)
        else:
            across = self.op.kernel[1]
            unrolled = across if across <= UNROLLED else 1
            with (
                T.serial(channels) as c,
                T.serial(self.taps // unrolled) as turn,
                T.unroll(unrolled) as i,
            ):
                step(c, turn * unrolled + i)
        move(back=True)


def few_pixels(op: Conv2d, r: Request, dtype: str = "float32") -> FewPixels:
    """Return the kernel of a convolution for which `suits` holds, its filters stored in a type."""
    fixed = asdict(default_tile(op, r.target, r.threads))
    tile = PixelTile(**{name: r.knobs.get(name, value) for name, value in fixed.items()})
    numbers = {FLOAT32.name: FLOAT32, INT8.name: INT8, **WIDENED}[dtype]
    return FewPixels(op, r.target, r.threads, r.epilogue, tile, numbers=numbers)
