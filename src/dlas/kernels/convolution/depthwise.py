"""Depthwise convolution on blocked channels: lanes are channels, a row of pixels in registers.

In int8 up to four rows of a column are joined, a byte each, so that one step multiplies a column
of the filter; columns are joined once for all pixels that see them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, half_images, requantize
from dlas.kernels.code.dot import BYTES, dot
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.half_images import WIDE, Images
from dlas.kernels.code.numbers import FLOAT32, Numbers
from dlas.kernels.code.register_tile import segments
from dlas.kernels.convolution import space
from dlas.kernels.convolution.blocked_filters import pack_bias
from dlas.kernels.convolution.blocked_store import BlockedStore, declared
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.layout import AnyArray, Layout
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


@dataclass(frozen=True)
class Depthwise:
    """One depthwise convolution: [C/b, H, W, b] to [C/b, OH, OW, b]."""

    op: Conv2d
    target: CpuTarget
    threads: int
    inp: Layout
    out: Layout
    epilogue: Epilogue
    columns: int
    numbers: Numbers = FLOAT32
    images: Images = WIDE

    @property
    def taps(self) -> tuple[int, int]:
        """Rows and columns of a filter, in elements: in int8 four rows are one."""
        return -(-self.op.kernel[0] // self.numbers.group), self.op.kernel[1]

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [factors, parameters], [residual], y)."""
        stored = self.images.or_bytes(self.numbers.quantized)
        op, lanes = self.op, self.target.lanes
        blocks = -(-op.out_channels // lanes)
        function = emit.Function(name, self.numbers.quantized or self.images.narrow)
        with function.body():
            x = emit.argument("x", self.inp.shape(op.in_shape), stored.x)
            w = emit.argument("weight", (blocks, *self.taps, lanes), self.numbers.filters)
            b = emit.argument("bias", (blocks * lanes,), self.numbers.sums)
            scales = requantize.arguments(blocks * lanes, self.epilogue, self.numbers.quantized)
            r, y = declared(op, self.out, self.epilogue, stored)
            jobs = op.batch * blocks * op.out_height
            words = half_images.rounding(self.target, self.images)
            with words, emit.outer(jobs, self.threads) as job:
                h, c = job % op.out_height, job // op.out_height % blocks
                n = job // (op.out_height * blocks)
                for first, count, columns in segments(op.out_width, self.columns):
                    with T.serial(count) as step:
                        at = (n, c, h, first + step * columns)
                        self._tile((x, w, b, r, y), scales, at, columns)
                if any(self.out.halo):
                    size = (op.out_height, op.out_width)
                    vectors = self.out.block // lanes
                    with emit.condition(True if vectors == 1 else c % vectors == 0):
                        fill = requantize.fill(scales)
                        emit.zero_halo(y, n, c // vectors, h, size, self.out, fill)
        return function.result

    def _tile(
        self,
        buffers: tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer],
        scales: requantize.StoreScales | None,
        at: tuple[Expr, Expr, Expr, Expr],
        columns: int,
    ) -> None:
        lanes = self.target.lanes
        x, w, b, r, y = buffers
        c = at[1]
        acc = emit.registers((columns, lanes), self.numbers.sums)
        with T.unroll(columns) as p:
            emit.each_lane(lanes, lambda j: emit.store(acc, b[c * lanes + j], p, j))
        if scales is None:
            self._sum(acc, (x, w), at, columns)
        else:
            self._sum_joined(acc, (x, w), at, columns)

        to = (self.target, self.op.out_channels, self.out, self.epilogue, r, y, scales)
        BlockedStore(*to).tile((1, columns, 1), lambda i, p, o, j: acc[p, j], at)

    def _sum(
        self,
        acc: Buffer,
        factors: tuple[Buffer, Buffer],
        at: tuple[Expr, Expr, Expr, Expr],
        columns: int,
    ) -> None:
        """Emit the sum over the taps."""
        op, inp, lanes = self.op, self.inp, self.target.lanes
        (x, w), (n, c, h, col), vectors = factors, at, inp.block // lanes
        up, side = inp.halo[0] - op.padding[0], inp.halo[1] - op.padding[1]
        # Whole rows of taps are unrolled: neighbouring pixels then share their loads.
        with (
            T.serial(op.kernel[0]) as kh,
            T.unroll(op.kernel[1]) as kw,
            T.unroll(columns) as p,
        ):
            row = up + h * op.stride[0] + kh * op.dilation[0]
            v = side + (col + p) * op.stride[1] + kw * op.dilation[1]
            emit.each_lane(
                lanes,
                lambda j: emit.store(
                    acc,
                    acc[p, j]
                    + half_images.wide(x[n, c // vectors, row, v, c % vectors * lanes + j])
                    * self.numbers.wide(w[c, kh, kw, j]),
                    p, j,
                ),
            )  # fmt: skip

    def _sum_joined(
        self,
        acc: Buffer,
        factors: tuple[Buffer, Buffer],
        at: tuple[Expr, Expr, Expr, Expr],
        columns: int,
    ) -> None:
        """Emit the sum over the taps in int8: four rows of a column at a time."""
        op, inp, lanes = self.op, self.inp, self.target.lanes
        (x, w), (n, c, h, col) = factors, at
        up, side = inp.halo[0] - op.padding[0], inp.halo[1] - op.padding[1]
        every, (step, gap) = T.Ramp(T.int32(0), 1, lanes), (op.stride[1], op.dilation[1])
        seen: dict[int, list[tuple[int, int]]] = {}
        for p in range(columns):
            for kw in range(op.kernel[1]):
                seen.setdefault(p * step + kw * gap, []).append((p, kw))
        joined = emit.registers((lanes,), "int32")
        for first in range(0, op.kernel[0], BYTES):
            for column, pairs in sorted(seen.items()):
                value = None
                for byte in range(min(BYTES, op.kernel[0] - first)):
                    row = up + h * op.stride[0] + (first + byte) * op.dilation[0]
                    one = x[n, c, row, side + col * step + column, every]
                    one = T.Cast(f"int32x{lanes}", one)
                    if value is None:
                        value = one
                        continue
                    by = T.Broadcast(T.int32(8 * byte), lanes)
                    value = T.bitwise_or(value, T.shift_left(one, by))
                emit.store(joined, value, every)
                for p, kw in pairs:
                    filters = w[c, first // BYTES, kw, every]
                    total = dot(self.target, acc[p, every], joined[every], filters)
                    emit.store(acc, total, p, every)

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return the packed filters [C/b, kh, kw, b] (int8: four rows in one) and the bias."""
        op, lanes, group = self.op, self.target.lanes, self.numbers.group
        blocks, (high, wide) = -(-op.out_channels // lanes), self.taps
        weight = self.numbers.stored_filters(weight)
        taps = np.zeros((blocks * lanes, high * group, wide), weight.dtype)
        taps[: op.out_channels, : op.kernel[0]] = weight[:, 0]
        apart = taps.reshape(blocks, lanes, high, group, wide).transpose(0, 2, 4, 1, 3)
        ordered = np.ascontiguousarray(apart).view(self.numbers.filters)[..., 0]
        return (
            np.ascontiguousarray(ordered),
            pack_bias(op, bias, self.target, self.numbers.sums),
        )

    def scales(self, quantization: Quantization) -> tuple[AnyArray, ...]:
        """Return what the last store of an int8 kernel reads."""
        factors = quantization.factors(self.op.out_channels)
        return pack_bias(self.op, factors, self.target), quantization.parameters()

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {"kernel": "depthwise", "tile": {"columns": self.columns}}

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        columns = tuple(range(1, min(space.room(self.target), self.op.out_width) + 1))
        return Space.of({"columns": columns}, {"columns": self.columns}, lambda s: True)


def default_columns(op: Conv2d, target: CpuTarget) -> int:
    """Return the pixels a tile holds: few enough to unroll a row of taps over them."""
    most = min(op.out_width, 14 if target.registers >= 32 else 7)
    exact = [c for c in range(most, most // 2, -1) if op.out_width % c == 0]
    return exact[0] if exact else most
