"""How the output pixels of a band of rows are cut into tiles for AMX.

A product of tiles takes as long for a few pixels as for sixteen, so that the fewest tiles are the
best. All tiles of a kernel are alike; where pixels do not divide, the last tile of a run begins
where it ends with the run: what it shares with the one before is computed twice, and nothing is
read past the image.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import amx
from dlas.kernels.code.emit import Expr
from dlas.kernels.ground.shape import Conv2d

EVEN = 2
"""Pixels that are stored together at least where that is done between products."""
_BETWEEN, _BEHIND = 4, 5
"""What a tile costs that is stored between the products of others, or behind all of them."""


@dataclass(frozen=True)
class TileRuns:
    """The tiles of a band: rows of pixels, or all of its rows joined to one run of pixels."""

    joined: bool
    rows: int
    """Pixels of a tile."""
    width: int
    """Pixels of a row of the output."""
    pitch: int
    """Pixels of a joined run from one row to the next."""

    @property
    def even(self) -> bool:
        """Whether tiles can be stored a few pixels at a time, without regard to rows."""
        numbers = (self.pitch, self.width, self.rows)
        return not self.joined or all(number % EVEN == 0 for number in numbers)

    def length(self, band: int) -> int:
        """Return the pixels of a run in a band of so many rows."""
        return (band - 1) * self.pitch + self.width if self.joined else self.width

    def each(self, band: int) -> int:
        """Return the tiles of a run in a band of so many rows."""
        return -(-self.length(band) // self.rows)

    def tiles(self, band: int) -> int:
        """Return the tiles of a band of so many rows."""
        return self.each(band) * (1 if self.joined else band)

    def place(self, tile: Expr, band: int) -> tuple[Expr, Expr]:
        """Return row and column at which a tile of a band begins, from the band's first on."""
        each, last = self.each(band), self.length(band) - self.rows
        if not self.joined and each == 1:
            return tile, 0
        row, at = (0, tile) if self.joined else (tile // each, tile % each)
        column = at * self.rows
        return row, column if each * self.rows == last + self.rows else least(column, last)


def least(a: Expr, b: Expr) -> Expr:
    """Return the lesser of two indices."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else T.min(a, b)


def runs_of(op: Conv2d, wide: int, heights: Iterable[int]) -> TileRuns:
    """Return the tiles that cost least.

    Args:
        op: the convolution that is written.
        wide: pixels of a row of the image, its halo included.
        heights: rows of its bands.
    """
    bands = sorted({*heights})
    own = TileRuns(False, _rows(op.out_width), op.out_width, wide)
    if op.stride != (1, 1):
        return own
    shortest = (bands[0] - 1) * wide + op.out_width
    joined = TileRuns(True, min(amx.SIDE, shortest), op.out_width, wide)
    return min((own, joined), key=lambda runs: _cost(runs, bands[-1]))


def longest(op: Conv2d) -> int:
    """Return the pixels of the longest run, in an image no wider than is needed."""
    wide = op.width + op.padding[1] + op.padding[3]
    runs = TileRuns(op.stride == (1, 1), 1, op.out_width, wide)
    return runs.length(op.out_height)


def _rows(run: int) -> int:
    """Return the pixels of a tile, where a run is cut into as few as there can be."""
    return -(-run // -(-run // amx.SIDE))


def _cost(runs: TileRuns, band: int) -> int:
    return runs.tiles(band) * (_BETWEEN if runs.even else _BEHIND)
