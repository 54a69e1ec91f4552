"""From answers in every context to one verdict on each claim, errors held over a whole file.

A test comes to two p values, "reproduced" and "not reproduced"; both are combined from those of
its contexts by what the quantifier says, then all claims of a file are judged together (Holm
1979), so that the chance of any false verdict among them is at most 5 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dlas.analyze.claims import along, orders, ranks, terms
from dlas.analyze.claims.amounts import Answered
from dlas.analyze.claims.gauges import Basis
from dlas.analyze.claims.hypothesis import EVERY, MOST, SOME, Assertion, Claim, ClaimsFile
from dlas.analyze.claims.pairs import CannotTell

REPRODUCED, NOT, CANNOT = "reproduced", "not reproduced", "cannot tell"
FAMILY = 0.05
Answers = tuple[list[Answered], list[dict[str, str]]]


@dataclass(frozen=True)
class Tried:
    """What became of one test of a claim."""

    test: Assertion
    answers: tuple[Answered, ...] = ()
    lonely: tuple[Mapping[str, str], ...] = ()
    """The contexts in which one side is missing."""
    true: float = 1.0
    """Two-sided p value of "reproduced"."""
    false: float = 1.0
    """Two-sided p value of "not reproduced"."""
    reason: str = ""
    """Why nothing can be told from it whatever its p values."""

    def count(self, surely: bool | None) -> int:
        """Return in how many contexts it surely holds, surely does not, or nobody can tell."""
        return sum(a.surely is surely for a in self.answers)

    @property
    def decisive(self) -> Answered | None:
        """The context on which the verdict hangs: the one that comes nearest to the contrary."""
        if not self.answers:
            return None
        if self.test.how == MOST:
            return self._of_most()
        weakest = self.test.how == EVERY or not self.test.how
        key: Callable[[Answered], float] = lambda a: a.true - a.false  # noqa: E731
        return max(self.answers, key=key) if weakest else min(self.answers, key=key)

    def _of_most(self) -> Answered:
        """Return the last context that the side nearer to a verdict needs."""
        more, half = _majority(len(self.answers))
        if self.true <= self.false:
            return sorted(self.answers, key=lambda a: a.true)[more - 1]
        return sorted(self.answers, key=lambda a: a.false)[half - 1]


@dataclass(frozen=True)
class Judged:
    """The verdict on a claim, and what it rests on."""

    claim: Claim
    verdict: str
    tests: tuple[Tried, ...]
    p: float
    """Of the verdict's side, two-sided, adjusted over the claims of the file; the smaller of both
    where nobody can tell."""
    reason: str = ""
    """Why nobody can tell."""
    change: str = ""
    """What would change the verdict."""


def judge(evidence: Basis, file: ClaimsFile) -> tuple[Judged, ...]:
    """Return the verdict on every claim of a file, in its order; nothing in a table is changed."""
    tried = [tuple(_tried(evidence, c, t) for t in c.tests) for c in file.claims]
    sides = [_sides(each) for each in tried]
    reasons = [_reason(each) for each in tried]
    # What cannot be tried is in no family: it can be no false verdict either.
    told = [i for i, reason in enumerate(reasons) if not reason]
    adjusted = dict(zip(told, _holm([min(sides[i]) for i in told]), strict=True))
    out = []
    for i, (claim, each, (true, false)) in enumerate(zip(file.claims, tried, sides, strict=True)):
        reason, p = reasons[i], adjusted.get(i, 1.0)
        verdict = CANNOT
        if not reason and p < FAMILY:
            verdict = REPRODUCED if true < false else NOT
        if verdict == CANNOT and not reason:
            reason = _undecided(each, min(true, false))
        one = Judged(claim, verdict, each, p, reason)
        out.append(replace(one, change=_change(one)))
    return tuple(out)


def _tried(evidence: Basis, claim: Claim, test: Assertion) -> Tried:
    floor = evidence.table.floor if claim.floor is None else claim.floor
    claim = replace(claim, where=(*claim.where, *test.where))
    try:
        found, lonely = _answers(evidence, claim, test, floor)
    except CannotTell as why:
        return Tried(test, reason=f"{why}")
    if test.negated:
        found = [replace(a, true=a.false, false=a.true) for a in found]
    found.sort(key=lambda a: tuple(a.place.values()))
    tried = Tried(test, tuple(found), tuple(lonely))
    need = claim.least_contexts
    if test.how and len(found) < need:
        return replace(
            tried,
            reason=f"at least {need} cases with both sides are needed, there are {len(found)}"
            + (f" ({len(lonely)} more have one side only)" if lonely else ""),
        )
    true, false = _combined(test.how, found)
    return replace(tried, true=min(1.0, 2 * true), false=min(1.0, 2 * false))


def _answers(evidence: Basis, claim: Claim, test: Assertion, floor: float) -> Answers:
    name = test.quantity.name
    if name in orders.JUDGES:
        return orders.answers(evidence, claim, test, floor)
    if name == "breakeven":
        return along.break_even(evidence, claim, test)
    if name == "elbow":
        return along.elbow(evidence, claim, test)
    if name == "correlation":
        return ranks.answers(evidence, claim, test)
    return terms.answers(evidence, claim, test, floor)


def _combined(how: str, answers: Sequence[Answered]) -> tuple[float, float]:
    """Return the one-sided p values of a quantified statement and of its contrary.

    All contexts: the largest p value. Any: the smallest, times their number. More than half: that
    of the k-th smallest, times n - k + 1 (partial conjunction; Benjamini and Heller 2008).
    """
    true, false = (np.sort([getattr(a, side) for a in answers]) for side in ("true", "false"))
    n = len(answers)
    if how == SOME:
        return n * float(true[0]), float(false[-1])
    if how == EVERY or not how:
        return float(true[-1]), n * float(false[0])
    more, half = _majority(n)
    return (
        (n - more + 1) * float(true[more - 1]),
        (n - half + 1) * float(false[half - 1]),
    )


def _majority(n: int) -> tuple[int, int]:
    """Return how many of n contexts are more than half, and how many are at least half."""
    return n // 2 + 1, (n + 1) // 2


def _sides(tests: Sequence[Tried]) -> tuple[float, float]:
    """Return the p values of a claim: all of its tests hold, or one does not."""
    return max(t.true for t in tests), min(1.0, len(tests) * min(t.false for t in tests))


def _holm(p: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number, step by step."""
    order = np.argsort(p, kind="stable")
    out, reached = [1.0] * len(p), 0.0
    for rank, i in enumerate(order.tolist()):
        reached = max(reached, min(1.0, (len(p) - rank) * p[i]))
        out[i] = reached
    return out


