"""Tiles as lanes: images become tiles and tiles images, and tiles get their neighbours' pixels.

A change of layout goes through a plane, one channel of the image with zeros around it, which stays
in the first-level cache: squares of it are transposed in registers. Inside a network a kernel that
writes tiles fills their halo itself: every vector of the halo is one vector of the tile with its
lanes moved, zero where there is no neighbour.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import tvm
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, transpose
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.ground.layout import Layout, Shape4, Tiling

Range = tuple[int, int]


@dataclass(frozen=True)
class Border:
    """A part of the halo, by where its pixels lie in the neighbour that they come from."""

    step: tuple[int, int]
    """Tiles down and across from the halo's tile to the neighbour."""
    rows: Range
    columns: Range


def borders(layout: Layout) -> Iterator[Border]:
    """Return the parts of the halo of a tiled layout; a halo may reach over several tiles."""
    assert layout.tiling is not None
    top, left, bottom, right = layout.halo
    high, wide = layout.tiling.tile
    for down, rows in _reach(top, bottom, high):
        for across, columns in _reach(left, right, wide):
            if (down, across) != (0, 0):
                yield Border((down, across), rows, columns)


def _reach(before: int, after: int, size: int) -> Iterator[tuple[int, Range]]:
    """Return the steps to the tiles that a halo touches, and which of their rows it holds."""
    for step in range(-before // size, -(-after // size) + 1):
        yield step, (max(0, -before - step * size), min(size, size + after - step * size))


def moved(tiling: Tiling, step: tuple[int, int], load: Expr) -> Expr:
    """Return a vector whose lanes are those of `load` one `step` in the grid away, else zeros."""
    down, across = tiling.grid
    places = []
    for lane in range(tiling.lanes):
        u, v = lane // across + step[0], lane % across + step[1]
        inside = 0 <= u < down and 0 <= v < across
        places.append(u * across + v if inside else tiling.lanes)
    zeros = T.broadcast(T.float32(0), tiling.lanes)
    if all(place == tiling.lanes for place in places):
        return zeros
    return tvm.tirx.Shuffle([load, zeros], [tvm.tirx.const(p, "int32") for p in places])


def inside(
    value: Expr, layout: Layout, size: tuple[int, int], at: tuple[Expr, Expr, Expr]
) -> Expr:
    """Return a pixel's value, zero where its tile overhangs an image of this size.

    Args:
        value: a vector, an element a tile.
        layout: the tiles.
        size: rows and columns of the image.
        at: row and column in the tile, and the lane.
    """
    assert layout.tiling is not None
    (row, column, lane), (_, across) = at, layout.tiling.grid
    (high, wide), (rows, columns) = layout.tiling.covered, layout.tiling.tile
    if high > size[0]:
        value = T.Select(lane // across * rows + row < size[0], value, T.float32(0))
    if wide > size[1]:
        value = T.Select(lane % across * columns + column < size[1], value, T.float32(0))
    return value


def fill_halo(y: Buffer, layout: Layout, image: tuple[Expr, Expr]) -> None:
    """Emit the halo of one channel of one image, whose tiles are complete."""
    assert layout.tiling is not None
    (top, left, _, _), (high, wide) = layout.halo, layout.tiling.tile
    lanes = T.ramp(0, 1, layout.tiling.lanes)
    for border in borders(layout):
        (first, last), (begin, end) = border.rows, border.columns
        with T.serial(last - first) as i, T.serial(end - begin) as j:
            u, v = top + first + i, left + begin + j
            value = moved(layout.tiling, border.step, y[*image, u, v, lanes])
            goal = (u + border.step[0] * high, v + border.step[1] * wide)
            emit.store(y, value, *image, *goal, lanes)


@dataclass(frozen=True)
class TileRelayout:
    """One change of layout of a batch [N, C, H, W] that has tiles on one side, or on both."""

    nchw: Shape4
    source: Layout
    goal: Layout
    threads: int

    def function(self, name: str) -> PrimFunc:
        """Return the kernel (x, y); every element of y is written."""
        n, c, _, _ = self.nchw
        block = self.goal.block
        channels = -(-c // block) * block
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", self.source.shape(self.nchw))
            y = emit.argument("y", self.goal.shape(self.nchw))
            with emit.outer(n * channels, self.threads) as job:
                image, channel = job // channels, job % channels
                plane = T.alloc_buffer((self._height * self._pitch,), "float32")
                with T.If(channel < c):
                    with T.Then():
                        self._fill(x, plane, image, channel)
                        self._clear(plane)
                    with T.Else():
                        self._zeros(plane, 0, self._height * self._pitch)
                self._drain(plane, y, image, channel)
        return function.result

    @property
    def lanes(self) -> int:
        """Lanes of a vector: as many as there are tiles."""
        tiling = self.source.tiling or self.goal.tiling
        assert tiling is not None
        return tiling.lanes

    def _extent(self, axis: int) -> int:
        """Return the rows or columns of the plane that are read or written."""
        before, after = self.goal.halo[axis], self.goal.halo[axis + 2]
        extents = [self.nchw[2 + axis] + after]
        if self.goal.tiling is not None:
            extents.append(self.goal.tiling.covered[axis] + after)
        if self.source.tiling is not None:
            extents.append(self.source.tiling.covered[axis])
        return before + max(extents)

    @property
    def _height(self) -> int:
        return self._extent(0)

    @property
    def _pitch(self) -> int:
        # A square may reach over the last column.
        return self._extent(1) + transpose.SIDE

    def _fill(self, x: Buffer, plane: Buffer, image: Expr, channel: Expr) -> None:
        """Emit the copy of one channel into the plane."""
        top, left = self.goal.halo[:2]
        if self.source.tiling is not None:
            self._fill_from_tiles(x, plane, (image, channel), self.source.tiling)
            return
        _, _, h, w = self.nchw
        block, (above, before) = self.source.block, self.source.halo[:2]
        with T.serial(h) as r:
            emit.each(
                w,
                self.lanes if block == 1 else 1,
                lambda v: emit.store(
                    plane,
                    x[image, channel // block, r + above, v + before, channel % block],
                    (r + top) * self._pitch + left + v,
                ),
            )

    def _fill_from_tiles(
        self, x: Buffer, plane: Buffer, at: tuple[Expr, Expr], tiling: Tiling
    ) -> None:
        top, left = self.goal.halo[:2]
        (rows, columns), (above, before) = tiling.tile, self.source.halo[:2]
        side, pitch = transpose.SIDE, self._pitch
        with T.serial(rows) as u:
            # Squares from left to right: what a narrow tile's square writes past the tile is
            # overwritten by the next.
            for first in range(0, tiling.lanes, side):

                def one(v: Expr, first: int = first) -> None:
                    def pixel(j: int) -> Expr:
                        column = before + v + min(j, columns - 1)
                        return x[at[0], at[1], above + u, column, T.ramp(first, 1, side)]

                    def lane(i: int, value: Expr) -> None:
                        down, across = divmod(first + i, tiling.grid[1])
                        row = top + down * rows + u
                        start = row * pitch + left + across * columns + v
                        transpose.store(plane, start, value)

                    transpose.square(pixel, lane)

                transpose.each_start(columns, one)

    def _clear(self, plane: Buffer) -> None:
        """Emit zeros around the image in the plane."""
        _, _, h, w = self.nchw
        top, left = self.goal.halo[:2]
        pitch = self._pitch
        self._zeros(plane, 0, top * pitch)
        with T.serial(h) as r:
            self._zeros(plane, (top + r) * pitch, left)
            self._zeros(plane, (top + r) * pitch + left + w, pitch - left - w)
        self._zeros(plane, (top + h) * pitch, (self._height - top - h) * pitch)

    def _zeros(self, plane: Buffer, first: Expr, count: int) -> None:
        emit.each(count, self.lanes, lambda v: emit.store(plane, T.float32(0), first + v))

    def _drain(self, plane: Buffer, y: Buffer, image: Expr, channel: Expr) -> None:
        """Emit the copy of the plane into the goal, halo included."""
        block, (_, _, high, wide, _) = self.goal.block, self.goal.shape(self.nchw)
        if self.goal.tiling is not None:
            self._drain_to_tiles(plane, y, (image, channel), self.goal.tiling)
            return
        with T.serial(high) as r:
            emit.each(
                wide,
                self.lanes if block == 1 else 1,
                lambda v: emit.store(
                    y, plane[r * self._pitch + v], image, channel // block, r, v, channel % block
                ),
            )

    def _drain_to_tiles(
        self, plane: Buffer, y: Buffer, at: tuple[Expr, Expr], tiling: Tiling
    ) -> None:
        _, _, high, wide, lanes = self.goal.shape(self.nchw)
        side, pitch = transpose.SIDE, self._pitch
        with T.serial(high) as u:
            for first in range(0, lanes, side):

                def one(v: Expr, first: int = first) -> None:
                    def lane(i: int) -> Expr:
                        down, across = divmod(first + i, tiling.grid[1])
                        row = u + down * tiling.tile[0]
                        return transpose.load(plane, row * pitch + across * tiling.tile[1] + v)

                    def pixel(j: int, value: Expr) -> None:
                        if j < wide:
                            place = T.ramp(first, 1, side)
                            emit.store(y, value, at[0], at[1], u, v + j, place)

                    transpose.square(lane, pixel)

                transpose.each_start(wide, one)
