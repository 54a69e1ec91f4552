"""How `spatial-pack` multiplies what is stored in a type, on a CPU, in a layout; and its tile."""

from dlas.kernels.code import amx
from dlas.kernels.code.numbers import INT8_TILES, TILES, WIDENED, Numbers, block_of, numbers_of
from dlas.kernels.code.register_tile import Tile
from dlas.kernels.convolution import half_sums, tiled
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


def needs(op: Conv2d, target: CpuTarget, knobs: Knobs = FIXED, dtype: str = "float32") -> Layout:
    """Return the smallest layout of the input."""
    del knobs
    # Three colour channels in a block of 16 would multiply 13 zeros; read them as NCHW.
    small, each = op.in_channels * 2 <= target.lanes and not op.depthwise, block_of(dtype)
    few = -(-op.in_channels // each) * each if each > 1 else 1
    return Layout(few if small else block(op, target, dtype, op.in_channels), op.padding)


def block(op: Conv2d, target: CpuTarget, dtype: str = "float32", channels: int = 0) -> int:
    """Return the block of an image of so many channels; 0: as many as the convolution writes."""
    if op.groups > 1 and not op.depthwise:
        return target.lanes
    return amx.side_by_side(channels or op.out_channels, dtype, target)


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
                return fitting, tiled.default_tile(op, tiles.group)
    numbers = numbers_of(dtype, op, target, passes=True)
    if not numbers.passing:
        return numbers, None
    tile = half_sums.tile_of(op, target, layout.block)
    return (WIDENED[dtype], None) if tile is None else (numbers, tile)
