"""An exploration played on a finished table: samplers side by side, each against the whole truth.

Hypervolume is taken on logarithms, over the stacks that meet the limits; its reference point is
each metric's worst on the full table's front and 10 % of the front's range more. With one metric
there is only the regret: value over best, less 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
from numpy.typing import NDArray

from dlas.core.goals import Goals
from dlas.core.keys import Json
from dlas.core.sampler import Sampler, StackSpace, Told
from dlas.explore import improvement
from dlas.explore.allowance import Allowance
from dlas.explore.anova import Floats
from dlas.explore.belief import believe
from dlas.explore.outlook import beyond
from dlas.explore.sought import MetricScale, Sought

ENOUGH = 0.99
"""The share of the hypervolume that counts as found; of one metric a regret of 1 %."""
CLOSE = 0.01


@dataclass(frozen=True)
class Finished:
    """A table of which every stack was measured; NaN: it failed."""

    candidates: StackSpace
    goals: Goals
    values: Mapping[str, Floats]
    cells: tuple[str, ...] = ()
    """The hash of each stack; none for anyone's table."""

    @cached_property
    def sought(self) -> Sought:
        """The goals as signs and limits."""
        return Sought(self.goals)

    def told(self, at: int) -> Told:
        """Return what a sampler is told of a stack."""
        found = {column: float(self.values[column][at]) for column in self.sought.columns}
        failed = any(math.isnan(value) for value in found.values())
        return Told(at, None if failed else found)

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """Which stacks work and meet the limits."""
        every = (self.told(at).values for at in range(len(self.candidates)))
        return np.array([v is not None and self.sought.meets(v) for v in every])

    @cached_property
    def works(self) -> NDArray[np.bool_]:
        """Which stacks work."""
        finite = [np.isfinite(self.values[c]) for c in self.sought.columns]
        return np.asarray(np.all(finite, axis=0))

    def scale(self, column: str) -> MetricScale:
        """Return how a column is compared."""
        return MetricScale.of(self.values[column][self.works].tolist())

    @cached_property
    def points(self) -> Floats:
        """The metrics, each to be minimized, on their scales: ``(n, metrics)``."""
        columns = [
            sign * self.scale(column).to(np.where(self.works, self.values[column], 1.0))
            for column, sign in self.sought.metrics
        ]
        return np.stack(columns, axis=1)

    @cached_property
    def reference(self) -> Floats:
        """The point from which volume counts."""
        points = self.points[self.good]
        return beyond(points[improvement.front(points)], points)

    @cached_property
    def full(self) -> float:
        """The hypervolume of the whole table."""
        return improvement.volume(self.points[self.good], self.reference)

    # ------------------------------------------------------------ how good

    def share(self, order: Sequence[int]) -> float:
        """Return the share of the full hypervolume that some stacks have."""
        own = [at for at in order if self.good[at]]
        return improvement.volume(self.points[own], self.reference) / self.full

    def regret(self, order: Sequence[int]) -> float:
        """Return how much worse than the best the best of some stacks is; infinite: none is good.

        Values over the best, less 1 (the best over values, to be maximized).
        """
        ((column, sign),) = self.sought.metrics
        own = [at for at in order if self.good[at]]
        if not own:
            return math.inf
        values = self.values[column]
        every = values[self.good]
        if sign > 0:
            return float(values[own].min() / every.min() - 1)
        return float(every.max() / values[own].max() - 1)

    def error(self, order: Sequence[int]) -> float:
        """Return the model's mean relative error in % on the stacks that are not in ``order``.

        The mean over the metrics sought; NaN where nothing is left, or nothing worked.
        """
        at = np.array([a for a in order if self.works[a]], dtype=np.int64)
        rest = np.setdiff1d(np.flatnonzero(self.works), at)
        if not len(at) or not len(rest):
            return math.nan
        return float(np.mean([self._error(c, at, rest) for c, _ in self.sought.metrics]))

    def _error(self, column: str, at: NDArray[np.int64], rest: NDArray[np.int64]) -> float:
        scale, values = self.scale(column), self.values[column]
        believed = believe(self.candidates, at, scale.to(values[at])).mean[rest]
        got = np.exp(believed) if scale.logarithm else believed
        off = np.abs(got - values[rest])
        return float(100 * np.mean(off / np.maximum(np.abs(values[rest]), 1e-300)))

    def enough(self, order: Sequence[int]) -> int | None:
        """Return after how many stacks 99 % was found (a regret of 1 %), None: never."""
        for n in range(1, len(order) + 1):
            if self.good[order[n - 1]] and self.found(order[:n]):
                return n
        return None

    def found(self, order: Sequence[int]) -> bool:
        """Return whether some stacks are enough."""
        if len(self.sought.metrics) == 1:
            return self.regret(order) <= CLOSE
        return self.share(order) >= ENOUGH


def play(
    finished: Finished,
    kind: type[Sampler],
    seed: int,
    most: int,
    *,
    stop: Callable[[list[int]], bool] | None = None,
) -> list[int]:
    """Return the stacks that a sampler names on a finished table, one at a time.

    At most ``most`` of them; ``stop`` is asked after each whether that is enough.
    """
    sampler = kind(finished.candidates, finished.goals, seed)
    order: list[int] = []
    while len(order) < most:
        named = sampler.ask(1)
        if not named:
            break
        order += named
        sampler.tell(finished.told(named[0]))
        if stop is not None and stop(order):
            break
    return order


@dataclass(frozen=True)
class Played:
    """One sampler's runs over a table."""

    finished: Finished
    orders: Sequence[Sequence[int]]
    seconds: float
    """Of one run, in the mean."""

    def to_json(self, counts: Sequence[int]) -> dict[str, Json]:
        """Return what each budget yields, as ``dlas explore --replay --format json`` prints it."""
        budgets: dict[str, Json] = {str(n): self._budget(n) for n in counts}
        reached = [self.finished.enough(order) for order in self.orders]
        middle = median(math.inf if n is None else n for n in reached)
        return {
            "budgets": budgets,
            "to_99_median": None if math.isinf(middle) else middle,
            "seconds": round(self.seconds, 3),
        }

    def _budget(self, n: int) -> dict[str, Json]:
        cut = [order[:n] for order in self.orders]
        single = len(self.finished.sought.metrics) == 1
        shares = [] if single else [self.finished.share(order) for order in cut]
        regrets = [self.finished.regret(order) for order in cut] if single else []
        errors = [self.finished.error(order) for order in cut]
        return {
            "share_median": median(shares) if shares else None,
            "share_worst": min(shares) if shares else None,
            "regret_median": _told(median(regrets)) if regrets else None,
            "error_median": _told(median(errors)),
        }


def _told(value: float) -> float | None:
    return value if math.isfinite(value) else None


def replay(
    finished: Finished,
    samplers: Mapping[str, type[Sampler]],
    budgets: Sequence[Allowance],
    repeats: int,
    seed: int = 0,
    note: Callable[[str], None] = lambda _text: None,
) -> dict[str, Json]:
    """Play samplers on a finished table, each ``repeats`` times with other seeds."""
    among = len(finished.candidates)
    counts = sorted({budget.count(among) for budget in budgets})
    found: dict[str, Json] = {}
    for name, kind in samplers.items():
        began = time.perf_counter()
        orders = [play(finished, kind, seed + k, counts[-1]) for k in range(repeats)]
        note(f"{name}: {repeats} runs of {counts[-1]} stacks")
        each = (time.perf_counter() - began) / repeats
        found[name] = Played(finished, orders, each).to_json(counts)
    return {"stacks": among, "samplers": found}
