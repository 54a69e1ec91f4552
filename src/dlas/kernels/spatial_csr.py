"""`spatial-pack` with CSR weights: the lanes are tiles of the image, stored with their halo.

The output is cut into `lanes` equal tiles (4x4 of them with 16 lanes), and so is the input: its
tiles are the output's times the stride. Every tap of every pixel is then one aligned vector, for
any stride and dilation, and no pixel is computed twice. The layout is carried between layers: each
kernel fills the halo of what it writes.

A job sums one block of the tiles' pixels for some output channels. It sweeps over the input
channels, as many at a time as the block reads from the first-level cache; its sums wait in the
output between sweeps. Each sweep takes the output channels in the order of their non-zeros, so
that the length of the inner loop is known from the one before.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels import emit, sparse, tiles
from dlas.kernels.direct_csr import zeros_or
from dlas.kernels.emit import Buffer, Expr, PrimFunc
from dlas.kernels.epilogue import Epilogue, activate
from dlas.kernels.knobs import FIXED, Knobs
from dlas.kernels.layout import Array, Layout, Shape4, Tiling
from dlas.kernels.shape import Conv2d
from dlas.kernels.spatial_pack import segments
from dlas.kernels.target import CpuTarget

WINDOW_BYTES = 36 << 10
"""What a block reads of the input channels of one sweep."""
LEAST_CHANNELS = 8
"""With less a sweep loads and stores more sums than it multiplies."""
Segment = tuple[int, int, int]
"""First, count and step of a run of equal blocks."""


def written(op: Conv2d, target: CpuTarget, knobs: Knobs = FIXED) -> Layout:
    """Return the layout of the output: the grid whose tiles overhang least, near a square."""
    lanes = target.lanes
    grids = [(1 << i, lanes >> i) for i in range(lanes.bit_length())]

    def cost(grid: tuple[int, int]) -> tuple[int, int]:
        rows, columns = _tile(op, grid)
        return rows * columns, abs(grid[0] - grid[1])

    down = knobs.get("down", min(grids, key=cost)[0])
    grid = (down, lanes // down)
    return Layout(tiling=Tiling(grid, _tile(op, grid)))


def _tile(op: Conv2d, grid: tuple[int, int]) -> tuple[int, int]:
    """Return the least tile that covers the output, and with the stride the input."""

    def one(axis: int, out: int, inp: int) -> int:
        least = -(-out // grid[axis])
        return least if least == out else max(least, -(-inp // (grid[axis] * op.stride[axis])))

    return one(0, op.out_height, op.height), one(1, op.out_width, op.width)


def read(op: Conv2d, out: Layout) -> Layout:
    """Return the smallest layout of an input for an output in these tiles."""
    assert out.tiling is not None
    tile = out.tiling.tile

    def one(axis: int, whole: int, inp: int) -> tuple[int, int]:
        """Return the rows or columns of a tile, and of the halo behind it."""
        step = op.stride[axis]
        # Where one tile is the whole output, the first input tile is the whole input.
        size = max(tile[axis] * step, inp if tile[axis] >= whole else 0)
        last = (tile[axis] - 1) * step + op.dilation[axis] * (op.kernel[axis] - 1) + 1
        return size, max(0, last - op.padding[axis] - size)

    rows, bottom = one(0, op.out_height, op.height)
    columns, right = one(1, op.out_width, op.width)
    halo = (op.padding[0], op.padding[1], bottom, right)
    return Layout(1, halo, Tiling(out.tiling.grid, (rows, columns)))


@dataclass(frozen=True)
class SpatialCsr:
    """One sparse convolution, tiles to tiles."""

    op: Conv2d
    target: CpuTarget
    threads: int
    inp: Layout
    out: Layout
    epilogue: Epilogue
    knobs: Knobs = FIXED

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles down and across."""
        return self._tiling.grid

    @property
    def tile(self) -> tuple[int, int]:
        """Output rows and columns of one tile."""
        return self._tiling.tile

    @property
    def _tiling(self) -> Tiling:
        assert self.out.tiling is not None
        return self.out.tiling

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
        fixed = 1 if self.threads == 1 else self.threads
        return min(self.op.out_channels, self.knobs.get("parts", fixed))

    @property
    def part(self) -> int:
        """Output channels of one job."""
        return -(-self.op.out_channels // self.parts)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, starts, offsets, values, order, bias, [residual], y)."""
        op, added = self.op, self.epilogue.residual
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (_floats(self.inp, op.in_shape),))
            matrix = sparse.arguments(self.sweeps * op.out_channels)
            order = emit.argument("order", (self.sweeps * op.out_channels,), "int32")
            bias = emit.argument("bias", (op.out_channels,))
            r = emit.argument("residual", (_floats(added, op.out_shape),)) if added else None
            y = emit.argument("y", (_floats(self.out, op.out_shape),))
            with T.serial(op.batch) as n:
                for down in segments(self.tile[0], self.block[0]):
                    for across in segments(self.tile[1], self.block[1]):
                        self._blocks((matrix, order, bias), (x, r, y), n, (down, across))
        return function.result

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
        pitches = (self.inp.shape(op.in_shape)[3], self.out.shape(op.out_shape)[3])
        step = (op.stride[0] * pitches[0], op.stride[1])
        block = sparse.Block(
            lanes,
            tuple((i * step[0] + j * step[1]) * lanes for i, j in pixels),
            tuple((i * pitches[1] + j) * lanes for i, j in pixels),
            1 if len(pixels) > 6 else -(-8 // len(pixels)),
        )
        (matrix, order, bias), (x, residual, y) = filters, images
        parts = -(-op.out_channels // self.part)
        places = row_count * count
        with emit.outer(places * parts, self.threads) as job:
            part, place = job // places * self.part, job % places
            # What is known here keeps conditions out of the code.
            u = first_row + place // count * rows if row_count > 1 else first_row
            v = first + place % count * columns if count > 1 else first
            spare = (self.inp.halo[0] - op.padding[0], self.inp.halo[1] - op.padding[1])
            corner = spare[0] * pitches[0] + spare[1]
            image = n * _floats(self.inp, (1, *op.in_shape[1:]))
            source = (x, image + (corner + u * step[0] + v * step[1]) * lanes)

            def sweep(at: Expr, begin: Callable[[Expr], Expr] | None) -> None:
                with T.serial(self.part) as turn, self._present(part + turn):
                    row = at * op.out_channels + part + turn
                    here = (n, order[row], u, v)
                    goal = (y, self._place(self.out, *here))
                    sparse.product(matrix, (bias, here[1]), row, block, source, goal, begin)
                    with emit.condition(at == self.sweeps - 1) as possible:
                        if possible:
                            self._finish((rows, columns), here, (residual, y))

            sweep(0, None)
            if self.sweeps > 1:
                # A constant lower bound of a loop is lost in TVM 0.27 (it runs from 0).
                with T.serial(self.sweeps - 1) as rest:
                    sweep(rest + 1, lambda i: y[i])

    def _present(self, channel: Expr) -> Any:
        """Open a condition where the last part has fewer output channels."""
        whole = self.op.out_channels % self.part == 0
        return emit.condition(True if whole else channel < self.op.out_channels)

    def _place(self, layout: Layout, n: Expr, channel: Expr, u: Expr, v: Expr) -> Expr:
        """Return where a pixel of the output's tiles begins in a buffer of this layout."""
        _, count, high, wide, lanes = layout.shape(self.op.out_shape)
        row = (n * count + channel) * high + layout.halo[0] + u
        return (row * wide + layout.halo[1] + v) * lanes

    def _finish(
        self,
        size: tuple[int, int],
        at: tuple[Expr, Expr, Expr, Expr],
        images: tuple[Buffer | None, Buffer],
    ) -> None:
        """Emit what follows the sums of a block: the epilogue, and its part of the halo."""
        (n, o, u, v), (residual, y), (rows, columns) = at, images, size
        added, activation = self.epilogue.residual, self.epilogue.activation

        def one(i: Expr, j: Expr, lane: Expr) -> None:
            place = self._place(self.out, n, o, u + i, v + j) + lane
            value = y[place]
            if added is not None and residual is not None:
                value = value + residual[self._place(added, n, o, u + i, v + j) + lane]
            value = activate(value, activation)
            emit.store(y, self._inside(value, u + i, v + j, lane), place)

        if added is not None or activation is not None or not self._exact:
            with T.serial(rows) as i, T.serial(columns) as j:
                emit.each_lane(self.target.lanes, lambda lane: one(i, j, lane))
        for border in tiles.borders(self.out):
            self._border(border, size, at, y)

    @property
    def _exact(self) -> bool:
        """Whether no tile overhangs the image."""
        return self._tiling.covered == self.op.out_shape[2:]

    def _inside(self, value: Expr, row: Expr, column: Expr, lane: Expr) -> Expr:
        """Return the value of a pixel, zero outside the image."""
        (_, across), (high, wide) = self.grid, self._tiling.covered
        if high > self.op.out_height:
            inside = lane // across * self.tile[0] + row < self.op.out_height
            value = T.Select(inside, value, T.float32(0))
        if wide > self.op.out_width:
            inside = lane % across * self.tile[1] + column < self.op.out_width
            value = T.Select(inside, value, T.float32(0))
        return value

    def _border(
        self,
        border: tiles.Border,
        size: tuple[int, int],
        at: tuple[Expr, Expr, Expr, Expr],
        y: Buffer,
    ) -> None:
        """Emit the pixels of a border that lie in this block."""
        n, o, u, v = at
        lanes = self.target.lanes
        far = [a * b for a, b in zip(border.step, self.tile, strict=True)]

        def one(i: Expr, j: Expr) -> None:
            pixel = y[T.ramp(self._place(self.out, n, o, u + i, v + j), 1, lanes)]
            goal = self._place(self.out, n, o, u + i + far[0], v + j + far[1])
            value = tiles.moved(self._tiling, border.step, pixel)
            emit.store(y, value, T.ramp(goal, 1, lanes))

        def row(i: Expr) -> None:
            _each_within(v, size[1], border.columns, self.tile[1], lambda j: one(i, j))

        _each_within(u, size[0], border.rows, self.tile[0], row)

    def constants(self, weight: Array, bias: Array | None) -> tuple[Any, ...]:
        """Return (starts, offsets, values, order, bias)."""
        op, (_, _, rows, columns, lanes) = self.op, self.inp.shape(self.op.in_shape)
        per_in = op.in_channels // op.groups
        channel = np.arange(op.in_channels).reshape(op.groups, per_in, 1, 1)
        row = np.arange(op.kernel[0]).reshape(1, 1, -1, 1) * op.dilation[0]
        column = np.arange(op.kernel[1]).reshape(1, 1, 1, -1) * op.dilation[1]
        taps = ((channel * rows + row) * columns + column) * lanes
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
            "parts": self.parts,
        }


def _floats(layout: Layout, nchw: Shape4) -> int:
    return math.prod(layout.shape(nchw))


def _each_within(
    first: Expr, count: int, bounds: tuple[int, int], size: int, body: Callable[[Expr], None]
) -> None:
    """Emit body(i) for those i < count with `first` + i within the bounds.

    Args:
        first: a number, or an expression where one code serves several blocks.
        count: rows or columns of the block.
        bounds: first and end.
        size: rows or columns of the tile: where the bounds are all of it nothing is tested.
        body: emits one row or pixel.
    """
    if isinstance(first, int):
        for i in range(count):
            if bounds[0] <= first + i < bounds[1]:
                body(i)
        return
    with T.serial(count) as i:
        if bounds == (0, size):
            body(i)
        else:
            with T.If(T.And(first + i >= bounds[0], first + i < bounds[1])), T.Then():
                body(i)
