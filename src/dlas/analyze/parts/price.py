"""The price of tuning layer by layer: where one arrives one layer at a time, over the best stack.

In a context (what is given: data set, model, hardware) the other layers are free. From a start,
one for each runtime, every layer takes its best choice once, the others as they stand then, in
every order; the *price* is the time arrived at over that of the best of all candidates together.
It is 1 where layers do not interact, whatever the order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.halves import Halves, halves
from dlas.analyze.estimate.levels import Floats
from dlas.analyze.estimate.student import quantile
from dlas.analyze.estimate.table import COMPLETE, Table
from dlas.analyze.parts.contrasts import place, satterthwaite, tested
from dlas.analyze.parts.partition import Partition, contexts_of, layers_of, starts_of
from dlas.analyze.parts.stepwise import Floor, Ground, Group, Place, ends
from dlas.analyze.parts.within import meeting

HALF = 0.5
MANY = "more than a pair"
ARRIVES, MISSING, UNMET = "a candidate", "not in the table", "misses the goals"
COLUMNS = [
    "context", "group", "host", "start", "candidates", "orders", "unmet", "ratio", "low", "high",
    "worst", "worst_low", "worst_high", "sure", "separate", "separate_ratio", "blame",
    "blame_ratio", "start_cell", "arrived_cell", "joint_cell", "separate_cell",
]  # fmt: skip
BY_COLUMNS = [
    "group", "starts", "contexts", "ratio", "low", "high", "least", "most", "worst", "worst_start",
    "sure", "blame", "separate", "separate_missing", "separate_failed", "separate_unmet", "cells",
    "dearest", "dearest_low", "dearest_high", "dearest_start", "dearest_worst",
    "dearest_worst_low", "dearest_worst_high", "dearest_worst_start", "separate_refused",
]  # fmt: skip
REFUSED = ("unavailable", "impossible")
"""Words of a status that say that a stack was refused, which is no failure."""


def price(
    table: Table, estimates: Estimates, both: Halves | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the price of tuning layer by layer, by what is given, and by context and start.

    Choices are made on one half of the rounds and the ratio read on the other, both ways, averaged
    on the log: the best of noisy values looks better than it is, and so would the best stack.
    A choice inside the floor of the two stacks is a tie, and what stands stays. Small gains left
    so add up even where layers do not interact; so a price is ``sure``, and the lower end of its
    interval above 1, only if who takes every gain stays behind as well.

    Args:
        table: the table.
        estimates: what is known of its rows.
        both: the two halves of the rounds, where they were split before.

    Returns:
        By group (what is given less hardware and host): ``ratio`` is the median over starts and
        contexts with the interval of the one in the middle, ``least`` and ``most`` their range,
        ``worst`` the worst order of ``worst_start``, ``sure`` from how many of ``starts`` one
        surely ends behind the best; of these ``dearest`` is the largest ratio, from
        ``dearest_start``, and ``dearest_worst`` the largest that is surely above 1 in the worst
        order; ``blame`` as below, of most of these; ``separate`` how many separate stacks are
        candidates, and how many are missing, failed (``separate_refused`` of them were refused)
        or miss the goals; ``cells`` arrived at and joint of the start with the largest ratio.
        By context and start: ``ratio`` is the median over ``orders``, ``worst`` the worst of
        them; ``unmet`` orders end outside the goals and have no price. ``separate`` says what
        became of the stack made of every layer's best, each found from the start;
        ``separate_ratio`` is its price. ``blame`` names the two layers which, moved as one step,
        lower a price that is surely above 1 to ``blame_ratio``, by at least half of its log, else
        ``more than a pair``; pairs that lower it alike stand with "or". ``arrived_cell`` and
        ``joint_cell`` are chosen on all rounds.
    """
    found = layers_of(table)
    if found is None:
        return pd.DataFrame(columns=BY_COLUMNS), pd.DataFrame(columns=COLUMNS)
    both = both or halves(table, estimates)
    sure, may = meeting(table, estimates)
    usable = np.isfinite(both.one.mean) & np.isfinite(both.other.mean)
    rows: list[dict[str, object]] = []
    for fixed, members in contexts_of(table, found):
        within = [r for r in members if usable[r] and sure[r]]
        within = within or [r for r in members if usable[r] and may[r]]
        if not within:
            continue
        walks = _walks(table, found, both, estimates, members, within)
        group = {k: v for k, v in fixed.items() if k not in ("hardware", "host")}
        label = {"context": place(fixed), "group": place(group), "candidates": len(within)}
        label["host"] = str(table.rows["host"].iloc[within[0]])
        for name, start in starts_of(table, found, walks.whole, usable).items():
            rows.append(label | {"start": name} | walks.told(start))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return _by_group(frame), frame


