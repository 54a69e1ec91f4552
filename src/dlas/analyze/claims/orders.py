"""Quantities that are an order of choices: who wins, whether that or any order changes.

Tests of a union (some pair, some level) are Bonferroni's over all that are looked at, those of an
intersection (better than every other) need every single one (Berger 1982). So the chance of a
false answer in a context is that of one test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations, permutations, product

import numpy as np

from dlas.analyze.claims.amounts import (
    SURE,
    Amount,
    Answered,
    beside,
    gap,
    mean,
    minus,
    plus,
    said,
    scaled,
)
from dlas.analyze.claims.gauges import Basis, Gauge
from dlas.analyze.claims.hypothesis import Assertion, Claim
from dlas.analyze.claims.pairs import CannotTell, Key, Levelled, chosen, levelled, placed
from dlas.analyze.claims.terms import main_of
from dlas.analyze.tell.words import number
from dlas.core.errors import near

NAMED = 3
"""Choices without a cell that are named."""
Places = Mapping[Key, Mapping[tuple[str, str], list[int]]]
"""By what else is fixed, the cells of a level of either column."""


@dataclass(frozen=True, eq=False)
class _Orders:
    """How choices compare in one context."""

    gauge: Gauge
    places: Places
    choice: Callable[[str], str]
    """How a choice is called in a sentence."""
    at: Callable[[str], str]
    """How a level of what varies is."""
    more: float
    """How much further than equal: a logarithm."""
    same: float
    _made: dict[tuple[str, ...], Amount | None] = field(default_factory=dict)

    def between(self, a: str, b: str, at: str, others: Sequence[str] = ()) -> Amount | None:
        """Return how much worse a is than b at a level, over what also holds both elsewhere."""
        key = (a, b, at, *others)
        if key not in self._made:
            self._made[key] = self._between(a, b, (at, *others))
        return self._made[key]

    def _between(self, a: str, b: str, need: Sequence[str]) -> Amount | None:
        at = need[0]
        found = [
            gap(self.gauge, cells[a, at], cells[b, at])
            for cells in self.places.values()
            if all((x, level) in cells for x in (a, b) for level in need)
        ]
        return scaled(mean(found), self.gauge.sign) if found else None

    def levels(self, at: str) -> list[str]:
        """Return the choices that there are at a level."""
        return list(
            dict.fromkeys(x for cells in self.places.values() for x, level in cells if level == at)
        )


def answers(
    evidence: Basis, claim: Claim, test: Assertion, floor: float
) -> tuple[list[Answered], list[dict[str, str]]]:
    """Answer a test of an order in every context; and the contexts with one side missing.

    Raises:
        CannotTell: there is nothing to answer from.
    """
    gauge = main_of(evidence)
    rows = chosen(evidence, gauge, claim.where)
    columns = test.quantity.columns
    found = levelled(evidence, rows, columns["layer"], test.contexts, columns.get("by", ""))
    more, same = float(np.log1p(claim.least_effect)), float(np.log1p(floor))
    judge = JUDGES[test.quantity.name]
    made, lonely = [], []
    choice = partial(evidence.brief, columns["layer"])

    def at(level: str) -> str:
        return f"at {columns['by']} {evidence.brief(columns['by'], level)}"

    for key, places in found.rows.items():
        orders = _Orders(gauge, places, choice, at, more, max(more, same))
        answer = judge(orders, found, test)
        place = placed(found.names, key)
        if answer is None:
            lonely.append(place)
        else:
            # Below the floor an order that surely turns does turn: only what nobody sees may be
            # called absent for being small.
            absent = 1.0 if answer.true < SURE else answer.false
            made.append(replace(answer, place=place, false=absent))
    if not made:
        raise CannotTell(
            f"no case has two choices of {columns['layer']} to compare"
            + (f", at two levels of {columns['by']}" if "by" in columns else "")
        )
    return made, lonely


def _filled(amount: Amount, told: str, true: float, false: float) -> Answered:
    """Return an answer that is shown by one pair of cells: the second side over the first."""
    low, high = amount.interval()
    return Answered(
        {}, min(1.0, true), min(1.0, false), float(np.exp(amount.value)), float(np.exp(low)),
        float(np.exp(high)), amount.side(1), amount.side(-1), told,
    )  # fmt: skip


# ---------------------------------------------------------------- winner


def _winner(orders: _Orders, found: Levelled, test: Assertion) -> Answered | None:
    """Say whether one of the named choices is better than every other."""
    assert isinstance(test.bound, tuple), "the language says so"
    _known(found, test.bound)
    there = orders.levels("")
    named = [x for x in test.bound if x in there]
    others = [x for x in there if x not in test.bound]
    if not named or not others:
        return None
    best: tuple[Amount, str, str] | None = None
    is_best, is_beaten = [], []
    for x in named:
        gaps = {y: orders.between(y, x, "") for y in others}
        met = {y: g for y, g in gaps.items() if g is not None}
        # One that some rival never met may be beaten by it: only that it is beaten can be sure.
        is_best.append(max(g.above(orders.more) if g else 1.0 for g in gaps.values()))
        if not met:
            is_beaten.append(1.0)
            continue
        is_beaten.append(len(met) * min(g.below(orders.more) for g in met.values()))
        nearest = min(met, key=lambda y: met[y].value)
        if best is None or met[nearest].value > best[0].value:
            apart = [y for y in others if y not in met]
            name = orders.choice(x)
            never = f"; {', '.join(map(orders.choice, apart))} is nowhere beside {name}"
            best = (met[nearest], orders.choice(nearest), name + (never if apart else ""))
    if best is None:
        return None
    gap_, nearest, x = best
    told = f"{nearest}, the best of the others, {beside(orders.gauge, gap_, x)}"
    told += _absent(orders, [x for x in found.levels if x not in there])
    # A named choice that has no cell here may be the best: nobody knows that none of them is.
    whole = len(named) == len(test.bound)
    return _filled(gap_, told, len(named) * min(is_best), max(is_beaten) if whole else 1.0)


def _absent(orders: _Orders, choices: Sequence[str]) -> str:
    """Return the choices that have no cell in a context, in words; nothing of none."""
    if not choices:
        return ""
    names = [orders.choice(x) for x in choices]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"; no cell here: {', '.join(names[:NAMED])}{more}"


def _known(found: Levelled, named: Sequence[str]) -> None:
    """Refuse a choice that there is nowhere."""
    for x in named:
        if x not in found.levels:
            raise CannotTell(
                f"{found.column} has no level {x!r}.{near(x, found.levels)} "
                f"It has: {', '.join(found.levels)}"
            )


# ---------------------------------------------------------------- flips


def _flips(orders: _Orders, found: Levelled, test: Assertion) -> Answered | None:
    """Say whether a choice is better than another at one level and worse at another."""
    best: tuple[tuple[float, float], Amount, Amount, tuple[str, str, str, str]] | None = None
    tests, never = 0, 0.0
    for a, b in combinations(found.levels, 2):
        sides = list(_sides(orders, a, b, found.by))
        if not sides:
            continue
        for better, worse, here, there in sides:
            tests += 1
            p = max(better.below(-orders.more), worse.above(orders.more))
            rank = (-p, min(-better.value, worse.value))
            if best is None or rank > best[0]:
                best = (rank, better, worse, (a, b, here, there))
        gaps = [g for at in found.by if (g := orders.between(a, b, at)) is not None]
        one_way = max(g.below(orders.same) for g in gaps)
        other_way = max(g.above(-orders.same) for g in gaps)
        never = max(never, 2 * min(one_way, other_way))
    if best is None:
        return None
    rank, better, worse, (a, b, here, there) = best
    told = (
        f"{orders.choice(a)} {beside(orders.gauge, better, orders.choice(b))} {orders.at(here)}, "
        f"and {said(orders.gauge, worse)} {orders.at(there)}"
    )
    return replace(
        _filled(worse, told, tests * -rank[0], never),
        first=(*better.side(1), *worse.side(1)),
        second=(*better.side(-1), *worse.side(-1)),
    )


def _sides(
    orders: _Orders, a: str, b: str, levels: Sequence[str]
) -> Iterator[tuple[Amount, Amount, str, str]]:
    """Give a over b at every two levels: where a should be better, and where worse."""
    for here, there in permutations(levels, 2):
        better = orders.between(a, b, here, [there])
        worse = orders.between(a, b, there, [here])
        if better is not None and worse is not None:
            yield better, worse, here, there


# ---------------------------------------------------------------- dependence


def _depends(orders: _Orders, found: Levelled, test: Assertion) -> Answered | None:
    """Say whether a choice gains more or less over another at one level than at another."""
    best: tuple[float, Amount, Amount, Amount, tuple[str, str, str, str]] | None = None
    tests, never = 0, 0.0
    for (a, b), (here, there) in product(combinations(found.levels, 2), combinations(found.by, 2)):
        one, two = orders.between(a, b, here, [there]), orders.between(a, b, there, [here])
        if one is None or two is None:
            continue
        change = plus([one, minus(two)])
        tests += 2  # more, and less
        p = min(change.above(orders.more), change.below(-orders.more))
        never = max(never, change.above(-orders.same), change.below(orders.same))
        if best is None or (p, -abs(change.value)) < (best[0], -abs(best[1].value)):
            best = (p, change, one, two, (a, b, here, there))
    if best is None:
        return None
    p, change, one, two, (a, b, here, there) = best
    told = (
        f"{orders.choice(a)} {beside(orders.gauge, one, orders.choice(b))} {orders.at(here)}, "
        f"and {said(orders.gauge, two)} {orders.at(there)}: a factor "
        f"of {number(float(np.exp(abs(change.value))))}"
    )
    return replace(
        _filled(change, told, tests * p, never),
        first=(*one.side(1), *two.side(1)),
        second=(*one.side(-1), *two.side(-1)),
    )


# ---------------------------------------------------------------- changes of the winner


def _changes(orders: _Orders, found: Levelled, test: Assertion) -> Answered | None:
    """Say whether the best choice at one level is surely beaten at another."""
    levels = [at for at in found.by if len(orders.levels(at)) > 1]
    if len(levels) < 2:
        return None
    best: tuple[_Dethroned, str, str] | None = None
    pairs = list(permutations(levels, 2))
    for here, there in pairs:
        shared = [x for x in orders.levels(here) if x in orders.levels(there)]
        for x in shared:
            lost = _loses(orders, x, shared, here, there)
            if lost is not None and (best is None or lost.p < best[0].p):
                best = (lost, here, there)
    if best is None:
        return None
    steady = _steady(orders, levels)
    choices = max(len(orders.levels(at)) for at in levels)
    lost, here, there = best
    rival, choice, by = (orders.choice(x) for x in (lost.rival, lost.choice, lost.by))
    told = (
        f"{orders.at(here)}, {rival}, the best of the others, "
        f"{beside(orders.gauge, lost.ahead, choice)}; "
        f"{orders.at(there)}, {choice} {beside(orders.gauge, lost.behind, by)}"
    )
    return _filled(lost.behind, told, len(pairs) * choices * lost.p, steady)


@dataclass(frozen=True, eq=False)
class _Dethroned:
    """A choice that is the best at one level and beaten at another."""

    p: float
    choice: str
    rival: str
    """What comes next where it is the best, and how much worse that is."""
    ahead: Amount
    by: str
    """What beats it elsewhere, and how much better that is."""
    behind: Amount


def _loses(
    orders: _Orders, x: str, shared: Sequence[str], here: str, there: str
) -> _Dethroned | None:
    """Return how sure it is that x is the best here and beaten there; None: nobody can tell."""
    rivals = [y for y in shared if y != x]
    ahead = {y: orders.between(y, x, here, [there]) for y in rivals}
    # What there is here alone may be better still.
    ahead |= {y: orders.between(y, x, here) for y in orders.levels(here) if y not in shared}
    behind = {y: orders.between(x, y, there, [here]) for y in rivals}
    known = {y: g for y, g in ahead.items() if g is not None}
    beaten = {y: g for y, g in behind.items() if g is not None}
    if not beaten or len(known) < len(ahead):
        return None
    first = max(g.above(orders.more) for g in known.values())
    second = len(beaten) * min(g.above(orders.more) for g in beaten.values())
    rival = min(known, key=lambda y: known[y].value)
    by = max(beaten, key=lambda y: beaten[y].value)
    return _Dethroned(max(first, second), x, rival, known[rival], by, beaten[by])


def _steady(orders: _Orders, levels: Sequence[str]) -> float:
    """Return the p value of "one and the same choice is the best at every level"."""
    first, *rest = [orders.levels(at) for at in levels]
    everywhere = [x for x in first if all(x in there for there in rest)]
    found = []
    for x in everywhere:
        gaps = [orders.between(y, x, at) for at in levels for y in orders.levels(at) if y != x]
        known = [g for g in gaps if g is not None]
        # Who never met a rival may be beaten by it: nobody knows that it is the best.
        if len(known) == len(gaps):
            found.append(max(g.above(-orders.same) for g in known))
    return len(found) * min(found) if found else 1.0


JUDGES: Mapping[str, Callable[[_Orders, Levelled, Assertion], Answered | None]] = {
    "winner": _winner, "flips": _flips, "depends": _depends, "changes_winner": _changes,
}  # fmt: skip
"""What answers each quantity that is an order, or rests on several."""
