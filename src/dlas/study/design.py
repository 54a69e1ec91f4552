"""Which stacks: full factorial, one at a time around a base, random, few that tell most, a list.

A *factor* is a layer or one of its sub-layers with the levels it can take; a design is an order of
stacks, one level of each factor in each. The order follows the file: the last factor turns
quickest. Two combinations that come to the same stack are one.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlas.core.stack import LAYERS, Choice, Stack

if TYPE_CHECKING:
    from dlas.study.screening import Codes

NEUTRAL = "none"
"""The name of a step that changes nothing: it vanishes from a pipeline of several steps."""

DRAWS_PER_STACK = 1000
"""How many combinations a random design tries for each stack asked before it gives up."""


@dataclass(frozen=True)
class Level:
    """One setting of a factor: a pipeline of choices."""

    steps: tuple[Choice, ...]

    @property
    def text(self) -> str:
        """The canonical text, steps joined by ``+``."""
        return "+".join(step.text for step in self.steps)


@dataclass(frozen=True)
class Factor:
    """A layer, or a sub-layer of it, with its levels in the order written."""

    layer: str
    sublayer: str
    levels: tuple[Level, ...]

    @property
    def column(self) -> str:
        """The column this factor is: ``layer`` or ``layer.sublayer``."""
        return f"{self.layer}.{self.sublayer}" if self.sublayer else self.layer


def size(factors: Sequence[Factor]) -> int:
    """Return the number of combinations of a full factorial."""
    return math.prod(len(factor.levels) for factor in factors)


def pipeline(steps: Iterable[Choice]) -> tuple[Choice, ...]:
    """Return steps without those that change nothing, unless there are no others."""
    given = tuple(steps)
    kept = tuple(step for step in given if step.name != NEUTRAL)
    return kept or given[:1]


def combine(factors: Sequence[Factor], levels: Sequence[Level]) -> Stack:
    """Return the stack that one level of each factor makes."""
    steps: dict[str, list[Choice]] = {layer: [] for layer in LAYERS}
    sublayers: dict[str, str] = {}
    for factor, level in zip(factors, levels, strict=True):
        steps[factor.layer] += level.steps
        if factor.sublayer:
            sublayers[factor.column] = level.text
    chosen = {layer: pipeline(steps[layer]) for layer in LAYERS}
    return Stack(**chosen, sublayers=sublayers)


def full(factors: Sequence[Factor]) -> Iterator[Stack]:
    """Yield every combination."""
    for levels in itertools.product(*(factor.levels for factor in factors)):
        yield combine(factors, levels)


def one_at_a_time(factors: Sequence[Factor], base: Sequence[Level]) -> Iterator[Stack]:
    """Yield the base, then each stack that differs from it in one factor."""
    yield combine(factors, base)
    for at, factor in enumerate(factors):
        for level in factor.levels:
            if level != base[at]:
                yield combine(factors, [*base[:at], level, *base[at + 1 :]])


def draw(
    factors: Sequence[Factor], n: int, seed: int, keep: Callable[[Stack], bool]
) -> Iterator[Stack]:
    """Yield ``n`` different stacks that ``keep`` accepts, drawn evenly from all of them.

    Fewer where there are fewer. The same seed gives the same stacks on every machine, and a
    larger ``n`` only adds to them.
    """
    source = random.Random(seed)
    total = size(factors)
    seen: set[int] = set()
    cells: set[str] = set()
    for _ in range(DRAWS_PER_STACK * n):
        if len(cells) == n or len(seen) == total:
            return
        at = source.randrange(total)
        if at in seen:
            continue
        seen.add(at)
        stack = combine(factors, _levels(factors, at))
        if stack.cell not in cells and keep(stack):
            cells.add(stack.cell)
            yield stack


def screened(
    factors: Sequence[Factor],
    keep: Callable[[Stack], bool],
    choose: Callable[[Codes], Sequence[int]],
    most: int,
) -> Iterator[Stack]:
    """Yield the stacks that ``choose`` names among those that ``keep`` accepts.

    ``choose`` is given the level of each factor in each of them; where the full factorial has
    more than ``most`` combinations, in so many that are drawn.
    """
    import numpy as np

    total = size(factors)
    drawn = range(total) if total <= most else _drawn(total, most)
    stacks: list[Stack] = []
    codes: list[list[int]] = []
    cells: set[str] = set()
    for at in drawn:
        digits = _digits(factors, at)
        stack = combine(factors, [f.levels[d] for f, d in zip(factors, digits, strict=True)])
        if stack.cell not in cells and keep(stack):
            cells.add(stack.cell)
            stacks.append(stack)
            codes.append(digits)
    if stacks:
        yield from (stacks[at] for at in choose(np.array(codes, dtype=np.int64)))


def _drawn(total: int, most: int) -> Iterator[int]:
    source = random.Random(0)
    return iter(sorted({source.randrange(total) for _ in range(most)}))


def _digits(factors: Sequence[Factor], at: int) -> list[int]:
    digits: list[int] = []
    for factor in reversed(factors):
        at, digit = divmod(at, len(factor.levels))
        digits.append(digit)
    return digits[::-1]


def _levels(factors: Sequence[Factor], at: int) -> list[Level]:
    digits = _digits(factors, at)
    return [factor.levels[digit] for factor, digit in zip(factors, digits, strict=True)]


def distinct(stacks: Iterable[Stack]) -> Iterator[Stack]:
    """Yield each stack once, the first time it comes."""
    cells: set[str] = set()
    for stack in stacks:
        if stack.cell not in cells:
            cells.add(stack.cell)
            yield stack
