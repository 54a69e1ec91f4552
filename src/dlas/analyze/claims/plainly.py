"""What a claim's test found, in sentences for somebody who knows neither the claim nor dlas."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from dlas.analyze.claims.amounts import Answered
from dlas.analyze.claims.gauges import Basis
from dlas.analyze.claims.hypothesis import EVERY, MOST, SOME, Term, called
from dlas.analyze.claims.judge import Tried
from dlas.analyze.claims.language import PLACES
from dlas.analyze.claims.orders import JUDGES
from dlas.analyze.claims.terms import AGAINST
from dlas.analyze.tell.words import is_time, number

NEEDED = {EVERY: "every case", SOME: "at least one case", MOST: "more than half of the cases"}
"""In how many contexts a test has to hold, by its quantifier."""
METRICS = {
    "quiet_ms": "the time of one inference in milliseconds, undisturbed by neighbours",
    "latency_ms": "the time of one inference in milliseconds, as seen",
}
"""What a metric of a study is."""


@dataclass(frozen=True)
class Plainly:
    """Says it of one table: names of choices are short, layers of one level are left out."""

    evidence: Basis

    @cached_property
    def _brief(self) -> Mapping[str, str]:
        """The short name of every choice of any layer."""
        return ChainMap(*(dict(names) for names in self.evidence.short.values()))

    def _sides(self, term: Term) -> tuple[str, str]:
        """Return how the two sides of a quantity are called."""
        sides = term.sides["a"], term.sides.get("b", term.sides.get("of"))
        first, second = (self._brief.get(name, name) for name in map(called, sides))
        return first, second

    def place(self, place: Mapping[str, str]) -> str:
        """Return a context: ``layer a, other layer b``; nothing where it is all there is."""
        levels = self.evidence.table.levels
        shown = [
            f"{name} {self.evidence.brief(name, value)}"
            for name, value in place.items()
            if len(levels.get(name, ("", ""))) > 1
        ]
        return ", ".join(shown)

    # ------------------------------------------------------------ a test

    @property
    def columns(self) -> tuple[Callable[[Tried], str], ...]:
        """What is said of a test: where it has to hold, where it does, an example."""
        return self.needed, self.counted, self.shown

    def needed(self, tried: Tried) -> str:
        """Return in how many contexts it has to hold."""
        return NEEDED.get(tried.test.how, "all cases together")

    def counted(self, tried: Tried) -> str:
        """Return in how many contexts it surely holds, surely does not, or nobody can tell."""
        if not tried.answers:
            return "no case to look at"
        if not tried.test.how:
            return {True: "yes", False: "no", None: "open"}[tried.answers[0].surely]
        parts = (
            (tried.count(True), "yes"),
            (tried.count(False), "no"),
            (tried.count(None), "open"),
        )
        told = ", ".join(f"{n} {word}" for n, word in parts if n)
        return f"{told} (of {len(tried.answers)})" if len(told.split(", ")) > 1 else told

    def shown(self, tried: Tried) -> str:
        """Return what was seen in the context on which the verdict hangs, as a sentence."""
        one = tried.decisive
        if one is None:
            return tried.reason
        where = " and ".join(rule.text for rule in tried.test.where)
        parts = (self.place(one.place), f"where {where}" if where else "")
        place = ", ".join(part for part in parts if part)
        return f"{place}: {self._found(tried, one)}" if place else self._found(tried, one)

    def _found(self, tried: Tried, one: Answered) -> str:
        test, quantity = tried.test, tried.test.quantity
        if not math.isfinite(one.value):
            return one.told
        ends = f"({number(one.low)} to {number(one.high)})"
        if quantity.name in (*JUDGES, *PLACES):
            return one.told
        if quantity.name == "drop":
            low, high = (f"{100 * x:.1f}" for x in (one.low, one.high))
            return f"{100 * one.value:.1f} points of accuracy lost ({low} to {high})"
        if quantity.name == "correlation":
            x, y = quantity.columns["x"], quantity.columns["y"]
            return f"rank correlation of {x} and {y} {one.told}: {number(one.value)} {ends}"
        if isinstance(test.bound, Term):
            first, _, second = one.told.partition(AGAINST)
            return (
                f"{self._has(quantity, first)}; {self._has(test.bound, second)}; "
                f"the first is {number(one.value)} times the second {ends}"
            )
        return self._has(quantity, number(one.value), f" {ends}")

    def _has(self, term: Term, value: str, ends: str = "") -> str:
        """Return ``a is 2.11 times as fast (1.96 to 2.27) as b``, or of what a ratio is."""
        a, b = self._sides(term)
        speedup = term.name == "speedup"
        metric = self.evidence.table.metric if speedup else term.columns["metric"]
        if is_time(metric):
            verb, how = ("is", "fast") if speedup else ("takes", "long")
            return f"{a} {verb} {value} times as {how}{ends} as {b}"
        if speedup:
            return f"{a} is {value} times as good{ends} as {b} in {metric}"
        return f"{a} has {value} times the {metric}{ends} of {b}"
