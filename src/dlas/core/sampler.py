"""Which stack to measure next: the finite space a sampler chooses from, and what it implements.

The space is all stacks of a study, known beforehand: a sampler names places in it. Values are
told in the unit of their column; a sampler may be asked again at any time for more. A sampler is
found by the entry-point group ``dlas.sampler``; :func:`dlas.testing.sampler_contract` checks one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from dlas.core.goals import Goals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """A factor of the space: its levels; ``positions`` (0 to 1) where their distance counts."""

    name: str
    levels: tuple[str, ...]
    positions: tuple[float, ...] | None = None


@dataclass(frozen=True)
class StackSpace:
    """All stacks of a study, and what is known of each before it is measured."""

    axes: tuple[Axis, ...]
    codes: Codes
    """``(n, axes)``: which level each stack has."""
    known: NDArray[np.float64] | None = None
    """``(n, k)``: figures that are known beforehand (log MACs, log bytes), or None."""
    shared: Mapping[str, Codes] = field(default_factory=dict)
    """Column -> ``(n,)``: stacks with the same number have the same value of this column."""

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Told:
    """What was measured of one stack; ``values`` is None where it failed."""

    at: int
    values: Mapping[str, float] | None


class Sampler:
    """Chooses stacks, one batch after the other.

    The same seed, asked and told the same in the same order, names the same stacks: an exploration
    that was killed is taken up by asking a new sampler as the old one was asked, and telling it
    what is known already. A sampler never names a stack that it was told of, nor one twice.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    """Modules that must be importable."""

    def __init__(self, candidates: StackSpace, goals: Goals, seed: int) -> None:
        """Goals are over columns; those to be minimized or maximized and limits are told."""
        self.candidates = candidates
        self.goals = goals
        self.seed = seed
        self.told: list[Told] = []
        self.named: set[int] = set()

    @property
    def left(self) -> list[int]:
        """The stacks that were neither named nor told of."""
        return [at for at in range(len(self.candidates)) if at not in self.named]

    def ask(self, most: int, costs: Sequence[float] | None = None) -> list[int]:
        """Return up to ``most`` stacks to measure next; none where nothing is left.

        ``costs``: the seconds that each stack of the space is expected to take.
        """
        named: list[int] = []
        while len(named) < min(most, len(self.candidates)) and self.left:
            at = self.choose(costs)
            self.named.add(at)
            named.append(at)
        return named

    def tell(self, told: Told) -> None:
        """Take in what was measured of a stack, whether it was asked for or not."""
        self.told.append(told)
        self.named.add(told.at)

    def choose(self, costs: Sequence[float] | None) -> int:
        """Return one stack of :attr:`left`, which is not empty."""
        raise NotImplementedError
