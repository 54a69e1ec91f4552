"""Which tiles a convolution reads and writes where the lanes of a vector are tiles."""

from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import Layout, Tiling
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


def written(op: Conv2d, target: CpuTarget, knobs: Knobs = FIXED) -> Layout:
    """Return the layout of the output: the grid whose tiles overhang least, near a square."""
    lanes = target.lanes
    grids = [(1 << i, lanes >> i) for i in range(lanes.bit_length())]

    def cost(grid: tuple[int, int]) -> tuple[int, int]:
        rows, columns = tile_of(op, grid)
        return rows * columns, abs(grid[0] - grid[1])

    down = knobs.get("down", min(grids, key=cost)[0])
    grid = (down, lanes // down)
    return Layout(tiling=Tiling(grid, tile_of(op, grid)))


def tile_of(op: Conv2d, grid: tuple[int, int]) -> tuple[int, int]:
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
