"""How tuning draws candidates: in turns at random and beside the best seen so far."""

import random
from collections.abc import Mapping

from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.knobs import Knobs

ELITE = 3
"""The settings whose neighbours are tried."""


class Search:
    """A random and a local search in turns: reproducible by its seed and what it is told.

    The first candidate is the fixed setting, then every other one is drawn at random and the
    others are neighbours of the best: the fixed rule is good, so few trials do well to stay near
    it, and the random half leads away from it. A setting is drawn once; when nothing is left,
    nothing is drawn.
    """

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        self.space, self.trials = space, trials
        self._random = random.Random(seed)
        self._drawn: list[Knobs] = []
        rest = list(space.settings[1:])
        self._random.shuffle(rest)
        self._rest = [*rest[::-1], space.settings[0]]

    def draw(self, count: int, seconds: Mapping[Knobs, float]) -> list[Knobs]:
        """Return at most `count` new settings, given the seconds of those measured so far."""
        found: list[Knobs] = []
        while len(found) < count and len(self._drawn) < self.trials:
            setting = self._local(seconds) if len(self._drawn) % 2 else None
            setting = setting or self._at_random()
            if setting is None:
                break
            self._drawn.append(setting)
            found.append(setting)
        return found

    def _at_random(self) -> Knobs | None:
        while self._rest:
            setting = self._rest.pop()
            if setting not in self._drawn:
                return setting
        return None

    def _local(self, seconds: Mapping[Knobs, float]) -> Knobs | None:
        """Return a neighbour of one of the best that was not drawn yet, None if there is none."""
        for best in sorted(seconds, key=lambda s: seconds[s])[:ELITE]:
            near = [s for s in self.space.neighbours(best) if s not in self._drawn]
            if near:
                return self._random.choice(near)
        return None
