"""What is believed of every stack, given what was told: values, limits, and whether it works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dlas.core.sampler import StackSpace, Told
from dlas.explore import improvement
from dlas.explore.anova import Floats
from dlas.explore.belief import believe
from dlas.explore.improvement import Boxes
from dlas.explore.sought import MetricScale, Sought
from dlas.explore.surrogate import Beliefs

BEYOND = 0.1
"""How far beyond the worst of the front the reference lies, as a share of the front's range."""
LEAST_CHANCE = 0.02


@dataclass(frozen=True)
class Outlook:
    """Beliefs of all stacks; ``pending`` ones were named and not told: taken as believed."""

    candidates: StackSpace
    sought: Sought
    told: Sequence[Told]
    pending: Sequence[int] = ()
    seed: int = 0
    _beliefs: dict[str, Beliefs] = field(default_factory=dict, repr=False)

    @cached_property
    def complete(self) -> list[Told]:
        """What was measured and worked."""
        return [each for each in self.told if each.values is not None]

    def scale(self, column: str) -> MetricScale:
        """Return how a column is modelled."""
        return MetricScale.of([each.values[column] for each in self.complete if each.values])

    def belief(self, column: str) -> Beliefs:
        """Return what is believed of a column, on its scale; what was told is certain."""
        if column not in self._beliefs:
            self._beliefs[column] = self._believed(column)
        return self._beliefs[column]

    def _believed(self, column: str) -> Beliefs:
        at = np.array([each.at for each in self.complete])
        raw = np.array([each.values[column] for each in self.complete if each.values])
        values = self.scale(column).to(raw)
        found = believe(self.candidates, at, values, self.seed)
        if len(self.pending):
            more = np.asarray(self.pending)
            both = np.concatenate([values, found.mean[more]])
            found = believe(self.candidates, np.concatenate([at, more]), both, self.seed)
        mean, sd = found.mean.copy(), found.sd.copy()
        groups = self.candidates.shared.get(column)
        for place, value in zip(at, values, strict=True):
            same = place if groups is None else groups == groups[place]
            mean[same], sd[same] = value, 0.0
        return Beliefs(mean, sd)

    # ------------------------------------------------------------ limits and failures

    @cached_property
    def allowed(self) -> Floats:
        """The probability that each stack works and meets every limit."""
        found = self._works()
        for column, sign, bound in self.sought.limits:
            belief = self.belief(column)
            end = sign * float(self.scale(column).to(np.array([bound]))[0])
            found = found * improvement.chance(Beliefs(sign * belief.mean, belief.sd), end)
        return found

    def _works(self) -> Floats:
        """Return the probability that a stack works: least squares on what worked and failed."""
        everything = np.ones(len(self.candidates))
        failed = [each.at for each in self.told if each.values is None]
        if not failed:
            return everything
        at = np.array([each.at for each in self.told])
        worked = np.array([float(each.values is not None) for each in self.told])
        if not worked.any():
            return everything
        found = np.clip(believe(self.candidates, at, worked, self.seed).mean, LEAST_CHANCE, 1.0)
        found[failed] = 0.0
        return np.asarray(found)

    # ------------------------------------------------------------ the front

    @cached_property
    def metrics(self) -> list[Beliefs]:
        """Beliefs of the metrics sought, each to be minimized."""
        believed = ((self.belief(column), sign) for column, sign in self.sought.metrics)
        return [Beliefs(sign * belief.mean, belief.sd) for belief, sign in believed]

    @cached_property
    def means(self) -> Floats:
        """The expected values of the metrics, ``(n, metrics)``."""
        return np.stack([belief.mean for belief in self.metrics], axis=1)

    @cached_property
    def measured(self) -> Floats:
        """The values of the stacks that work and meet the limits."""
        good = [e.at for e in self.complete if e.values and self.sought.meets(e.values)]
        return self.means[good]

    @cached_property
    def reference(self) -> Floats:
        """The point from which volume counts: beyond the worst of the front.

        Of the front so far, and of the one that is expected.
        """
        likely = self.means[self.allowed >= 0.5]
        if not len(likely):
            likely = self.means
        edges = [likely[improvement.front(likely)]]
        if len(self.measured):
            edges.append(self.measured[improvement.front(self.measured)])
        return beyond(np.concatenate(edges), likely)

    @cached_property
    def boxes(self) -> Boxes:
        """What the front so far leaves free."""
        return improvement.free(self.measured, self.reference)

    @cached_property
    def gain(self) -> Floats:
        """The volume that each stack is expected to add."""
        return improvement.expected(self.metrics, self.boxes) * self.allowed

    def joins(self, floor: float) -> Floats:
        """Return the probability that each stack joins the front by more than ``floor``.

        ``floor`` is a ratio less 1; where a metric has no logarithm it does not count.
        """
        by = np.array([
            np.log1p(floor) if self.scale(c).logarithm else 0.0 for c, _ in self.sought.metrics
        ])  # fmt: skip
        far = np.full(len(by), np.inf)
        boxes = improvement.free(self.measured - by, far)
        return improvement.inside(self.metrics, boxes) * self.allowed


def beyond(points: Floats, among: Floats) -> Floats:
    """Return the reference point of a front: its worst, and 10 % of its range more.

    Where a front has no range, that of ``among`` counts.
    """
    worst, spread = points.max(0), points.max(0) - points.min(0)
    spread = np.where(spread > 0, spread, np.ptp(among, axis=0))
    return np.asarray(worst + BEYOND * np.where(spread > 0, spread, 1.0))