@dataclass(frozen=True)
class _Way:
    """A way to read a price: choices on one half, the ratio on the other."""

    ground: Ground
    read: Estimates


@dataclass(frozen=True)
class _Walks:
    """Everything that walks through one context need."""

    table: Table
    layers: Partition
    whole: Ground
    ways: tuple[_Way, _Way]
    eager: tuple[_Way, _Way]
    """The same where no difference is a tie."""
    estimates: Estimates

    def told(self, start: int) -> dict[str, object]:
        """Return what becomes of one start."""
        groups = self.layers.singles
        ids = self.table.rows["cell"].astype(str).to_numpy()
        arrived = self.whole.arrivals(start, groups)
        met = Counter({r: n for r, n in arrived.items() if r in self.whole.candidates})
        middle = ends(self.whole, met)[0][0] if met else -1
        mid, worst = self._price(self.ways, start, groups)
        # Small gains that were left as ties add up, and are no price of tuning layer by layer:
        # who takes every one of them must stay behind as well.
        taken, taken_worst = self._price(self.eager, start, groups)
        # Orders are ranked on one half and read on the other: by noise the worst may read better.
        if worst.value < mid.value:
            worst = mid
        sure = all(r.sure(self.table, self.estimates) for r in (mid, taken))
        blame, lowered = self._blame(start, mid) if sure else ("", float("nan"))
        state, separate, ratio = self._separate(start)
        median = mid.named(self.estimates, "ratio", "low", "high")
        furthest = worst.named(self.estimates, "worst", "worst_low", "worst_high")
        median["low"] = min(median["low"], taken.named(self.estimates, "ratio", "low")["low"])
        less = taken_worst.named(self.estimates, "ratio", "low")["low"]
        furthest["worst_low"] = min(furthest["worst_low"], less)
        return {
            "orders": arrived.total(), "unmet": arrived.total() - met.total(),
            **median, **furthest, "sure": sure,
            "separate": state, "separate_ratio": ratio, "blame": blame, "blame_ratio": lowered,
            "start_cell": ids[start], "arrived_cell": ids[middle] if met else "",
            "joint_cell": ids[self.whole.joint],
            "separate_cell": "" if separate is None else ids[separate],
        }  # fmt: skip

    def _price(
        self, ways: tuple[_Way, _Way], start: int, groups: Sequence[Group]
    ) -> tuple[_LogRatio, _LogRatio]:
        """Return the log price of the median and of the worst order, read both ways."""
        middles, worsts = [], []
        for way in ways:
            arrived = way.ground.arrivals(start, groups)
            met = Counter({r: n for r, n in arrived.items() if r in way.ground.candidates})
            if not met:
                return _LogRatio.nothing(), _LogRatio.nothing()
            (low, high), worst = ends(way.ground, met)
            joint = way.ground.joint
            middles.append(_LogRatio.mean([_read(way, r, joint) for r in (low, high)], alike=True))
            worsts.append(_read(way, worst, joint))
        alike = ways[0] is ways[1]
        return _LogRatio.mean(middles, alike=alike), _LogRatio.mean(worsts, alike=alike)

    def _blame(self, start: int, price: _LogRatio) -> tuple[str, float]:
        """Name the two layers which, moved as one step, lower a price most."""
        logs = {
            pair: self._price(self.ways, start, groups)[0].value
            for pair, groups in self.layers.pairs()
        }
        least = min(logs.values())
        if not price.value - least >= HALF * price.value:
            return MANY, float(np.exp(least))
        names = [
            " and ".join(self.layers.free[i] for i in pair)
            for pair, log in logs.items()
            if log <= least + 1e-9
        ]
        return " or ".join(names), float(np.exp(least))

    def _separate(self, start: int) -> tuple[str, int | None, float]:
        """Say what became of the stack of every layer's best, and read its price where it is."""
        found = self._state(self.whole.separate(start, self.layers.singles))
        if found[0] != ARRIVES:
            return *found, float("nan")
        logs = []
        for way in self.ways:
            row = way.ground.row_of.get(way.ground.separate(start, self.layers.singles))
            if row is not None and row in way.ground.candidates:
                logs.append(_read(way, row, way.ground.joint).value)
        return *found, float(np.exp(np.mean(logs))) if logs else float("nan")

    def _state(self, where: Place) -> tuple[str, int | None]:
        row = self.whole.row_of.get(where)
        if row is None:
            return MISSING, None
        if row in self.whole.candidates:
            return ARRIVES, row
        status = str(self.table.rows["status"].iloc[row])
        return (UNMET if status == COMPLETE else status), row


