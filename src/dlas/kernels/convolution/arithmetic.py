"""How `spatial-pack` multiplies what is stored in a type, on a CPU, in a layout; and its tile."""

from dlas.kernels.code.numbers import INT8_TILES, TILES, WIDENED, Numbers, numbers_of
from dlas.kernels.code.register_tile import Tile
from dlas.kernels.convolution import half_sums, tiled
from dlas.kernels.ground.layout import Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


def chosen(
    dtype: str, op: Conv2d, target: CpuTarget, layout: Layout
) -> tuple[Numbers, Tile | None]:
    """Return the numbers of a kernel, and the fixed tile where they have a rule of their own.

    Args:
        dtype: in what filters are stored.
        op: the convolution.
        target: the CPU.
        layout: that of the input.
    """
    for tiles in (TILES, INT8_TILES):
        if dtype == tiles.name and tiles.why_not(target) is None:
            fitting = tiled.fitting(tiles, op, layout)
            if fitting is not None:
                return fitting, tiled.default_tile(op)
    numbers = numbers_of(dtype, op, target, passes=True)
    if not numbers.passing:
        return numbers, None
    tile = half_sums.tile_of(op, target, layout.block)
    return (WIDENED[dtype], None) if tile is None else (numbers, tile)
