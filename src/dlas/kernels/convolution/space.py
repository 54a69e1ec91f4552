"""Which values a template's knobs may take: the space in which tuning looks for a schedule."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from dlas.kernels.code.register_tile import Tile
from dlas.kernels.code.walk import Channels
from dlas.kernels.ground.knobs import Knobs
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

Values = dict[str, tuple[int, ...]]
Fits = Callable[[Mapping[str, int]], bool]

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
CHANNELS = (4, 8, 12, 16, 24, 32, 48, 64, 128, 256)
DEPTHS = (1, 2, 4, 8, 16)
"""Input blocks of a pass of `spatial-pack`."""
PANEL_FLOATS = 1 << 21
"""A panel of patches larger than 8 MB is not tried."""


@dataclass(frozen=True)
class Space:
    """The settings of one template for one operator."""

    values: Mapping[str, tuple[int, ...]]
    """The values of each knob, ascending."""
    fixed: Mapping[str, int]
    """What the fixed schedule sets them to: always a candidate."""
    fits: Fits

    @classmethod
    def of(
        cls, values: Mapping[str, Iterable[int]], fixed: Mapping[str, int], fits: Fits
    ) -> "Space":
        """Return the space of these values, in any order, and of the fixed ones."""
        every = {n: tuple(sorted({*v, fixed[n]})) for n, v in values.items()}
        return cls(every, fixed, fits)

    @cached_property
    def settings(self) -> tuple[Knobs, ...]:
        """Return every setting that fits, the fixed one first."""
        names = sorted(self.values)
        every = (
            dict(zip(names, each, strict=True))
            for each in itertools.product(*(self.values[n] for n in names))
        )
        found = [Knobs.of(s) for s in every if self.fits(s)]
        first = Knobs.of(self.fixed)
        return (first, *(s for s in found if s != first))

    def neighbours(self, setting: Knobs) -> list[Knobs]:
        """Return the settings that differ in one knob, by the next value that fits either way."""
        found, now = [], setting.as_dict()
        for name, values in self.values.items():
            at = values.index(now[name])
            for way in (values[:at][::-1], values[at + 1 :]):
                moved = ({**now, name: value} for value in way)
                near = next((m for m in moved if self.fits(m)), None)
                if near is not None:
                    found.append(Knobs.of(near))
        return found


def room(cpu: CpuTarget) -> int:
    """Accumulators that a tile may try to hold: two registers are left for operands."""
    return cpu.registers - 2


def holds(held: int, fixed: int, cpu: CpuTarget) -> bool:
    """Return whether registers hold a tile, and enough: half of the fixed one hides latency."""
    return held <= room(cpu) and 2 * held >= fixed


def up_to(most: int, counts: tuple[int, ...] = COUNTS) -> tuple[int, ...]:
    """Return the counts that are not above `most`."""
    return tuple(c for c in counts if c <= most)


def row_values(op: Conv2d, group: int = 1) -> Values:
    """Return the values of the two knobs of a tile of rows (see `pixel_rows`).

    Rows are multiples of `group`, the channels that are stored together.
    """
    most = max(group, min(14, op.out_channels // op.groups))
    return {
        "rows": tuple(range(group, most + 1, group)),
        "vectors": tuple(range(1, 9)),
    }


def rows_fit(s: Mapping[str, int], fixed: Mapping[str, int], cpu: CpuTarget) -> bool:
    """Return whether registers hold a tile of rows, and enough of it."""
    return holds(s["rows"] * s["vectors"], fixed["rows"] * fixed["vectors"], cpu)


def tiles(
    op: Conv2d, cpu: CpuTarget, tile: Tile, walk: Channels, most_depth: int | None = None
) -> Space:
    """Return the space of the tiles of a kernel on blocked channels.

    Args:
        op: the convolution over elements.
        cpu: the CPU.
        tile: the fixed tile.
        walk: how its input channels are walked.
        most_depth: input blocks of a pass where sums are in float16, of which a register holds
            twice as many.
    """
    fixed, wide = asdict(tile), 1 if most_depth is None else 2
    fixed_held = -(-tile.blocks // wide) * tile.columns * tile.rows
    blocks = up_to(min(8, -(-op.out_channels // cpu.lanes)))
    if op.groups > 1:
        # Neighbouring blocks must read the same input channels.
        per_group = op.out_channels // op.groups // cpu.lanes
        blocks = tuple(b for b in blocks if walk.blocked and per_group % b == 0) or (1,)
    depths = [d for d in DEPTHS if d < walk.outer and walk.outer % d == 0]
    passes = [0, *depths] if most_depth is None else [d for d in depths if d <= most_depth]
    values = {
        "blocks": blocks,
        "columns": tuple(range(1, min(room(cpu), op.out_width) + 1)),
        "rows": up_to(min(4, op.out_height)),
        "depth": passes if walk.blocked else [0],
        "band": up_to(min(16, op.out_height), (1, 2, 4, 8, 16)),
    }

    def fits(s: Mapping[str, int]) -> bool:
        held = -(-s["blocks"] // wide) * s["columns"] * s["rows"]
        # Bands of several rows serve passes only.
        return holds(held, fixed_held, cpu) and (s["depth"] > 0 or s["band"] == 1)

    return Space.of(values, fixed, fits)
