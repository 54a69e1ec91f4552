"""Linear combinations of cells: a log ratio of two, a mean of many, with their error."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dlas.analyze.claims.gauges import Gauge
from dlas.analyze.estimate.levels import Floats
from dlas.analyze.estimate.student import above, quantile
from dlas.analyze.parts.contrasts import satterthwaite
from dlas.analyze.tell.words import is_time, number

SURE = 0.025
"""One-sided level of *surely*: a bound outside of a 95 % interval."""
Weights = Mapping[int, float]
"""How much each row counts."""


@dataclass(frozen=True, eq=False)
class Amount:
    """A sum of cells' values, each counted with a weight; of several columns if need be."""

    parts: tuple[tuple[Gauge, Weights], ...]
    shift: float = 0.0
    extra: float = 0.0
    """Variance that is added, of what is no cell."""

    @cached_property
    def value(self) -> float:
        """The sum."""
        total = sum(w * float(g.value[r]) for g, weights in self.parts for r, w in weights.items())
        return float(total) + self.shift

    @cached_property
    def _var(self) -> tuple[Floats, Floats]:
        var, df = [np.array([self.extra])], [np.array([np.inf])]
        for gauge, weights in self.parts:
            var.append(_variances(gauge, weights))
            df.append(gauge.df)
        return np.concatenate(var), np.concatenate(df)

    @cached_property
    def se(self) -> float:
        """The standard error."""
        return float(np.sqrt(self._var[0].sum()))

    @cached_property
    def freedom(self) -> float:
        """Degrees of freedom of the standard error."""
        var, df = self._var
        return float(satterthwaite(var, df))

    @cached_property
    def tail(self) -> float:
        """Excess kurtosis of the error; 0: that of a normal distribution."""
        total = 0.0
        for gauge, weights in self.parts:
            if gauge.tails is None:
                continue
            rows = np.fromiter(weights.keys(), dtype=np.int64)
            w = np.fromiter(weights.values(), dtype=float)
            own = gauge.var[rows, : gauge.var.shape[1] - gauge.common].sum(axis=1)
            total += float((w**4 * own**2 * gauge.tails[rows]).sum())
        return total / self.se**4 if self.se else 0.0

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval."""
        half = float(quantile(1 - SURE, self.freedom)) * self.se if self.se else 0.0
        return self.value - half, self.value + half

    def above(self, bound: float) -> float:
        """Return the one-sided p value of "it is above the bound"."""
        gap = self.value - bound
        if not self.se:
            return 0.0 if gap > 1e-12 else 1.0
        p = float(above(gap / self.se, self.freedom))
        if self.tail <= 0:
            return p
        # Far out a mean of few rounds with heavy tails is no normal one: t has such tails, too.
        nu = 4 + 6 / self.tail
        return max(p, float(above(gap / self.se * np.sqrt(nu / (nu - 2)), nu)))

    def below(self, bound: float) -> float:
        """Return the one-sided p value of "it is below the bound"."""
        return minus(self).above(-bound)

    def side(self, sign: int) -> tuple[int, ...]:
        """Return the rows that count with a sign."""
        return tuple(
            dict.fromkeys(r for _, ws in self.parts for r, w in ws.items() if w * sign > 0)
        )


def _variances(gauge: Gauge, weights: Weights) -> Floats:
    """Return the variance of a sum by source.

    Errors of rows add; one that is the same in all rows drops out between two of them, where a
    share of images is meant (``logarithmic`` or not) the two sides of a difference err apart.
    """
    rows = np.fromiter(weights.keys(), dtype=np.int64)
    w = np.fromiter(weights.values(), dtype=float)
    own = gauge.var.shape[1] - gauge.common
    of_rows = (w[:, None] ** 2 * gauge.var[rows, :own]).sum(axis=0)
    root = w[:, None] * np.sqrt(gauge.var[rows, own:])
    if own:
        return np.concatenate([of_rows, root.sum(axis=0) ** 2])
    up, down = np.maximum(root, 0).sum(axis=0), np.minimum(root, 0).sum(axis=0)
    return np.asarray(up**2 + down**2)


def minus(one: Amount) -> Amount:
    """Return the amount with the other sign."""
    parts = tuple((g, {r: -w for r, w in ws.items()}) for g, ws in one.parts)
    return Amount(parts, -one.shift, one.extra)


def plus(some: Iterable[Amount]) -> Amount:
    """Return a sum of amounts; cells that stand in several count once with all their weights."""
    by_gauge: dict[int, tuple[Gauge, dict[int, float]]] = {}
    shift = extra = 0.0
    for each in some:
        shift, extra = shift + each.shift, extra + each.extra
        for gauge, weights in each.parts:
            _, own = by_gauge.setdefault(id(gauge), (gauge, defaultdict(float)))
            for row, w in weights.items():
                own[row] += w
    parts = tuple((g, {r: w for r, w in ws.items() if w}) for g, ws in by_gauge.values())
    return Amount(parts, shift, extra)


def scaled(one: Amount, factor: float) -> Amount:
    """Return so many times an amount."""
    parts = tuple((g, {r: w * factor for r, w in ws.items()}) for g, ws in one.parts)
    return Amount(parts, one.shift * factor, one.extra * factor**2)


def mean(some: Sequence[Amount]) -> Amount:
    """Return the mean of amounts."""
    return scaled(plus(some), 1 / len(some))


def of_rows(gauge: Gauge, rows: Sequence[int]) -> Amount:
    """Return the mean of some rows."""
    return Amount(((gauge, dict.fromkeys(rows, 1 / len(rows))),))


def gap(gauge: Gauge, first: Sequence[int], second: Sequence[int]) -> Amount:
    """Return the mean of some rows less that of others."""
    return plus([of_rows(gauge, first), minus(of_rows(gauge, second))])


def said(gauge: Gauge, amount: Amount) -> str:
    """Return how much worse something is: ``1.23 times as long (1.1 to 1.4)``."""
    ends = sorted(gauge.sign * x for x in amount.interval())
    value, low, high = (number(float(np.exp(x))) for x in (gauge.sign * amount.value, *ends))
    what = "as long" if is_time(gauge.column) else f"the {gauge.column}"
    return f"{value} times {what} ({low} to {high})"


def beside(gauge: Gauge, amount: Amount, other: str) -> str:
    """Return the same as a predicate: ``takes 1.23 times as long (1.1 to 1.4) as b``."""
    verb, than = ("takes", "as") if is_time(gauge.column) else ("has", "of")
    return f"{verb} {said(gauge, amount)} {than} {other}"


@dataclass(frozen=True)
class Answered:
    """What is known of a statement in one context."""

    place: Mapping[str, str]
    """The context."""
    true: float
    """One-sided p value of "it holds"."""
    false: float
    """One-sided p value of "it does not hold"."""
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    first: tuple[int, ...] = ()
    """Rows of one side."""
    second: tuple[int, ...] = ()
    """Rows of the other."""
    told: str = ""
    """What was found, in words, where a number does not say it."""

    @property
    def surely(self) -> bool | None:
        """Whether it surely holds; None: nobody can tell."""
        if self.true < SURE:
            return True
        return False if self.false < SURE else None
