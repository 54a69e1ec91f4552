"""`spatial-pack` with CSR weights: the lanes are tiles of the image, packed with their halo.

The output is cut into `lanes` equal tiles (4x4 of them with 16 lanes); the input is packed
[C, tile rows, tile columns, lanes], each tile with its own halo. Every tap of every pixel is then
one aligned vector, for any stride and dilation, and no pixel is computed twice.

A job sums one block of the tiles' pixels for some output channels. It sweeps over the input
channels, as many at a time as the block reads from the first-level cache; its sums wait between
sweeps, one channel's behind the other's. Each sweep takes the output channels in the order of
their non-zeros, so that the length of the inner loop is known from the one before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels import emit, sparse, transpose
from dlas.kernels.direct_csr import zeros_or
from dlas.kernels.emit import Buffer, Expr, PrimFunc
from dlas.kernels.epilogue import activate
from dlas.kernels.knobs import FIXED, Knobs
from dlas.kernels.layout import Array
from dlas.kernels.plain import PlainKernel
from dlas.kernels.spatial_pack import segments

WINDOW_BYTES = 36 << 10
"""What a block reads of the input channels of one sweep."""
LEAST_CHANNELS = 8
"""With less a sweep loads and stores more sums than it multiplies."""
WIDE = 12
"""Columns of a tile from which transposing squares is faster than gathering pixels."""
Segment = tuple[int, int, int]
"""First, count and step of a run of equal blocks."""


@dataclass(frozen=True)
class SpatialCsr(PlainKernel):
    """One sparse convolution over packed tiles, NCHW to NCHW."""

    knobs: Knobs = FIXED

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles down and across: those whose overhang is least, near a square."""
        lanes = self.target.lanes
        grids = [(1 << i, lanes >> i) for i in range(lanes.bit_length())]

        def cost(grid: tuple[int, int]) -> tuple[int, int]:
            down, across = grid
            covered = -(-self.op.out_height // down) * -(-self.op.out_width // across)
            return covered, abs(down - across)

        down = self.knobs.get("down", min(grids, key=cost)[0])
        return (down, lanes // down)

    @property
    def tile(self) -> tuple[int, int]:
        """Output rows and columns of one tile."""
        return (-(-self.op.out_height // self.grid[0]), -(-self.op.out_width // self.grid[1]))

    @property
    def window(self) -> tuple[int, int]:
        """Input rows and columns of one tile."""
        op, tile = self.op, self.tile
        return (
            (tile[0] - 1) * op.stride[0] + (op.kernel[0] - 1) * op.dilation[0] + 1,
            (tile[1] - 1) * op.stride[1] + (op.kernel[1] - 1) * op.dilation[1] + 1,
        )

    @property
    def most(self) -> int:
        """Vectors that a block may have."""
        return self.knobs.get("most", 24 if self.target.registers >= 32 else 12)

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a tile that are summed together."""
        most = self.most
        rows, columns = self.tile
        if columns > most:
            columns = -(-columns // -(-columns // most))
        rows = min(rows, max(1, most // columns))
        return (-(-self.tile[0] // -(-self.tile[0] // rows)), columns)

    @property
    def channels(self) -> int:
        """Input channels (of a group) of one sweep: what a block reads of them fits a cache."""
        op, (rows, columns) = self.op, self.block
        high = (rows - 1) * op.stride[0] + (op.kernel[0] - 1) * op.dilation[0] + 1
        wide = (columns - 1) * op.stride[1] + (op.kernel[1] - 1) * op.dilation[1] + 1
        most = max(LEAST_CHANNELS, WINDOW_BYTES // (high * wide * self.target.lanes * 4))
        per_in = op.in_channels // op.groups
        fixed = -(-per_in // -(-per_in // most))
        return min(per_in, self.knobs.get("channels", fixed))

    @property
    def sweeps(self) -> int:
        """Sweeps over the input channels; the rows of the matrix are ordered by them first."""
        return -(-(self.op.in_channels // self.op.groups) // self.channels)

    @property
    def parts(self) -> int:
        """Parts of the output channels, each a job of its own for one block of pixels."""
        fixed = 1 if self.threads == 1 else 2 * self.threads
        return self.knobs.get("parts", min(self.op.out_channels, fixed))

    @property
    def part(self) -> int:
        """Output channels of one job."""
        return -(-self.op.out_channels // self.parts)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, starts, offsets, values, order, bias, [residual], y)."""
        op, lanes = self.op, self.target.lanes
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (*op.in_shape, 1))
            matrix = sparse.arguments(self.sweeps * op.out_channels)
            order = emit.argument("order", (self.sweeps * op.out_channels,), "int32")
            bias = emit.argument("bias", (op.out_channels,))
            r = emit.argument("residual", (*op.out_shape, 1)) if self.epilogue.residual else None
            y = emit.argument("y", (*op.out_shape, 1))
            plane = self.window[0] * self.window[1] * lanes
            packed = T.alloc_buffer((op.in_channels * plane,), "float32")
            with T.serial(op.batch) as n:
                self._pack(x, packed, n)
                for down in segments(self.tile[0], self.block[0]):
                    for across in segments(self.tile[1], self.block[1]):
                        self._blocks((matrix, order, bias), (packed, r, y), n, (down, across))
        return function.result

    def _pack(self, x: Buffer, packed: Buffer, n: Expr) -> None:
        """Emit the copy of image `n` into tiles."""
        if self.window[1] >= WIDE:
            self._pack_squares(x, packed, n)
            return
        op, lanes, (rows, columns) = self.op, self.target.lanes, self.window
        across = self.grid[1]
        with (
            emit.outer(op.in_channels * rows, self.threads) as job,
            T.serial(columns) as v,
            T.serial(lanes) as lane,
        ):
            c, u = job // rows, job % rows
            h = lane // across * self.tile[0] * op.stride[0] + u - op.padding[0]
            w = lane % across * self.tile[1] * op.stride[1] + v - op.padding[1]
            inside = T.And(T.And(h >= 0, h < op.height), T.And(w >= 0, w < op.width))
            value = T.if_then_else(inside, x[n, c, h, w, 0], T.float32(0))
            emit.store(packed, value, (job * columns + v) * lanes + lane)

    def _pack_squares(self, x: Buffer, packed: Buffer, n: Expr) -> None:
        """Emit the copy of image `n` channel by channel: padded, then transposed."""
        lanes, (rows, columns) = self.target.lanes, self.window
        step = (self.tile[0] * self.op.stride[0], self.tile[1] * self.op.stride[1])
        height = (self.grid[0] - 1) * step[0] + rows
        # A square may read past the last column.
        pitch = (self.grid[1] - 1) * step[1] + max(columns, transpose.SIDE)
        with emit.outer(self.op.in_channels, self.threads) as c:
            plane = T.alloc_buffer((height * pitch,), "float32")
            self._pad(x, plane, (n, c), (height, pitch))
            with T.serial(rows) as u:
                at = (c * rows + u) * columns
                for first in range(0, lanes, transpose.SIDE):

                    def one(v: Expr, first: int = first) -> None:
                        def row(i: int) -> Expr:
                            down, across = divmod(first + i, self.grid[1])
                            start = (u + down * step[0]) * pitch + across * step[1] + v
                            return transpose.load(plane, start)

                        def pixel(j: int, value: Expr) -> None:
                            if j < columns:
                                transpose.store(packed, (at + v + j) * lanes + first, value)

                        transpose.square(row, pixel)

                    transpose.each_start(columns, one)

    def _pad(
        self, x: Buffer, plane: Buffer, image: tuple[Expr, Expr], size: tuple[int, int]
    ) -> None:
        """Emit the copy of one channel with its padding."""
        op, lanes, (n, c), (height, pitch) = self.op, self.target.lanes, image, size
        top = op.padding[0]
        # Strides may leave a part of the image, or all of it, unread.
        left = min(op.padding[1], pitch)
        here = min(op.width, pitch - left)

        def zeros(first: Expr, count: int) -> None:
            emit.each(count, lanes, lambda v: emit.store(plane, T.float32(0), first + v))

        with T.serial(height) as r:
            zeros(r * pitch, left)
            zeros(r * pitch + left + here, pitch - left - here)
            at = r * pitch + left
            with T.If(T.And(r >= top, r < top + op.height)):
                with T.Then():
                    emit.each(
                        here, lanes, lambda v: emit.store(plane, x[n, c, r - top, v, 0], at + v)
                    )
                with T.Else():
                    zeros(at, here)

    def _blocks(
        self,
        filters: tuple[sparse.Csr, Buffer, Buffer],
        images: tuple[Buffer, Buffer | None, Buffer],
        n: Expr,
        where: tuple[Segment, Segment],
    ) -> None:
        """Emit one run of equal blocks of the tile, all output channels."""
        op, lanes = self.op, self.target.lanes
        (first_row, row_count, rows), (first, count, columns) = where
        pixels = [(i, j) for i in range(rows) for j in range(columns)]
        stride = (op.stride[0] * self.window[1], op.stride[1])
        block = sparse.Block(
            lanes,
            tuple((i * stride[0] + j * stride[1]) * lanes for i, j in pixels),
            tuple(p * lanes for p in range(len(pixels))),
            1 if len(pixels) > 6 else -(-8 // len(pixels)),
        )
        matrix, order, bias = filters
        parts = -(-op.out_channels // self.part)
        with emit.outer(row_count * count * parts, self.threads) as job:
            place, part = job // parts, job % parts * self.part
            u, v = first_row + place // count * rows, first + place % count * columns
            sums = T.alloc_buffer((self.part * len(pixels) * lanes,), "float32")
            source = (images[0], (u * stride[0] + v * stride[1]) * lanes)

            def sweep(at: Expr, begin: Callable[[Expr], Expr] | None) -> None:
                with T.serial(self.part) as step, T.If(part + step < op.out_channels), T.Then():
                    row = at * op.out_channels + part + step
                    goal = (sums, (order[row] - part) * len(pixels) * lanes)
                    sparse.product(matrix, (bias, order[row]), row, block, source, goal, begin)

            sweep(0, None)
            if self.sweeps > 1:
                # A constant lower bound of a loop is lost in TVM 0.27 (it runs from 0).
                with T.serial(self.sweeps - 1) as rest:
                    sweep(rest + 1, lambda i: sums[i])
            with T.serial(self.part) as step, T.If(part + step < op.out_channels), T.Then():
                at = (n, part + step, u, v)
                self._unpack(sums, step * len(pixels), (rows, columns), at, images[1:])

    def _unpack(
        self,
        sums: Buffer,
        start: Expr,
        size: tuple[int, int],
        at: tuple[Expr, Expr, Expr, Expr],
        images: tuple[Buffer | None, Buffer],
    ) -> None:
        """Emit the stores of one block of one output channel, with the epilogue."""
        op, lanes, across = self.op, self.target.lanes, self.grid[1]
        (n, o, u, v), (residual, y) = at, images

        def finish(value: Expr, h: Expr, w: Expr) -> None:
            if residual is not None:
                value = value + residual[n, o, h, w, 0]
            emit.store(y, activate(value, self.epilogue.activation), n, o, h, w, 0)

        if size[1] >= transpose.SIDE and self._exact:
            self._unpack_squares(sums, start, size, (u, v), finish)
            return
        with T.serial(lanes) as lane, T.serial(size[0]) as i:
            h = lane // across * self.tile[0] + u + i
            with T.If(h < op.out_height), T.Then(), T.serial(size[1]) as j:
                w = lane % across * self.tile[1] + v + j
                with T.If(w < op.out_width), T.Then():
                    finish(sums[(start + i * size[1] + j) * lanes + lane], h, w)

    @property
    def _exact(self) -> bool:
        """Whether no tile overhangs the image."""
        covered = (self.grid[0] * self.tile[0], self.grid[1] * self.tile[1])
        return covered == (self.op.out_height, self.op.out_width)

    def _unpack_squares(
        self,
        sums: Buffer,
        start: Expr,
        size: tuple[int, int],
        at: tuple[Expr, Expr],
        finish: Callable[[Expr, Expr, Expr], None],
    ) -> None:
        lanes = self.target.lanes

        def one(i: Expr, v: Expr, first: int) -> None:
            rows = emit.registers((transpose.SIDE, transpose.SIDE))
            place = (start + i * size[1] + v) * lanes + first
            transpose.square(
                lambda j: transpose.load(sums, place + j * lanes),
                lambda j, value: emit.store(rows, value, j, T.ramp(0, 1, transpose.SIDE)),
            )
            for lane in range(transpose.SIDE):
                down, across = divmod(first + lane, self.grid[1])
                h, w = down * self.tile[0] + at[0] + i, across * self.tile[1] + at[1] + v
                emit.each_lane(
                    transpose.SIDE,
                    lambda j, lane=lane, h=h, w=w: finish(rows[lane, j], h, w + j),  # type: ignore[misc]
                )

        with T.serial(size[0]) as i:
            for first in range(0, lanes, transpose.SIDE):
                transpose.each_start(size[1], lambda v, first=first: one(i, v, first))  # type: ignore[misc]

    def constants(self, weight: Array, bias: Array | None) -> tuple[Any, ...]:
        """Return (starts, offsets, values, order, bias)."""
        op, (rows, columns) = self.op, self.window
        per_in = op.in_channels // op.groups
        channel = np.arange(op.in_channels).reshape(op.groups, per_in, 1, 1)
        row = np.arange(op.kernel[0]).reshape(1, 1, -1, 1) * op.dilation[0]
        column = np.arange(op.kernel[1]).reshape(1, 1, 1, -1) * op.dilation[1]
        taps = ((channel * rows + row) * columns + column) * self.target.lanes
        every = np.broadcast_to(taps, (op.groups, *weight.shape[1:])).astype(np.int32)
        packed = sparse.pack_sweeps(op, weight, every, self.channels, self.part)
        return (*packed, zeros_or(bias, op))

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {
            "kernel": "spatial-pack csr",
            "grid": list(self.grid),
            "tile": list(self.tile),
            "block": list(self.block),
            "channels": self.channels,
        }
