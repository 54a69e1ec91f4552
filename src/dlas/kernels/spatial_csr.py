"""`spatial-pack` with CSR weights: the lanes are tiles of the image, packed with their halo.

The output is cut into `lanes` equal tiles (4x4 of them with 16 lanes); the input is packed
[C, tile rows, tile columns, lanes], each tile with its own halo. Every tap of every pixel is then
one aligned vector, for any stride and dilation, and no pixel is computed twice.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels import emit, sparse
from dlas.kernels.direct_csr import zeros_or
from dlas.kernels.emit import Buffer, Expr, PrimFunc
from dlas.kernels.epilogue import Epilogue, activate
from dlas.kernels.knobs import FIXED, Knobs
from dlas.kernels.layout import NCHW, Array, Layout
from dlas.kernels.shape import Conv2d
from dlas.kernels.spatial_pack import segments
from dlas.kernels.target import CpuTarget


@dataclass(frozen=True)
class SpatialCsr:
    """One sparse convolution over packed tiles, NCHW to NCHW."""

    op: Conv2d
    target: CpuTarget
    threads: int
    epilogue: Epilogue
    knobs: Knobs = FIXED

    @property
    def inp(self) -> Layout:
        """Layout of the input."""
        return NCHW

    @property
    def out(self) -> Layout:
        """Layout of the output."""
        return NCHW

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
    def block(self) -> tuple[int, int]:
        """Rows and columns of a tile that are summed together."""
        most = self.knobs.get("most", 24 if self.target.registers >= 32 else 12)
        rows, columns = self.tile
        if columns > most:
            columns = -(-columns // -(-columns // most))
        rows = min(rows, max(1, most // columns))
        return (-(-self.tile[0] // -(-self.tile[0] // rows)), columns)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, starts, offsets, values, bias, [residual], y)."""
        op, lanes = self.op, self.target.lanes
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (*op.in_shape, 1))
            matrix = sparse.arguments(op.out_channels)
            bias = emit.argument("bias", (op.out_channels,))
            r = emit.argument("residual", (*op.out_shape, 1)) if self.epilogue.residual else None
            y = emit.argument("y", (*op.out_shape, 1))
            plane = self.window[0] * self.window[1] * lanes
            packed = T.alloc_buffer((op.in_channels * plane,), "float32")
            area = self.tile[0] * self.tile[1] * lanes
            sums = T.alloc_buffer((op.out_channels * area,), "float32")
            with T.serial(op.batch) as n:
                self._pack(x, packed, n)
                for first_row, row_count, rows in segments(self.tile[0], self.block[0]):
                    for first, count, columns in segments(self.tile[1], self.block[1]):
                        starts = (first_row, row_count, rows), (first, count, columns)
                        self._part(matrix, bias, (packed, sums), starts)
                self._unpack(sums, n, r, y)
        return function.result

    def _pack(self, x: Buffer, packed: Buffer, n: Expr) -> None:
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

    def _part(
        self,
        matrix: sparse.Csr,
        bias: Buffer,
        buffers: tuple[Buffer, Buffer],
        starts: tuple[tuple[int, int, int], tuple[int, int, int]],
    ) -> None:
        """Emit the sums of one run of equal blocks of the tile, all output channels."""
        op, lanes = self.op, self.target.lanes
        (first_row, row_count, rows), (first, count, columns) = starts
        area = self.tile[0] * self.tile[1] * lanes
        pixels = [(i, j) for i in range(rows) for j in range(columns)]
        stride = (op.stride[0] * self.window[1], op.stride[1])
        block = sparse.Block(
            lanes,
            tuple((i * stride[0] + j * stride[1]) * lanes for i, j in pixels),
            tuple((i * self.tile[1] + j) * lanes for i, j in pixels),
        )
        parts = self.knobs.get("parts", min(op.out_channels, 4))
        per_part = -(-op.out_channels // parts)
        with emit.outer(row_count * count * parts, self.threads) as job:
            where, part = job // parts, job % parts
            u, v = first_row + where // count * rows, first + where % count * columns
            with T.serial(per_part) as step:
                o = part * per_part + step
                with T.If(o < op.out_channels), T.Then():
                    source = (buffers[0], (u * stride[0] + v * stride[1]) * lanes)
                    goal = (buffers[1], o * area + (u * self.tile[1] + v) * lanes)
                    sparse.product(matrix, bias, o, block, source, goal)

    def _unpack(self, sums: Buffer, n: Expr, residual: Buffer | None, y: Buffer) -> None:
        op, lanes = self.op, self.target.lanes
        rows, columns = self.tile
        with emit.outer(op.out_channels * op.out_height, self.threads) as job:
            o, h = job // op.out_height, job % op.out_height
            with T.serial(op.out_width) as w:
                lane = h // rows * self.grid[1] + w // columns
                at = ((o * rows + h % rows) * columns + w % columns) * lanes + lane
                value = sums[at]
                if residual is not None:
                    value = value + residual[n, o, h, w, 0]
                emit.store(y, activate(value, self.epilogue.activation), n, o, h, w, 0)

    def constants(self, weight: Array, bias: Array | None) -> tuple[Any, ...]:
        """Return (starts, offsets, values, bias)."""
        op, (rows, columns) = self.op, self.window
        per_in = op.in_channels // op.groups
        channel = np.arange(op.in_channels).reshape(op.groups, per_in, 1, 1)
        row = np.arange(op.kernel[0]).reshape(1, 1, -1, 1) * op.dilation[0]
        column = np.arange(op.kernel[1]).reshape(1, 1, 1, -1) * op.dilation[1]
        taps = ((channel * rows + row) * columns + column) * self.target.lanes
        return (*sparse.pack(op, weight, taps.astype(np.int32)), zeros_or(bias, op))

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {
            "kernel": "spatial-pack csr",
            "grid": list(self.grid),
            "tile": list(self.tile),
            "block": list(self.block),
        }