def _walks(
    table: Table, found: Partition, both: Halves, estimates: Estimates,
    members: Sequence[int], within: Sequence[int],
) -> _Walks:  # fmt: skip
    levels = table.cells[list(found.free)].to_numpy(dtype=object)
    rows: dict[Place, int] = {tuple(map(str, levels[r])): r for r in members}
    candidates = {r: tuple(map(str, levels[r])) for r in within}

    def ways(floor: Floor) -> tuple[_Way, _Way]:
        first = _Way(ground(both.one, floor), both.other)
        return first, _Way(ground(both.other, floor), both.one) if both.split else first

    def ground(of: Estimates, floor: Floor) -> Ground:
        return Ground(rows, candidates, np.nan_to_num(of.mean, nan=np.inf), floor)

    floor = partial(_floor, table, estimates, {})
    eager = ways(lambda _a, _b: 0.0)
    return _Walks(table, found, ground(estimates, floor), ways(floor), eager, estimates)


def _floor(
    table: Table, estimates: Estimates, known: dict[tuple[int, int], float], a: int, b: int
) -> float:
    """Return the least log ratio of two stacks that the study can detect at 95 %."""
    given = float(np.log1p(table.floor))
    if not estimates.known:
        return given
    if (a, b) not in known:
        var = estimates.gap(np.array(a), np.array(b))
        crit = float(quantile(0.975, satterthwaite(var, estimates.df)))
        found = crit * float(np.sqrt(var.sum()))
        known[a, b] = max(found, given) if table.floor_given else found
    return known[a, b]


def _read(way: _Way, row: int, joint: int) -> _LogRatio:
    """Return the log ratio of two stacks; exactly nothing where they are the same."""
    read = way.read
    if row == joint:
        return _LogRatio(0.0, np.zeros(len(read.df)), np.zeros(read.sessions), 0.0, tie=True)
    value = float(read.mean[row] - read.mean[joint])
    gap, apart = (of(np.array(row), np.array(joint)) for of in (read.gap, read.apart))
    return _LogRatio(value, gap, apart, value, tie=way.ground.kept(row, joint))


