"""How `winograd` cuts a convolution: outputs into tiles, tiles into register tiles and chunks."""

from dataclasses import dataclass

import numpy as np

from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.numbers import FLOAT32, Numbers
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

CACHED_FILTERS_BYTES = 3 << 19
"""Up to this, filters stay in the second-level cache from one chunk of tiles to the next."""
CHUNK_BYTES, MOST_CHUNK_BYTES = 3 << 16, 8 << 20
"""Transformed inputs and sums of a chunk, beside such filters, and the most beside larger ones."""
LARGE_FILTERS_BYTES, FEW_TILES = 8 << 20, 30
"""Larger filters come from beyond the caches: for few tiles, reading F(4x4)'s takes longer than
the multiplications that F(2x2) has in addition, whose filters are less than half."""


def default_outputs(op: Conv2d, dtype: str = "float32") -> int:
    """Return m, the outputs a tile has on a side: the fixed rule.

    Transformed filters that are stored in bfloat16 leave F(4x4) too few digits.
    """
    if dtype == "bfloat16":
        return 2
    filters = 36 * 4 * op.in_channels * op.out_channels
    tiles = op.batch * -(-op.out_height // 4) * -(-op.out_width // 4)
    small = max(op.out_height, op.out_width) <= 2
    return 2 if small or (filters > LARGE_FILTERS_BYTES and tiles < FEW_TILES) else 4


@dataclass(frozen=True)
class WinogradTiles:
    """The cut of one convolution by F(m x m, 3 x 3)."""

    op: Conv2d
    target: CpuTarget
    threads: int
    inp: Layout
    out: Layout
    epilogue: Epilogue
    m: int
    knobs: Knobs = FIXED
    numbers: Numbers = FLOAT32

    @property
    def side(self) -> int:
        """Inputs a tile has on a side."""
        return self.m + 2

    @property
    def blocks(self) -> tuple[int, int]:
        """Channel blocks of the input and of the output."""
        lanes = self.target.lanes
        return (-(-self.op.in_channels // lanes), -(-self.op.out_channels // lanes))

    @property
    def group(self) -> int:
        """Output blocks that a register tile holds."""
        return self.knobs.get("blocks", self._tile()[0])

    def _tile(self) -> tuple[int, int]:
        """Return the fixed register tile: output blocks and tiles.

        The cost of a step is its multiply-adds (eight are needed to hide their latency), one more
        for each vector of filters, which come from the second-level cache, and seven
        sixteenths for each input; tiles past the last one are computed in vain.
        """
        tiles = self.grid[0] * self.grid[1]
        most = 4 if self.target.registers >= 32 else 2

        def cost(tile: tuple[int, int]) -> float:
            blocks, columns = tile
            step = max(blocks * columns, 8) + blocks + columns * 7 / 16
            return -(-tiles // columns) * step / blocks

        shapes = [
            (blocks, columns)
            for blocks in range(most, 0, -1)
            if self.blocks[1] % blocks == 0
            for columns in range(min(tiles, self.target.room(blocks)), 0, -1)
        ]
        return min(shapes, key=cost)

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles down and across."""
        return (-(-self.op.out_height // self.m), -(-self.op.out_width // self.m))

    @property
    def columns(self) -> int:
        """Tiles that a register tile holds."""
        fixed = self._tile()[1]
        if "blocks" in self.knobs.as_dict():
            fixed = self.target.room(self.group)
        return min(self.grid[0] * self.grid[1], self.knobs.get("columns", fixed))

    @property
    def steps(self) -> int:
        """Register tiles that hold all tiles of an image."""
        return -(-self.grid[0] * self.grid[1] // self.columns)

    @property
    def chunk(self) -> int:
        """Tiles that go through the three steps together: whole register tiles."""
        per_step = self.columns * self.side**2 * sum(self.blocks) * self.target.lanes * 4
        # Every chunk reads all filters once: large filters want few chunks.
        large = self.filter_bytes > CACHED_FILTERS_BYTES
        budget = min(self.filter_bytes, MOST_CHUNK_BYTES) if large else CHUNK_BYTES
        chunks = -(-self.steps // max(1, budget // per_step))
        if not self.by_outputs:  # a chunk is a job
            chunks = min(self.steps, -(-chunks // self.threads) * self.threads)
        return self.columns * self.knobs.get("passes", -(-self.steps // chunks))

    @property
    def filter_bytes(self) -> int:
        """Bytes of the transformed filters."""
        each = np.dtype(self.numbers.filters).itemsize
        return self.side**2 * self.blocks[0] * self.blocks[1] * self.target.lanes**2 * each

    @property
    def by_outputs(self) -> bool:
        """Whether threads share the output channels instead of the tiles: if these are few.

        Threads that share tiles depend on nothing; those that share channels wait for each other
        and fetch what another has transformed, which costs more than that each reads all filters.
        """
        fixed = self.threads > 1 and self.steps < self.threads
        return bool(self.knobs.get("by_outputs", fixed))

    def stride(self, blocks: int) -> int:
        """Vectors from one point to the next: odd, so that points spread over a cache's sets."""
        return blocks * self.chunk | 1
