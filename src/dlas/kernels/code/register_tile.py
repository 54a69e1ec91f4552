"""The register tile of `spatial-pack`, and the fixed rule that chooses one."""

from dataclasses import dataclass, replace

from dlas.kernels.code.walk import channels
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

PASS_BYTES = 40_000
"""Filters of one pass: what a first-level cache holds."""
SUMS_BYTES = 1 << 15
"""Sums that wait between passes."""


@dataclass(frozen=True)
class Tile:
    """The register tile: `blocks` vectors of output channels times rows x columns pixels."""

    blocks: int
    columns: int
    rows: int = 1
    depth: int = 0
    """Input blocks summed in one pass; 0: all."""
    band: int = 1
    """Rows of tiles that go through a pass together."""


def default_tile(op: Conv2d, target: CpuTarget, block: int = 0, widest: int = 4) -> Tile:
    """Return the fixed tile: the cheapest whose sums, filters and a pixel are held in registers.

    With a 1x1 filter a step's filters are used for one tile's pixels and come from the
    second-level cache: two vectors of outputs need half as many of them as four with half the
    pixels. Larger filters are read in passes, from the first-level cache, and four vectors need
    fewer loads. Images of few pixels are served by more vectors.

    Args:
        op: the convolution, over elements.
        target: the CPU.
        block: elements of a block of the input; 0: as many as lanes.
        widest: vectors of outputs under filters larger than 1x1.
    """
    block = block or target.lanes
    total = -(-op.out_channels // target.lanes)
    passes = _worth_passes(op, target)
    few = target.accumulators // (op.out_height * op.out_width)
    most = min(8, max(widest if passes and target.registers >= 32 else 2, few))
    counts = total
    if op.groups > 1:
        # Neighbouring blocks must read the same input channels.
        blocked = channels(op, block, target.lanes).blocked
        counts = op.out_channels // op.groups // target.lanes if blocked else 1
    choices = {_divisor(counts, b) for b in range(1, most + 1)}
    if max(choices) == 1 and op.groups == 1 and total >= most:
        choices = {most}  # a short last group is cheaper than one vector a step
    tiles = [_pixels(op, blocks, target) for blocks in sorted(choices, reverse=True)]
    tile = min(tiles, key=lambda tile: _cost(op, target, tile) / tile.blocks)
    return in_passes(op, target, tile, block) if passes else tile


def _worth_passes(op: Conv2d, target: CpuTarget) -> bool:
    """Whether filters are larger than 1x1 and input channels lie in blocks."""
    return op.kernel != (1, 1) and op.in_channels * 2 > target.lanes


def in_passes(op: Conv2d, target: CpuTarget, tile: Tile, block: int = 0) -> Tile:
    """Return the tile with the fixed rule's passes over the input channels."""
    lanes = target.lanes
    walk = channels(op, block or lanes, lanes)
    step = walk.inner * op.kernel[0] * op.kernel[1] * tile.blocks * lanes * 4
    wanted = max(1, PASS_BYTES // step)
    if walk.outer <= wanted or not walk.blocked:
        return tile
    row = tile.rows * op.out_width * tile.blocks * lanes * 4
    tiles = -(-op.out_height // tile.rows)
    depth = _divisor(walk.outer, wanted)
    return replace(tile, depth=depth, band=max(1, min(tiles, SUMS_BYTES // row)))


def _divisor(count: int, most: int) -> int:
    """Return the largest divisor of `count` that is not above `most`; 1 of none."""
    return next((d for d in range(min(most, count), 0, -1) if count % d == 0), 1)


def _pixels(op: Conv2d, blocks: int, target: CpuTarget) -> Tile:
    """Return the cheapest tile of so many vectors of outputs."""
    width, height = op.out_width, op.out_height
    room = target.room(blocks)
    if width * 2 <= room:
        return Tile(blocks, width, min(height, room // width))
    tiles = [Tile(blocks, columns) for columns in range(min(room, width), 0, -1)]
    return min(tiles, key=lambda tile: _cost(op, target, tile))


def _cost(op: Conv2d, target: CpuTarget, tile: Tile) -> float:
    """Return what a step of the reduction costs for all pixels, in multiply-adds of vectors.

    A tile costs its multiply-adds (eight are needed to hide their latency), half of one for each
    operand that it loads, and one for the loop.
    """
    total = 0.0
    for _, down, high in segments(op.out_height, tile.rows):
        for _, across, wide in segments(op.out_width, tile.columns):
            sums = tile.blocks * high * wide
            total += down * across * (max(sums, 8) + (tile.blocks + high * wide) / 2 + 1)
    return total


def segments(total: int, step: int) -> list[tuple[int, int, int]]:
    """Split `total` into (first, count, step) runs: whole steps, then one shorter rest."""
    whole, rest = divmod(total, step)
    runs = [(0, whole, step)] if whole else []
    return [*runs, (whole * step, 1, rest)] if rest else runs


def equal_segments(total: int, most: int) -> list[tuple[int, int, int]]:
    """Split `total` into (first, count, step) runs of steps up to `most`, as equal as can be."""
    steps = -(-total // most)
    least, longer = divmod(total, steps)
    runs = [(0, longer, least + 1)] if longer else []
    return [*runs, (longer * (least + 1), steps - longer, least)]