@dataclass(frozen=True)
class _LogRatio:
    """A log ratio, and its variance by stratum."""

    value: float
    var: Floats
    apart: Floats
    """What is left of each error that cells have in common."""
    guard: float
    """Of several ways to read it the value nearest to nothing: a single bad round is read one way
    only."""
    tie: bool = False
    """Whether the best stack was no choice when it was made: then nothing is sure."""

    @classmethod
    def nothing(cls) -> _LogRatio:
        return cls(float("nan"), np.zeros(0), np.zeros(0), float("nan"))

    @classmethod
    def mean(cls, every: Sequence[_LogRatio], *, alike: bool) -> _LogRatio:
        """Return the mean; ``alike``: their errors may be the same, else they are independent.

        What cells have in common is the same in all of them.
        """
        value = float(np.mean([r.value for r in every]))
        var, apart = (np.mean([getattr(r, x) for r in every], axis=0) for x in ("var", "apart"))
        var = var if alike else var / len(every)
        var[len(var) - len(apart) :] = apart**2
        guards = [r.guard for r in every]
        guard = float(np.mean(guards)) if alike else min(guards, key=abs)
        return cls(value, var, apart, guard, any(r.tie for r in every))

    def interval(self, estimates: Estimates) -> tuple[float, float]:
        """Return the 95 % t interval on the log; NaN where no noise is known."""
        if not (estimates.known and np.isfinite(self.value)):
            return float("nan"), float("nan")
        found = tested(np.array(self.value), self.var, estimates, median=np.array(self.guard))
        return min(float(found.low), 0.0) if self.tie else float(found.low), float(found.high)

    def sure(self, table: Table, estimates: Estimates) -> bool:
        """Say whether the ratio is surely above 1; without noise: by more than the floor."""
        if estimates.known:
            return self.interval(estimates)[0] > 0
        return bool(self.value > np.log1p(table.floor)) and not self.tie

    def named(self, estimates: Estimates, *names: str) -> dict[str, float]:
        """Return the ratio and its ends under some names."""
        ends = (self.value, *self.interval(estimates))
        return {name: float(np.exp(end)) for name, end in zip(names, ends, strict=False)}


def _by_group(frame: pd.DataFrame) -> pd.DataFrame:
    """Summarize the starts of each group: see :func:`price`."""
    rows = []
    for group, part in frame.groupby("group", sort=False):
        told = part[part["ratio"].notna()]
        states = part["separate"].value_counts()
        named = (ARRIVES, MISSING, UNMET)
        row: dict[str, object] = {
            "group": group,
            "starts": len(told),
            "contexts": int(part["context"].nunique()),
            "separate": int(states.get(ARRIVES, 0)),
            "separate_missing": int(states.get(MISSING, 0)),
            "separate_failed": int(states.drop([n for n in named if n in states]).sum()),
            "separate_unmet": int(states.get(UNMET, 0)),
            "separate_refused": sum(int(states.get(word, 0)) for word in REFUSED),
        }
        rows.append(row | (_summary(told) if len(told) else {}))
    return pd.DataFrame(rows, columns=BY_COLUMNS)


def _summary(told: pd.DataFrame) -> dict[str, object]:
    ordered = told.sort_values("ratio", kind="stable")
    middle = ordered.iloc[[(len(ordered) - 1) // 2, len(ordered) // 2]]
    top = told.loc[told["worst"].idxmax()]
    sure = told[told["sure"].eq(True)]
    blames = sure["blame"].value_counts()
    dearest = ordered.iloc[-1]
    return {
        **{c: float(np.exp(np.log(middle[c]).mean())) for c in ("ratio", "low", "high")},
        "least": float(told["ratio"].min()),
        "most": float(told["ratio"].max()),
        "worst": float(top["worst"]),
        "worst_start": str(top["start"]),
        "sure": len(sure),
        "blame": str(blames.index[0]) if len(blames) else "",
        "cells": [str(dearest["arrived_cell"]), str(dearest["joint_cell"])],
        **_dearest(sure, "ratio", ("low", "high"), "dearest"),
        **_dearest(sure, "worst", ("worst_low", "worst_high"), "dearest_worst"),
    }


def _dearest(
    sure: pd.DataFrame, column: str, ends: tuple[str, str], name: str
) -> dict[str, object]:
    """Return the largest price among those that are surely above 1, with its own interval."""
    low = sure[ends[0]].to_numpy(dtype=float)
    found = sure[~(low <= 1)]  # without noise there is no interval
    if not len(found):
        return {f"{name}_start": ""}
    r = found.loc[found[column].idxmax()]
    within = {x for x in str(r["group"]).split(", ") if x}
    at = [x for x in str(r["context"]).split(", ") if x and x not in within]
    return {
        name: float(r[column]),
        f"{name}_low": float(r[ends[0]]),
        f"{name}_high": float(r[ends[1]]),
        f"{name}_start": ", ".join([str(r["start"]), *at]),
    }
