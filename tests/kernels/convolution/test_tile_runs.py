"""How pixels are cut into tiles for AMX: all of them, and none past the image."""

import pytest

pytest.importorskip("tvm")

from dlas.kernels import Conv2d
from dlas.kernels.code import amx
from dlas.kernels.convolution.tile_runs import TileRuns, longest, runs_of

SIDES = [1, 2, 5, 7, 14, 16, 17, 23, 28, 56]


def seen(runs: TileRuns, band: int) -> list[int]:
    """Return the pixels that the tiles of a band hold, counted through its rows."""
    found = []
    for tile in range(runs.tiles(band)):
        row, column = runs.place(tile, band)
        first = row * runs.pitch + column
        found += [first + pixel for pixel in range(runs.rows)]
        if not runs.joined:
            assert column >= 0 and column + runs.rows <= runs.width
    return found


@pytest.mark.parametrize("width", SIDES)
@pytest.mark.parametrize("height", [1, 3, 7, 14])
@pytest.mark.parametrize("stride", [1, 2])
def test_tiles_hold_every_pixel_and_nothing_past_the_last(
    width: int, height: int, stride: int
) -> None:
    op = Conv2d(1, 64, height * stride, width * stride, 64, (1, 1), (stride, stride))
    for heights in ({height}, {max(1, height // 2), height - max(1, height // 2)} - {0}):
        runs = runs_of(op, op.width, heights)
        assert 1 <= runs.rows <= amx.SIDE
        assert not runs.joined or stride == 1
        for band in heights:
            pixels = {r * runs.pitch + c for r in range(band) for c in range(width)}
            found = seen(runs, band)
            assert pixels <= {*found}
            assert max(found) == max(pixels) and min(found) == 0


def test_rows_are_joined_where_that_makes_fewer_tiles() -> None:
    def tiles(size: int) -> TileRuns:
        op = Conv2d(1, 64, size, size, 64, (3, 3), padding=(1, 1, 1, 1))
        return runs_of(op, size + 2, {size})

    assert tiles(56) == TileRuns(True, 16, 56, 58) and tiles(56).even
    assert tiles(14) == TileRuns(False, 14, 14, 16)
    assert tiles(7) == TileRuns(True, 16, 7, 9) and not tiles(7).even
    assert longest(Conv2d(1, 8, 3, 3, 8, (3, 3), padding=(1, 1, 1, 1))) == 13


def test_few_pixels_make_short_tiles() -> None:
    assert runs_of(Conv2d(1, 64, 1, 5, 64, (1, 1)), 5, {1}).rows == 5
