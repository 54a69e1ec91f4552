"""Depthwise convolution in int8 by VNNI on blocks of 64 channels, as AMX's tiles need them.

The 64 bytes of up to four rows of a column of pixels are interleaved (two rounds of unpacking,
within quarters of a vector), so that each int32 holds a column of taps for one channel; vector i
of the four that come of it holds channels 4i to 4i + 3 of each quarter. What is joined of a column
serves all pixels of a row that see it. The last store's packing undoes the order.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, requantize
from dlas.kernels.code.dot import BYTES, dot, instruction
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.half_images import Images
from dlas.kernels.code.numbers import INT8, Numbers
from dlas.kernels.code.register_tile import segments
from dlas.kernels.convolution import space
from dlas.kernels.convolution.blocked_store import declared
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.layout import AnyArray, Layout
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

WIDE = 64
"""Channels of a block: bytes of a vector."""
PARTS = 4
"""Quarters of a vector, which instructions that unpack treat alike; and vectors of sums."""
_IMAGES = Images().or_bytes(quantized=True)
Buffers = tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer]
Place = tuple[Expr, Expr, Expr, Expr]
"""Image, block of channels, row and column of the output."""


def fitting(target: CpuTarget, inp: Layout, out: Layout, epilogue: Epilogue) -> bool:
    """Whether there is this kernel for a depthwise convolution, on a CPU, in these layouts."""
    added = epilogue.residual
    blocks = {inp.block, out.block, out.block if added is None else added.block}
    return blocks == {WIDE} and instruction(target) == "vnni" and requantize.spreads(target)


@dataclass(frozen=True)
class DepthwiseBytes:
    """One depthwise convolution in int8: [C/64, H, W, 64] to [C/64, OH, OW, 64]."""

    op: Conv2d
    target: CpuTarget
    threads: int
    inp: Layout
    out: Layout
    epilogue: Epilogue
    columns: int
    numbers: Numbers = INT8

    @property
    def joins(self) -> int:
        """Int32s that hold a column of a filter."""
        return -(-self.op.kernel[0] // BYTES)

    @property
    def blocks(self) -> int:
        """Blocks of channels."""
        return -(-self.op.out_channels // WIDE)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, factors, parameters, [residual], y)."""
        op = self.op
        function = emit.Function(name, vectors=True)
        with function.body():
            x = emit.argument("x", self.inp.shape(op.in_shape), _IMAGES.x)
            taps = (self.blocks, self.joins, op.kernel[1], WIDE)
            w = emit.argument("weight", taps, self.numbers.filters)
            b = emit.argument("bias", (self.blocks * WIDE,), self.numbers.sums)
            scales = requantize.arguments(self.blocks * WIDE, self.epilogue, True)
            assert scales is not None  # bytes are requantized
            r, y = declared(op, self.out, self.epilogue, _IMAGES)
            with emit.outer(op.batch * self.blocks * op.out_height, self.threads) as job:
                h, c = job % op.out_height, job // op.out_height % self.blocks
                n, held = job // (op.out_height * self.blocks), scales.held()
                for first, count, columns in segments(op.out_width, self.columns):
                    with emit.repeat(count) as step:
                        at = (n, c, h, first + step * columns)
                        self._tile((x, w, b, r, y), held, at, columns)
                if any(self.out.halo):
                    size, fill = (op.out_height, op.out_width), requantize.fill(held)
                    emit.zero_halo(y, n, c, h, size, self.out, fill)
        return function.result

    def _tile(
        self, buffers: Buffers, scales: requantize.StoreScales, at: Place, columns: int
    ) -> None:
        """Emit neighbouring pixels, each stored as soon as it has seen its last column."""
        op, (_, w, b, _, _), c = self.op, buffers, at[1]
        step, gap = op.stride[1], op.dilation[1]
        seen: dict[int, list[tuple[int, int]]] = {}
        for p in range(columns):
            for kw in range(op.kernel[1]):
                seen.setdefault(p * step + kw * gap, []).append((p, kw))
        acc = emit.registers((columns, PARTS * self.target.lanes), self.numbers.sums)
        joined = emit.registers((PARTS * self.target.lanes,), "int32")
        for column, pairs in sorted(seen.items()):
            for join in range(self.joins):
                for part, value in enumerate(self._joined(buffers[0], at, column, join)):
                    emit.store(joined, value, self._lane(part))
                for (p, kw), part in itertools.product(pairs, range(PARTS)):
                    lane = self._lane(part)
                    total = b[self._of(c, part)] if kw == join == 0 else acc[p, lane]
                    total = dot(self.target, total, joined[lane], w[c, join, kw, lane])
                    emit.store(acc, total, p, lane)
            for p, kw in pairs:
                if kw == op.kernel[1] - 1:
                    sums = [acc[p, self._lane(part)] for part in range(PARTS)]
                    self._store(sums, buffers, scales, (*at[:3], at[3] + p))

    def _lane(self, part: int) -> Expr:
        return T.Ramp(T.int32(part * self.target.lanes), 1, self.target.lanes)

    def _of(self, c: Expr, part: int) -> Expr:
        """Return where a vector of a block's constants lies."""
        return T.Ramp(c * WIDE + part * self.target.lanes, 1, self.target.lanes)

    def _joined(self, x: Buffer, at: Place, column: int, join: int) -> list[Expr]:
        """Return up to four rows of a column of the image for each channel: four vectors."""
        op, (n, c, h, first) = self.op, at
        up, side = self.inp.halo[0] - op.padding[0], self.inp.halo[1] - op.padding[1]
        every = T.Ramp(T.int32(0), 1, WIDE)
        rows = []
        for kh in range(join * BYTES, min((join + 1) * BYTES, op.kernel[0])):
            row = up + h * op.stride[0] + kh * op.dilation[0]
            rows.append(x[n, c, row, side + first * op.stride[1] + column, every])
        rows += [rows[-1]] * (BYTES - len(rows))  # under taps of zero
        found = []
        for upper in (False, True):
            words = [
                T.reinterpret(f"int16x{WIDE // 2}", requantize.unpacked(a, b, upper))
                for a, b in (rows[:2], rows[2:])
            ]
            for high in (False, True):
                four = requantize.unpacked(words[0], words[1], high)
                found.append(T.reinterpret(f"int32x{self.target.lanes}", four))
        return found

    def _store(
        self, sums: list[Expr], buffers: Buffers, scales: requantize.StoreScales, at: Place
    ) -> None:
        """Emit the store of a pixel."""
        (n, c, h, column), (_, _, _, residual, y) = at, buffers
        every = T.Ramp(T.int32(0), 1, WIDE)

        def where(layout: Layout) -> tuple[Expr, ...]:
            return (n, c, h + layout.halo[0], column + layout.halo[1], every)

        others: list[Expr] = []
        if residual is not None and self.epilogue.residual is not None:
            others = requantize.spread(residual[where(self.epilogue.residual)])
        channels = [self._of(c, part) for part in range(PARTS)]
        value = scales.four(
            sums, channels, others, self.epilogue.other_first, self.target, spread=True
        )
        emit.store(y, value, *where(self.out))

    def _ordered(self, values: AnyArray) -> AnyArray:
        """Return numbers by channel, the first axis, by block and in the order of its sums."""
        more = values.shape[1:]
        padded = np.zeros((self.blocks * WIDE, *more), values.dtype)
        padded[: len(values)] = values
        apart = padded.reshape(self.blocks, PARTS, PARTS, -1, *more)
        return apart.swapaxes(1, 2).reshape(self.blocks, WIDE, *more)

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return the packed filters [C/64, joins, kw, 64], and the bias."""
        op = self.op
        high, wide = op.kernel
        taps = np.zeros((op.out_channels, self.joins * BYTES, wide), np.int8)
        taps[:, :high] = weight[:, 0]
        apart = taps.reshape(op.out_channels, self.joins, BYTES, wide).swapaxes(2, 3)
        words = np.ascontiguousarray(apart).view(self.numbers.filters)[..., 0]
        ordered = np.ascontiguousarray(self._ordered(words).transpose(0, 2, 3, 1))
        start = np.zeros(op.out_channels, np.int32) if bias is None else bias
        return ordered, self._ordered(start).reshape(-1)

    def scales(self, quantization: Quantization) -> tuple[AnyArray, ...]:
        """Return what the last store reads."""
        factors = quantization.factors(self.op.out_channels)
        return self._ordered(factors).reshape(-1), quantization.parameters()

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {"kernel": "depthwise", "tile": {"columns": self.columns}}

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        columns = tuple(range(1, min(space.room(self.target), self.op.out_width) + 1))
        return Space.of({"columns": columns}, {"columns": self.columns}, lambda s: True)
