"""How an image batch lies in memory: channel blocks or tiles, and a halo of zeros or neighbours.

A batch [N, C, H, W] is stored as [N, ceil(C/block), top+H+bottom, left+W+right, block]. Channels
past C and the halo hold zeros, so that a convolution reads its padding in place. NCHW is the
layout with block 1 and no halo.

With a tiling it is stored as [N, C, top+rows+bottom, left+columns+right, lanes]: the image is cut
into a grid of equal tiles, and each lane is one of them. The halo of a tile holds the pixels of
its neighbours. What lies outside the image is zero, whether in a halo or in a tile that overhangs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
AnyArray = npt.NDArray[Any]
Halo = tuple[int, int, int, int]
Shape4 = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tiling:
    """A grid of equal tiles that covers the image."""

    grid: tuple[int, int]
    """Tiles down and across; the lanes go through it row by row."""
    tile: tuple[int, int]
    """Rows and columns of a tile."""

    @property
    def lanes(self) -> int:
        """Number of tiles."""
        return self.grid[0] * self.grid[1]

    @property
    def covered(self) -> tuple[int, int]:
        """Rows and columns of all tiles together."""
        return (self.grid[0] * self.tile[0], self.grid[1] * self.tile[1])


@dataclass(frozen=True)
class Layout:
    """Channel block and halo (top, left, bottom, right, in pixels); or tiles and their halo."""

    block: int = 1
    halo: Halo = (0, 0, 0, 0)
    tiling: Tiling | None = None
    """Tiles as lanes; the channel block is 1 then."""

    def shape(self, nchw: Shape4) -> tuple[int, int, int, int, int]:
        """Five-dimensional buffer shape of a batch [N, C, H, W]."""
        n, c, h, w = nchw
        top, left, bottom, right = self.halo
        lanes = self.block
        if self.tiling is not None:
            (h, w), lanes = self.tiling.tile, self.tiling.lanes
        return (n, -(-c // self.block), top + h + bottom, left + w + right, lanes)

    @property
    def form(self) -> "Layout":
        """The layout without its halo."""
        return self.with_halo((0, 0, 0, 0))

    def with_halo(self, halo: Halo) -> "Layout":
        """Return the layout with another halo."""
        return replace(self, halo=halo)

    def covers(self, other: "Layout") -> bool:
        """Whether a reader that needs `other` can read this layout in place."""
        return self.form == other.form and all(
            a >= b for a, b in zip(self.halo, other.halo, strict=True)
        )

    def text(self) -> str:
        """Short name: NCHW, NCHW16c, NCHW16c+1,1,1,1, NCHW[4x4 tiles of 7x7]+1,1,1,1."""
        name = "NCHW" if self.block == 1 else f"NCHW{self.block}c"
        if self.tiling is not None:
            grid, tile = ("x".join(map(str, x)) for x in (self.tiling.grid, self.tiling.tile))
            name = f"NCHW[{grid} tiles of {tile}]"
        return name if not any(self.halo) else name + "+" + ",".join(map(str, self.halo))


NCHW = Layout()


def layout_fields(layout: Layout) -> list[Any]:
    """Return the layout as lists of numbers, for JSON; `layout_of` reads them."""
    fields: list[Any] = [layout.block, list(layout.halo)]
    if layout.tiling is not None:
        fields += [list(layout.tiling.grid), list(layout.tiling.tile)]
    return fields


def layout_of(fields: Sequence[Any]) -> Layout:
    """Return the layout of which `layout_fields` are given."""
    block, *rest = fields
    halo, *tiles = [tuple(numbers) for numbers in rest]
    return Layout(block, halo, Tiling(*tiles) if tiles else None)


def widest(halos: list[Halo]) -> Halo:
    """Smallest halo that covers all of `halos`."""
    top, left, bottom, right = (max(sides) for sides in zip((0, 0, 0, 0), *halos, strict=True))
    return (top, left, bottom, right)


def pack(x: AnyArray, layout: Layout, fill: int = 0) -> AnyArray:
    """Copy an NCHW array into `layout`, zeros (or `fill`, a zero point) around it."""
    n, c, h, w = x.shape
    out = np.full(layout.shape((n, c, h, w)), fill, dtype=x.dtype)
    top, left, bottom, right = layout.halo
    if layout.tiling is not None:
        (rows, columns), (high, wide) = layout.tiling.tile, layout.tiling.covered
        image = np.zeros((n, c, top + high + bottom, left + wide + right), dtype=x.dtype)
        image[:, :, top : top + h, left : left + w] = x
        for lane in range(layout.tiling.lanes):
            down, across = divmod(lane, layout.tiling.grid[1])
            u, v = down * rows, across * columns
            out[..., lane] = image[:, :, u : u + out.shape[2], v : v + out.shape[3]]
        return out
    padded = np.zeros((n, out.shape[1] * layout.block, h, w), dtype=x.dtype)
    padded[:, :c] = x
    blocks = padded.reshape(n, out.shape[1], layout.block, h, w)
    out[:, :, top : top + h, left : left + w] = blocks.transpose(0, 1, 3, 4, 2)
    return out


def unpack(x: AnyArray, layout: Layout, nchw: Shape4) -> AnyArray:
    """Inverse of `pack`."""
    n, c, h, w = nchw
    top, left, bottom, right = layout.halo
    stored = x.reshape(layout.shape(nchw))
    if layout.tiling is not None:
        tiles = stored[:, :, top : stored.shape[2] - bottom, left : stored.shape[3] - right]
        apart = tiles.reshape(n, c, *layout.tiling.tile, *layout.tiling.grid)
        image = apart.transpose(0, 1, 4, 2, 5, 3).reshape(n, c, *layout.tiling.covered)
        return np.ascontiguousarray(image[:, :, :h, :w])
    inner = stored[:, :, top : top + h, left : left + w]
    channels = inner.transpose(0, 1, 4, 2, 3).reshape(n, -1, h, w)
    return np.ascontiguousarray(channels[:, :c])
