"""Walks through the stacks of one context: one layer at a time, each on its own, or all together.

A stack is the row of a table; its place is the level of every free layer. A *step* takes one group
of layers (one layer, or two moved as one) to its best candidate, the others as they stand. What
stands is left only for what is better by more than the floor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dlas.analyze.estimate.levels import Floats, Ints

Place = tuple[str, ...]
"""The level of every free layer."""
Group = tuple[int, ...]
"""Which free layers move as one, by number."""
Floor = Callable[[int, int], float]
"""The least difference of two rows, on the log scale, that is no tie."""


@dataclass(frozen=True)
class Ground:
    """The stacks of a context, and what is known of them when choices are made."""

    row_of: Mapping[Place, int]
    """Every stack of the context that the table has, complete or not."""
    candidates: Mapping[int, Place]
    """The rows that may be chosen: complete, with a value, within the goals."""
    value: Floats
    """By row, on the log scale; less is better."""
    floor: Floor
    steps: dict[tuple[int, Group], int] = field(default_factory=dict)
    """The steps taken so far: they are the same in many orders."""

    @cached_property
    def place_of(self) -> Mapping[int, Place]:
        """The place of every row."""
        return {row: place for place, row in self.row_of.items()}

    @cached_property
    def joint(self) -> int:
        """The best of all candidates."""
        return self._ranked[0][0]

    @cached_property
    def _ranked(self) -> tuple[list[int], Ints, list[dict[str, int]]]:
        """The candidates, the best first; by layer their levels as numbers, and what these are."""
        rows = sorted(self.candidates, key=lambda row: (float(self.value[row]), row))
        columns = list(zip(*(self.candidates[row] for row in rows), strict=True))
        numbers = [{level: n for n, level in enumerate(dict.fromkeys(c))} for c in columns]
        codes = [[known[s] for s in c] for known, c in zip(numbers, columns, strict=True)]
        return rows, np.array(codes, dtype=np.int64), numbers

    def kept(self, stands: int, other: int) -> bool:
        """Say whether what stands is left alone: no worse than the other by more than a tie."""
        if stands not in self.candidates:
            return False
        gain = float(self.value[stands] - self.value[other])
        return gain <= self.floor(stands, other)

    def step(self, row: int, group: Group) -> int:
        """Take one group of layers to its best candidate; without a better one the row stays."""
        known = self.steps.get((row, group))
        if known is None:
            known = self.steps[row, group] = self._step(row, group)
        return known

    def _step(self, row: int, group: Group) -> int:
        rows, codes, numbers = self._ranked
        near = np.ones(len(rows), dtype=bool)
        for i, level in enumerate(self.place_of[row]):
            if i not in group:
                near &= codes[i] == numbers[i].get(level, -1)
        first = int(near.argmax())
        if not near[first]:
            return row
        best = rows[first]
        return row if best == row or self.kept(row, best) else best

    def arrivals(self, start: int, groups: Sequence[Group]) -> Counter[int]:
        """Return where one pass over the groups ends, with the number of orders that end there."""
        memory: dict[tuple[int, int], dict[int, int]] = {}
        ordered = sorted(groups)

        def after(row: int, left: int) -> dict[int, int]:
            """Return the same for the groups whose bits are set."""
            if not left:
                return {row: 1}
            if (row, left) not in memory:
                total: dict[int, int] = {}
                for i, group in enumerate(ordered):
                    if left >> i & 1:
                        for end, n in after(self.step(row, group), left & ~(1 << i)).items():
                            total[end] = total.get(end, 0) + n
                memory[row, left] = total
            return memory[row, left]

        return Counter(after(start, (1 << len(ordered)) - 1))

    def separate(self, start: int, groups: Sequence[Group]) -> Place:
        """Return the place that the best of every layer, each found from the start, make."""
        place = list(self.place_of[start])
        for group in groups:
            for i in group:
                place[i] = self.place_of[self.step(start, group)][i]
        return tuple(place)


def ends(ground: Ground, arrived: Counter[int]) -> tuple[tuple[int, int], int]:
    """Return the rows in the middle of the orders (the same twice, or two) and the worst one.

    Orders are ranked by what is known when choices are made, never by what is read of them.
    """
    rows = sorted(arrived, key=lambda row: (float(ground.value[row]), row))
    until = np.cumsum([arrived[row] for row in rows])
    total = int(until[-1])
    middle = [
        int(np.searchsorted(until, at, side="right")) for at in ((total - 1) // 2, total // 2)
    ]
    return (rows[middle[0]], rows[middle[1]]), rows[-1]
