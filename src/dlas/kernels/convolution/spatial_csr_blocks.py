"""How `spatial-pack` with CSR weights cuts a tile: pixels into blocks, channels into sweeps."""

import math
from dataclasses import dataclass

from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.register_tile import segments
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import Layout, Tiling
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

WINDOW_BYTES = 36 << 10
"""What a block reads of the input channels of one sweep."""
LEAST_CHANNELS = 8
"""With less a sweep loads and stores more sums than it multiplies."""
LEAST_BLOCK = 8
"""With fewer sums a multiply-add waits for the one before it."""
SUMS_BYTES = 512 << 10
"""Sums that wait between sweeps: they go through the second-level cache."""
Segment = tuple[int, int, int]
"""First, count and step of a run of equal blocks."""


def block_of(tile: tuple[int, int], most: int) -> tuple[int, int]:
    """Return rows and columns of equal blocks of a tile, of at most so many vectors."""
    rows, columns = tile
    if columns > most:
        columns = -(-columns // -(-columns // most))
    rows = min(rows, max(1, most // columns))
    return -(-tile[0] // -(-tile[0] // rows)), columns


@dataclass(frozen=True)
class SpatialCsrBlocks:
    """The cut of one sparse convolution, tiles to tiles."""

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
        """Vectors that a block may have: fewer with strides, whose windows are wider."""
        room = 24 if self.target.registers >= 32 else 12
        strides = self.op.stride[0] * self.op.stride[1]
        return self.knobs.get("most", max(room // strides, LEAST_BLOCK))

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a tile that are summed together."""
        return block_of(self.tile, self.most)

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
    def rows(self) -> list[Segment]:
        """Runs of blocks of equal height, from the top of a tile to its bottom."""
        return segments(self.tile[0], self.block[0])

    @property
    def chunks(self) -> int:
        """Parts of the blocks, each a job of its own; all threads must get as many."""
        (_, count, _), *rest = self.rows
        return 1 if rest or self.threads == 1 else math.gcd(count, self.threads)

    @property
    def parts(self) -> int:
        """Parts of the output channels, each a job of its own: each reads the pixels again."""
        fixed = self.threads // self.chunks
        return min(self.op.out_channels, self.knobs.get("parts", fixed))

    @property
    def part(self) -> int:
        """Output channels of one job."""
        return -(-self.op.out_channels // self.parts)

    def _band(self, count: int) -> int:
        """Return how many of `count` blocks, one below the other, a sweep goes through."""
        each = self.part * self.block[0] * self.tile[1] * self.target.lanes * 4
        fitting = [n for n in range(1, count + 1) if count % n == 0 and n * each <= SUMS_BYTES]
        return max(fitting, default=1)

    @property
    def _plane(self) -> int:
        """Vectors of one input channel."""
        _, _, high, wide, _ = self.inp.shape(self.op.in_shape)
        return high * wide

    @property
    def _offsets(self) -> str:
        """Type of the offsets: they count vectors from the first channel of a sweep."""
        return "uint16" if self.channels * self._plane <= 1 << 16 else "int32"
