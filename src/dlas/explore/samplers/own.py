"""The sampler of this project: the whole space valued, and the stack that promises most taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlas.core.goals import Goals
from dlas.core.sampler import Sampler, StackSpace
from dlas.explore.anova import Floats
from dlas.explore.outlook import Outlook
from dlas.explore.sought import Sought
from dlas.explore.start import starting

NOTHING = 1e-12
"""An expected gain below this is none."""


class Own(Sampler):
    """A design to begin with; then expected gain of hypervolume per second, over all stacks."""

    def __init__(self, candidates: StackSpace, goals: Goals, seed: int) -> None:
        super().__init__(candidates, goals, seed)
        self._start = starting(candidates, seed)

    def outlook(self) -> Outlook:
        """Return what is believed now."""
        heard = {each.at for each in self.told}
        pending = sorted(self.named - heard)
        return Outlook(self.candidates, Sought(self.goals), self.told, pending, self.seed)

    def choose(self, costs: Sequence[float] | None) -> int:
        """Return the next of the design, else the stack of the largest expected gain."""
        for at in self._start:
            if at not in self.named:
                return at
        found = self.outlook()
        left = np.array(self.left)
        if not found.complete:
            return int(np.random.default_rng([self.seed, len(self.named)]).choice(left))
        return int(left[np.argmax(self._worth(found)[left] / self._seconds(costs)[left])])

    def _worth(self, found: Outlook) -> Floats:
        left = self.left
        for worth in (found.gain, found.joins(0.0)):
            if worth[left].max() > NOTHING:
                return worth
        # Nothing is expected to gain: look where the least is known among what could.
        unsure = np.sum([belief.sd for belief in found.metrics], axis=0)
        return np.asarray(unsure * np.maximum(found.allowed, NOTHING))

    def _seconds(self, costs: Sequence[float] | None) -> Floats:
        if costs is None:
            return np.ones(len(self.candidates))
        return np.asarray(np.maximum(np.asarray(costs, float), 1e-9))
