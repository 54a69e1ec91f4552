"""Depthwise convolution on blocked channels: lanes are channels, a row of pixels in registers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import Epilogue, activate
from dlas.kernels.code.register_tile import segments
from dlas.kernels.convolution import space
from dlas.kernels.convolution.blocked_filters import pack_bias
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.layout import Array, Layout
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

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [residual], y)."""
        op, lanes = self.op, self.target.lanes
        blocks = -(-op.out_channels // lanes)
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", self.inp.shape(op.in_shape))
            w = emit.argument("weight", (blocks, *op.kernel, lanes))
            b = emit.argument("bias", (blocks * lanes,))
            r = None
            if self.epilogue.residual:
                r = emit.argument("residual", self.epilogue.residual.shape(op.out_shape))
            y = emit.argument("y", self.out.shape(op.out_shape))
            with emit.outer(op.batch * blocks * op.out_height, self.threads) as job:
                h, c = job % op.out_height, job // op.out_height % blocks
                n = job // (op.out_height * blocks)
                for first, count, columns in segments(op.out_width, self.columns):
                    with T.serial(count) as step:
                        at = (n, c, h, first + step * columns)
                        self._tile((x, w, b, r, y), at, columns)
                if any(self.out.halo):
                    emit.zero_halo(y, n, c, h, (op.out_height, op.out_width), self.out)
        return function.result

    def _tile(
        self,
        buffers: tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer],
        at: tuple[Expr, Expr, Expr, Expr],
        columns: int,
    ) -> None:
        op, inp, lanes = self.op, self.inp, self.target.lanes
        x, w, b, r, y = buffers
        n, c, h, col = at
        acc = emit.registers((columns, lanes))
        up, side = inp.halo[0] - op.padding[0], inp.halo[1] - op.padding[1]
        with T.unroll(columns) as p:
            emit.each_lane(lanes, lambda j: emit.store(acc, b[c * lanes + j], p, j))
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
                lambda j: emit.store(acc, acc[p, j] + x[n, c, row, v, j] * w[c, kh, kw, j], p, j),
            )

        def finish(p: Expr, j: Expr) -> None:
            value = acc[p, j]
            if r is not None and self.epilogue.residual is not None:
                top, left = self.epilogue.residual.halo[:2]
                value = value + r[n, c, h + top, col + p + left, j]
            top, left = self.out.halo[:2]
            value = activate(value, self.epilogue.activation)
            emit.store(y, value, n, c, h + top, col + p + left, j)

        with T.unroll(columns) as p:
            emit.each_lane(lanes, lambda j: finish(p, j))

    def constants(self, weight: Array, bias: Array | None) -> tuple[Array, ...]:
        """Return the packed filters [C/b, kh, kw, b] and the bias."""
        op, lanes = self.op, self.target.lanes
        blocks = -(-op.out_channels // lanes)
        taps = np.zeros((blocks * lanes, *op.kernel), np.float32)
        taps[: op.out_channels] = weight[:, 0]
        ordered = taps.reshape(blocks, lanes, *op.kernel).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(ordered), pack_bias(op, bias, self.target)

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
