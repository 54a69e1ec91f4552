"""`gemm` of depthwise convolutions of small images: many tiny products, a lane each.

The product of a group is one row times its patches; with pixels in the lanes most of the time
would go into beginning and ending it. As compact BLAS does (Kim et al., "Designing Vector-Friendly
Compact BLAS and LAPACK Kernels", SC 2017), the matrices of neighbouring groups are interleaved:
their channels are turned into the lanes, multiplied, and turned back.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, pixel_rows, transpose
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.register_tile import equal_segments
from dlas.kernels.convolution.plain import PlainKernel
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.layout import AnyArray
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

MOST_PIXELS = 256
"""Output pixels up to which the overhead of a product exceeds its arithmetic."""
MOST_PADDED = 1500
"""Pixels of the padded image: as many as lie in a second-level cache with 16 channels."""
Buffers = tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer]


def suits(op: Conv2d, target: CpuTarget) -> bool:
    """Whether a convolution is depthwise, of a small image and of channels for whole vectors."""
    height, width = padded(op)
    small = op.out_height * op.out_width <= MOST_PIXELS and height * width <= MOST_PADDED
    return op.depthwise and small and op.out_channels >= target.lanes


def padded(op: Conv2d) -> tuple[int, int]:
    """Return the rows and columns of the image with its padding."""
    top, left, bottom, right = op.padding
    return op.height + top + bottom, op.width + left + right


@dataclass(frozen=True)
class Compact(PlainKernel):
    """One depthwise convolution, NCHW to NCHW."""

    @property
    def blocks(self) -> int:
        """Vectors of channels."""
        return -(-self.op.out_channels // self.target.lanes)

    @property
    def columns(self) -> int:
        """Pixels of a row whose sums are held in registers."""
        return 16 if self.target.registers >= 32 else 8

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return the filters [vectors, taps, lanes] and the bias, zeros behind."""
        lanes, count = self.target.lanes, self.op.out_channels
        taps = np.zeros((self.blocks * lanes, weight[0].size), np.float32)
        taps[:count] = weight.reshape(count, -1)
        biases = np.zeros(self.blocks * lanes, np.float32)
        if bias is not None:
            biases[:count] = bias
        ordered = taps.reshape(self.blocks, lanes, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(ordered).reshape(-1), biases

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {"kernel": "gemm", "patches": "in place", "lanes": "groups"}

    def space(self) -> Space | None:
        """Return nothing: it has no knobs."""
        return None

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [residual], y)."""
        op, lanes = self.op, self.target.lanes
        outputs = op.batch * op.out_channels * op.out_height * op.out_width
        every = self.blocks * lanes
        whole, rest = divmod(op.out_channels, lanes)
        function = emit.Function(name, vectors=True)
        with function.body():
            x = emit.argument("x", (op.batch * op.in_channels * op.height * op.width,))
            w = emit.argument("weight", (every * op.kernel[0] * op.kernel[1],))
            b = emit.argument("bias", (every,))
            r = emit.argument("residual", (outputs,)) if self.epilogue.residual else None
            y = emit.argument("y", (outputs,))
            buffers = (x, w, b, r, y)
            with emit.outer(op.batch * self.blocks, self.threads) as job:
                n, block = job // self.blocks, job % self.blocks
                if not rest:
                    self._block(buffers, (n, block), lanes)
                else:
                    with T.If(block < whole):
                        with T.Then():
                            self._block(buffers, (n, block), lanes)
                        with T.Else():
                            self._block(buffers, (n, block), rest)
        return function.result

    def _block(self, buffers: Buffers, at: tuple[Expr, Expr], present: int) -> None:
        """Emit a vector of channels of an image, of which so many exist."""
        op, lanes, (n, block) = self.op, self.target.lanes, at
        pixels, (height, width) = op.out_height * op.out_width, padded(op)
        image = T.alloc_buffer((height * width * lanes,), "float32")
        sums = T.alloc_buffer((pixels * lanes,), "float32")
        run = T.alloc_buffer((pixels * lanes,), "float32")
        channel = n * op.out_channels + block * lanes
        self._fill(buffers[0], image, channel, present)
        with T.serial(op.out_height) as row:
            for first, count, columns in equal_segments(op.out_width, self.columns):
                with T.serial(count) as turn:
                    self._tile(
                        buffers, (image, sums), block, (row, first + turn * columns), columns
                    )
        transpose.matrix(sums, run, (pixels, lanes))
        goal = (buffers[4], buffers[3], channel * pixels)
        pixel_rows.finish(run, 0, present * pixels, lanes, self.epilogue, goal)

    def _fill(self, x: Buffer, image: Buffer, channel: Expr, present: int) -> None:
        """Emit image[row, column, lane] of the channels from `channel` on, zero around them."""
        op, lanes, side = self.op, self.target.lanes, transpose.SIDE
        (height, width), (top, left) = padded(op), op.padding[:2]
        emit.each(height * width * lanes, lanes, lambda j: emit.store(image, T.float32(0), j))
        across, fours = op.width // side * side, present // side * side

        def from_(lane: Expr, row: Expr, column: Expr) -> Expr:
            return ((channel + lane) * op.height + row) * op.width + column

        def to(lane: Expr, row: Expr, column: Expr) -> Expr:
            return ((row + top) * width + column + left) * lanes + lane

        if across and fours:
            with (
                T.serial(op.height) as row,
                T.serial(across // side) as column,
                T.serial(fours // side) as lane,
            ):
                transpose.square(
                    lambda i: transpose.load(x, from_(lane * side + i, row, column * side)),
                    lambda j, value: transpose.store(
                        image, to(lane * side, row, column * side + j), value
                    ),
                )
        else:
            across = fours = 0
        rest = ((0, present, across, op.width - across), (fours, present - fours, 0, across))
        for lane, lanes_left, column, columns in rest:
            if lanes_left and columns:
                with T.serial(lanes_left) as i, T.serial(op.height) as row, T.serial(columns) as j:
                    value = x[from_(lane + i, row, column + j)]
                    emit.store(image, value, to(lane + i, row, column + j))

    def _tile(
        self,
        buffers: Buffers,
        memory: tuple[Buffer, Buffer],
        block: Expr,
        at: tuple[Expr, Expr],
        columns: int,
    ) -> None:
        """Emit the sums of some pixels of a row from column at[1] on, all taps."""
        op, lanes, (row, column) = self.op, self.target.lanes, at
        (_, w, bias, _, _), (image, sums), (_, width) = buffers, memory, padded(op)
        acc = emit.registers((columns, lanes))
        with T.unroll(columns) as p:
            emit.each_lane(lanes, lambda j: emit.store(acc, bias[block * lanes + j], p, j))
        high, wide = op.kernel
        with T.serial(high) as kh, T.serial(wide) as kw, T.unroll(columns) as p:
            v = row * op.stride[0] + kh * op.dilation[0]
            h = (column + p) * op.stride[1] + kw * op.dilation[1]
            tap = ((block * high + kh) * wide + kw) * lanes
            here = (v * width + h) * lanes
            emit.each_lane(
                lanes,
                lambda j: emit.store(acc, acc[p, j] + image[here + j] * w[tap + j], p, j),
            )
        to = (row * op.out_width + column) * lanes
        with T.unroll(columns) as p:
            emit.each_lane(lanes, lambda j: emit.store(sums, acc[p, j], to + p * lanes + j))
