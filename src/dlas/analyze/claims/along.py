"""Quantities that are a level of a column with numbers: where choices cross, where an elbow is.

Neither is estimated and then compared: "the break-even is below 0.8" is answered by the sign of
the curve at 0.8 and beyond, with the error it has there (inversion of a test; Fieller 1954).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

import numpy as np

from dlas.analyze.claims.amounts import SURE, Amount, Answered, beside, gap, mean, plus, scaled
from dlas.analyze.claims.gauges import Basis, Gauge
from dlas.analyze.claims.hypothesis import Assertion, Claim, called
from dlas.analyze.claims.pairs import (
    CannotTell,
    Key,
    chosen,
    fixed_of,
    keys_of,
    layer_of_rules,
    paired,
    placed,
    places_of,
    rest_of,
)
from dlas.analyze.claims.terms import baseline_of, main_of
from dlas.analyze.estimate.levels import EMPTY, Ints, number
from dlas.analyze.parts.elbows import WITHOUT, Elbow, elbow_of, without, worth_of
from dlas.core.rules import Rule

BETWEEN = " (between levels, by a straight line)"
"""What is said of a value that nobody measured."""
T = TypeVar("T")
Answers = tuple[list[Answered], list[dict[str, str]]]


def break_even(evidence: Basis, claim: Claim, test: Assertion) -> Answers:
    """Answer from which level on a choice is the better one of two, in every context.

    Raises:
        CannotTell: the column has no numbers, or nothing is left to compare.
    """
    gauge, quantity = main_of(evidence), test.quantity
    rows = chosen(evidence, gauge, claim.where)
    levels = _numbers_of(evidence, quantity.columns["along"])
    a, b = quantity.sides["a"], quantity.sides["b"]
    assert a is not None, "the language asks for it"
    b = b or baseline_of(evidence, a)
    column = evidence.named(quantity.columns["along"])
    found = paired(evidence, rows, (a, b), test.contexts, column)
    made, lonely = [], [placed(found.names, key) for key in found.lonely]
    alike = _curve_of(evidence, rows, column, (a, b))
    for key, pairs in found.pairs.items():
        curves: dict[Key, dict[float, list[Amount]]] = {}
        for one, two in pairs:
            if np.isfinite(levels[one]):
                cost = scaled(gap(gauge, [one], [two]), gauge.sign)
                curve = curves.setdefault((*alike[one], *alike[two]), {})
                curve.setdefault(levels[one], []).append(cost)
        place, (xs, whole) = placed(found.names, key), _whole(curves)
        if len(xs) < 2 or not whole:
            lonely.append(place)
        else:
            means = {x: mean([mean(curve[x]) for curve in whole]) for x in xs}
            answer = _crossed(gauge, means, test, place)
            made.append(replace(answer, told=answer.told + _dropped(len(whole), len(curves))))
    if not made:
        raise CannotTell(
            f"no case has both choices at two levels of {column}, with a place that has all levels"
        )
    return made, lonely


def _curve_of(
    evidence: Basis, rows: Ints, column: str, sides: tuple[Rule, Rule]
) -> dict[int, Key]:
    """Return by row which curve along a column it is of: all that is the same along it."""
    layer, some = evidence.layer(column), rows.tolist()
    compared, _ = layer_of_rules(evidence, sides)
    others = keys_of(evidence, rest_of(evidence, [layer, compared]), some)
    own = fixed_of(evidence, layer, [column], rows, some)
    level, choice = evidence.texts(column), evidence.texts(compared)
    apart = [compared != layer or x == EMPTY for x in level]
    return {r: (*others[r], *own[r], choice[r] if apart[r] else "") for r in some}


def _whole(curves: Mapping[Key, Mapping[float, T]]) -> tuple[list[float], list[Mapping[float, T]]]:
    """Return all levels of some curves, and the curves that have each of them."""
    levels = sorted({x for curve in curves.values() for x in curve})
    return levels, [curve for curve in curves.values() if len(curve) == len(levels)]


def _dropped(kept: int, n: int) -> str:
    """Say how many curves are left out, since one that lacks a level would bend the mean."""
    return f"; left out for want of a level: {n - kept} of {n} curves" if kept < n else ""


def _numbers_of(evidence: Basis, column: str) -> list[float]:
    if why := evidence.unknown(column):
        raise CannotTell(why)
    name = evidence.named(column)
    if not evidence.layer(name):
        raise CannotTell(f"{column} is no layer, nor part of one: nothing varies along it")
    found = [number(text) for text in evidence.texts(name)]
    if not np.isfinite(found).any():
        raise CannotTell(f"the levels of {column} are no numbers")
    return found


def _crossed(
    gauge: Gauge, curve: Mapping[float, Amount], test: Assertion, place: Mapping[str, str]
) -> Answered:
    """Say whether a is the better choice from a level on (``<``), or not yet (``>``)."""
    xs, at = sorted(curve), cast(float, test.bound)
    first, last = xs[0], xs[-1]
    a, b = (called(test.quantity.sides[side]) for side in ("a", "b"))
    told = _described(curve, xs, a)
    if not first <= at <= last:
        told = f"{at:g} is outside of the levels, {first:g} to {last:g}; {told}"
        return Answered(place, 1.0, 1.0, told=told)
    beyond = [_inside(curve, xs, at), *(curve[x] for x in xs if x > at)]
    every = max(d.below(0.0) for d in beyond)
    some = len(beyond) * min(d.above(0.0) for d in beyond)
    true, false = (every, some) if test.sign[0] == "<" else (some, every)
    low, high = beyond[0].interval()
    column, how = test.quantity.columns["along"], "" if at in curve else BETWEEN
    told = f"at {column} {at:g}{how}, {a} {beside(gauge, beyond[0], b)}; {told}"
    return Answered(
        place, min(1.0, true), min(1.0, false), float(np.exp(beyond[0].value)),
        float(np.exp(low)), float(np.exp(high)), beyond[0].side(1), beyond[0].side(-1), told,
    )  # fmt: skip


def _inside(curve: Mapping[float, Amount], xs: Sequence[float], at: float) -> Amount:
    """Return the curve at a place between two levels: a straight line joins them."""
    if at in curve:
        return curve[at]
    above = next(x for x in xs if x > at)
    below = xs[xs.index(above) - 1]
    share = (at - below) / (above - below)
    return plus([scaled(curve[below], 1 - share), scaled(curve[above], share)])


def _described(curve: Mapping[float, Amount], xs: Sequence[float], a: str) -> str:
    """Return where a curve crosses, in words."""
    value = [curve[x].value for x in xs]
    sure = ["better" if curve[x].below(0.0) < SURE else "worse" if curve[x].above(0.0) < SURE
            else "open" for x in xs]  # fmt: skip
    for i in range(len(xs) - 1):
        if value[i] > 0 >= value[i + 1]:
            where = xs[i] + (xs[i + 1] - xs[i]) * value[i] / (value[i] - value[i + 1])
            return f"break-even near {where:.3g}"
    if all(s == sure[0] for s in sure) and sure[0] != "open":
        return f"{a} is {sure[0]} at every level from {xs[0]:g} to {xs[-1]:g}"
    return f"no break-even is seen from {xs[0]:g} to {xs[-1]:g}"


# ---------------------------------------------------------------- elbows


def elbow(evidence: Basis, claim: Claim, test: Assertion) -> Answers:
    """Answer from where on the next step costs more than it gives, in every context.

    Raises:
        CannotTell: the goals say nothing of accuracy; the column has no numbers; nothing is left.
    """
    gauge, given = main_of(evidence), test.quantity.columns["along"]
    worth = worth_of(evidence.table)
    if isinstance(worth, str):
        raise CannotTell(worth)
    rows = chosen(evidence, gauge, claim.where)
    made, lonely = [], []
    for place, levels, matrix, dropped in _curves(evidence, rows, given, test):
        found = elbow_of(evidence.table, evidence.estimates, levels, matrix, worth)
        if found is None:
            lonely.append(place)
        else:
            answer = _bent(found, cast(float, test.bound), test.sign, place, matrix)
            made.append(replace(answer, told=answer.told + dropped))
    if not made:
        raise CannotTell(
            f"no case has accuracy at two levels of {given}, with a place that has all levels"
        )
    return made, lonely


def _curves(
    evidence: Basis, rows: Ints, given: str, test: Assertion
) -> Iterator[tuple[dict[str, str], list[float], Ints, str]]:
    """Give for each context its levels, the rows by place and level, and what was left out."""
    numbers, column = _numbers_of(evidence, given), evidence.named(given)
    layer = evidence.layer(column)
    names = places_of(evidence, test.contexts, [layer])
    every, others = rows.tolist(), rest_of(evidence, [layer])
    place, fixed = keys_of(evidence, names, every), keys_of(evidence, others, every)
    beside = fixed_of(evidence, layer, [column], rows, every)
    factor = next((f for f in evidence.table.factors if f.name == column), None)
    start = without(evidence.table, evidence.estimates, factor) if factor else None
    found: dict[Key, dict[Key, dict[float, int]]] = {}
    for r in every:
        if np.isfinite(numbers[r]):
            curve = found.setdefault(place[r], {}).setdefault((*fixed[r], *beside[r]), {})
            curve[numbers[r]] = r
            if start and (first := start.of(r)) is not None:
                curve.setdefault(WITHOUT, first)
    for key, curves in found.items():
        levels, whole = _whole(curves)
        matrix = np.array([[curve[x] for x in levels] for curve in whole], dtype=np.int64)
        yield placed(names, key), levels, matrix, _dropped(len(whole), len(curves))


def _bent(found: Elbow, at: float, sign: str, place: Mapping[str, str], rows: Ints) -> Answered:
    """Say whether the elbow is at a level or beyond (``>=``), or before it (``<``)."""
    first, last = found.steps[0].level, found.steps[-1].next
    end = "" if np.isinf(found.high) else f" to {found.high:g}"
    told = f"elbow at {found.level:g} ({found.low:g}{end or ' or more'})"
    beyond = at >= last if sign in (">", "<=") else at > last
    if at < first or beyond:
        told = f"{at:g} leaves the levels, {first:g} to {last:g}; {told}"
        return Answered(place, 1.0, 1.0, told=told)
    strict = sign in (">", "<=")
    before = [s for s in found.steps if s.level < at or (strict and s.level == at)]
    pay = max((s.pays for s in before), default=0.0)
    lose = min((len(before) * s.loses for s in before), default=1.0)
    true, false = (pay, lose) if sign[0] == ">" else (lose, pay)
    return Answered(
        place, min(1.0, true), min(1.0, false), found.level, found.low, found.high,
        tuple(rows[:, 0].tolist()), tuple(rows[:, -1].tolist()), told,
    )  # fmt: skip