def _reason(tests: Sequence[Tried]) -> str:
    """Return why nothing can be told: a test of the claim cannot be tried at all."""
    reasons = list(dict.fromkeys(t.reason for t in tests if t.reason))
    return "; ".join(reasons)


def _undecided(tests: Sequence[Tried], p: float) -> str:
    """Return why the contexts do not settle it."""
    parts = []
    for t in tests:
        n = len(t.answers)
        sure, not_sure, open_ = (t.count(s) for s in (True, False, None))
        parts.append(
            f"{sure} of {n} cases say yes, {not_sure} no, {open_} neither" if t.test.how
            else "the interval lies on both sides"
        )  # fmt: skip
    if p < FAMILY:
        parts.append("sure if it stood alone, not among all claims of the file")
    return "; ".join(parts)


def _change(one: Judged) -> str:
    """Say what would change a verdict."""
    if one.verdict == CANNOT:
        return _to_tell(one)
    some = {t.test.how for t in one.tests}
    if one.verdict == REPRODUCED:
        if some == {SOME}:
            return "That it surely fails in every case."
        if some <= {EVERY, ""}:
            return "One case in which it surely fails."
        return "Cases in which it surely fails, half of all or more."
    if some == {SOME}:
        return "One case in which it surely holds."
    if some <= {EVERY, ""}:
        return "That it does not fail there when measured again, with more rounds or elsewhere."
    return "Cases in which it surely holds, more than half of all."


def _to_tell(one: Judged) -> str:
    """Say what would settle a claim."""
    said = []
    if any(t.reason and not t.answers for t in one.tests):
        said.append("Results that have what the claim needs.")
    elif any(t.reason for t in one.tests):
        said.append("More cases: levels of the layers that make them.")
    if any(t.count(None) for t in one.tests) and not said:
        said.append("More rounds of the cells that are undecided, so that their intervals shrink.")
    if any(t.lonely for t in one.tests):
        said.append("The missing side of the cases that have one side only.")
    return " ".join(said)
