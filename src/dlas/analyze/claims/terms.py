"""Quantities that are numbers: ratios of two choices, drops of accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dlas.analyze.claims.amounts import Amount, Answered, gap, mean, minus, of_rows, plus
from dlas.analyze.claims.gauges import Basis, Gauge
from dlas.analyze.claims.hypothesis import Assertion, Claim, Term
from dlas.analyze.claims.pairs import (
    CannotTell,
    Key,
    chosen,
    holding,
    keys_of,
    layer_of_rules,
    paired,
    placed,
    places_of,
)
from dlas.analyze.tell.words import number as tell
from dlas.core.errors import UserError
from dlas.core.rules import Rule

AGAINST = " against "
"""Between two quantities that are compared."""
EQUAL = 1e-9
"""Logarithms that differ by less are the same."""


@dataclass(frozen=True)
class Numbered:
    """A quantity by context, as amounts."""

    amounts: dict[Key, Amount]
    names: tuple[str, ...]
    lonely: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    logarithmic: bool = True


def gauge_of(evidence: Basis, column: str) -> Gauge:
    """Return what is known of a column that a claim names.

    Raises:
        CannotTell: the table has no such column, or nothing is known of its error.
    """
    if why := evidence.unknown(column):
        raise CannotTell(why)
    name = evidence.named(column)
    if name not in evidence.table.cells and name != evidence.main.column:
        raise CannotTell(f"{name} is no column of numbers")
    found = evidence.gauge(name)
    if found.why_not:
        raise CannotTell(found.why_not)
    return found


def main_of(evidence: Basis) -> Gauge:
    """Return what is known of the metric analysed.

    Raises:
        CannotTell: nothing is known of its error.
    """
    if evidence.main.why_not:
        raise CannotTell(evidence.main.why_not)
    return evidence.main


def baseline_of(evidence: Basis, rule: Rule) -> Rule:
    """Return the rule that chooses the baseline of the layer that another rule names.

    Raises:
        CannotTell: the layer's name cannot stand in a rule.
    """
    layer, _ = layer_of_rules(evidence, [rule])
    if layer == "host":
        raise CannotTell("no host is the baseline of others: name one by `of=`")
    level = evidence.table.reference(layer)
    name = next((n for n, c in evidence.names.items() if c == layer), layer)
    kinds = {type(view[name]) for view in evidence.views if name in view}
    try:
        return Rule.parse(f"{name} == {level if kinds <= {float, bool} else repr(level)}")
    except UserError:
        raise CannotTell(f"the baseline of {layer!r} has to be named by `of=`") from None


def numbered(evidence: Basis, claim: Claim, quantity: Term, contexts: Sequence[str]) -> Numbered:
    """Return a ratio, a speed-up or a drop in every context.

    Raises:
        CannotTell: there is none, with the reason.
    """
    if quantity.name == "drop":
        return _drops(evidence, claim, quantity, contexts)
    gauge = main_of(evidence)
    if quantity.name == "ratio":
        gauge = gauge_of(evidence, quantity.columns["metric"])
        if not gauge.logarithmic:
            raise CannotTell(
                f"{gauge.column} may be zero or below: it has no ratio; say drop(...)"
            )
    a, b = quantity.sides["a"], quantity.sides.get("b", quantity.sides.get("of"))
    assert a is not None, "the language asks for it"
    b = b or baseline_of(evidence, a)
    rows = chosen(evidence, gauge, claim.where)
    found = paired(evidence, rows, (a, b), contexts)
    if not found.pairs:
        raise CannotTell(f"no two cells differ in {a.text} and {b.text} alone")
    sign = 1.0 if quantity.name == "ratio" else -gauge.sign
    amounts = {
        key: mean([gap(gauge, [one], [two]) for one, two in some])
        for key, some in found.pairs.items()
    }
    if sign < 0:
        amounts = {key: minus(amount) for key, amount in amounts.items()}
    return Numbered(amounts, found.names, dict(found.lonely), gauge.logarithmic)


def _drops(evidence: Basis, claim: Claim, quantity: Term, contexts: Sequence[str]) -> Numbered:
    """Return the accuracy that a choice loses against the unoptimized network."""
    if why := evidence.unknown("accuracy_drop"):
        raise CannotTell(f"a drop needs accuracy against the unoptimized network: {why}")
    gauge = gauge_of(evidence, "accuracy_drop")
    if gauge.logarithmic:
        raise CannotTell(
            f"a drop is a difference, and of {gauge.column} only ratios are known: it is the "
            "metric analysed, or its error is that of rounds"
        )
    rule = quantity.sides["a"]
    assert rule is not None, "the language asks for it"
    rows = holding(evidence, rule, chosen(evidence, gauge, claim.where))
    if not len(rows):
        raise CannotTell(f"no cell with a drop of accuracy meets {rule.text!r}")
    layer, _ = layer_of_rules(evidence, [rule])
    names = places_of(evidence, contexts, [layer])
    by_key: dict[Key, list[int]] = {}
    for row, key in keys_of(evidence, names, rows.tolist()).items():
        by_key.setdefault(key, []).append(row)
    amounts = {key: of_rows(gauge, some) for key, some in by_key.items()}
    return Numbered(amounts, tuple(names), {}, logarithmic=False)


def answers(
    evidence: Basis, claim: Claim, test: Assertion, floor: float
) -> tuple[list[Answered], list[dict[str, str]]]:
    """Answer a comparison of a number in every context; and the contexts with one side missing.

    Raises:
        CannotTell: there is nothing to answer from.
    """
    found = numbered(evidence, claim, test.quantity, test.contexts)
    bound, amounts = test.bound, found.amounts
    if isinstance(bound, Term):
        other = numbered(evidence, claim, bound, test.contexts)
        if other.names != found.names:
            raise CannotTell(
                f"{test.quantity.text} has a value by {', '.join(found.names)}, and {bound.text} "
                f"by {', '.join(other.names)}: name the columns that make a context"
            )
        both = [key for key in amounts if key in other.amounts]
        if not both:
            raise CannotTell(f"{test.quantity.text} and {bound.text} have no context in common")
        lonely = [placed(found.names, k) for k in _apart(found, other)]
        differ = {k: plus([amounts[k], minus(other.amounts[k])]) for k in both}
        made = [_answer(differ[k], 0.0, test, claim, floor, found, k) for k in both]
        return [
            _shown(a, amounts[k], other.amounts[k]) for a, k in zip(made, both, strict=True)
        ], lonely
    assert isinstance(bound, float), "the language says so"
    at = math.log(bound) if found.logarithmic else bound
    lonely = [placed(found.names, key) for key in found.lonely]
    return [_answer(v, at, test, claim, floor, found, k) for k, v in amounts.items()], lonely


def _apart(one: Numbered, two: Numbered) -> list[Key]:
    """Return the contexts in which a side of one of two quantities is missing, each once."""
    every = dict.fromkeys([*one.lonely, *one.amounts, *two.lonely, *two.amounts])
    return [key for key in every if not (key in one.amounts and key in two.amounts)]


def _answer(
    amount: Amount, at: float, test: Assertion, claim: Claim, floor: float, found: Numbered,
    key: Key,
) -> Answered:  # fmt: skip
    more = math.log1p(claim.least_effect) if found.logarithmic else claim.least_effect
    same = math.log1p(floor) if found.logarithmic else floor
    true, false = compared(amount, test.sign, at, more, same)
    value, (low, high) = amount.value, amount.interval()
    if found.logarithmic:
        value, low, high = (float(np.exp(x)) for x in (value, low, high))
    return Answered(
        placed(found.names, key), true, false, value, low, high, amount.side(1), amount.side(-1)
    )


def _shown(answer: Answered, one: Amount, two: Amount) -> Answered:
    """Return an answer about two quantities, both told, with both sides of the first."""
    first, second = (tell(float(np.exp(amount.value))) for amount in (one, two))
    told = f"{first}{AGAINST}{second}"
    return replace(answer, first=one.side(1), second=one.side(-1), told=told)


def compared(
    amount: Amount, sign: str, at: float, more: float, same: float
) -> tuple[float, float]:
    """Return the p values of "it is so" and "it is not so".

    Args:
        amount: what is compared.
        sign: how.
        at: with what.
        more: how much further it has to be.
        same: within what it is the same.
    """
    # What is exact may be equal: then it is at least so much, and surely not more.
    exact = 0.0 if amount.se else EQUAL
    equal = exact if sign.endswith("=") else -exact
    if sign in (">", ">="):
        return amount.above(at + more - equal), amount.below(at + more - equal)
    if sign in ("<", "<="):
        return amount.below(at - more + equal), amount.above(at - more + equal)
    within = max(amount.above(at - same), amount.below(at + same))
    apart = min(amount.above(at + max(more, same)), amount.below(at - max(more, same)))
    return (within, apart) if sign == "==" else (apart, within)
