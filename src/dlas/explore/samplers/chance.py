"""Chance: what every sampler has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlas.core.goals import Goals
from dlas.core.sampler import Sampler, StackSpace


class Chance(Sampler):
    """Every stack with the same probability."""

    def __init__(self, candidates: StackSpace, goals: Goals, seed: int) -> None:
        super().__init__(candidates, goals, seed)
        self._order = np.random.default_rng(seed).permutation(len(candidates)).tolist()

    def choose(self, costs: Sequence[float] | None) -> int:
        """Return the next in an order drawn once."""
        return next(int(at) for at in self._order if at not in self.named)
