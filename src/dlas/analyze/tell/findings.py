"""From the parts of an analysis to ranked sentences with their evidence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from dlas.analyze.conclusion import BEYOND, SIGNIFICANT, STATED, Analysis, Finding
from dlas.analyze.parts.contenders import Contenders, all_near
from dlas.analyze.parts.contrasts import benjamini_hochberg
from dlas.analyze.parts.partition import GIVEN
from dlas.analyze.tell.breakeven import break_evens
from dlas.analyze.tell.correlate import correlations
from dlas.analyze.tell.coverage import failures
from dlas.analyze.tell.effects import losses, speedups
from dlas.analyze.tell.elbows import elbows
from dlas.analyze.tell.expected import expected
from dlas.analyze.tell.flips import flips
from dlas.analyze.tell.interactions import interactions
from dlas.analyze.tell.noise import noise
from dlas.analyze.tell.ordered import returns, scaling
from dlas.analyze.tell.pareto import front, several_goals
from dlas.analyze.tell.price import price
from dlas.analyze.tell.roofline import roofline
from dlas.analyze.tell.shares import importance
from dlas.analyze.tell.taken import best
from dlas.analyze.tell.waterfall import waterfalls
from dlas.analyze.tell.ways import ways
from dlas.analyze.tell.winners import dominance
from dlas.core.stack import LAYERS

FDR = 0.05
FIRST = ("price", "best", "importance", "order", "ways", "noise")
"""Kinds that answer the study's questions; they are told first, in this order."""
PROBLEM = tuple(x for x in GIVEN if x != "hardware")
"""Layers of the problem: their choices are compared, but seldom chosen."""
TRIVIAL = ("expectation",)
"""Kinds whose null hypothesis (a cost predicts the metric exactly) hardly ever holds."""
MOST = 200
"""Findings told beside those of ``FIRST`` and ``LAST``; more would not be read."""
LAST = ("waterfall", "correlation", "roofline", "front", "failures", "coverage")
"""Kinds that describe; they are told last, in this order."""


def findings(analysis: Analysis) -> tuple[Finding, ...]:
    """Return all findings, false discoveries among them held to 5 %, in the order to be told.

    A finding that claims a difference is kept where its false discovery rate over all of them
    (Benjamini and Hochberg 1995) is below 5 %, and that among those of its sort: claims that are
    nearly always true (``TRIVIAL``) would otherwise pay for false ones of the others. Where no
    noise is known it is kept where it is beyond the floor.

    Of every fact one finding comes first, those about contenders (choices near the best that can
    be reached) before those about straw men, then what else is told of the same facts. Among
    these rank goes by size and certainty: the end of the interval that is nearer to no effect, or
    what the choice is worth among stacks near the best (``Finding.worth``), if that is less; the
    second finding of a kind counts half of its size, the third a third, so that one kind does
    not hide the others.
    """
    found = list(_claims(analysis))
    judged = [
        replace(f, contender=f.contender and _decides(analysis, f))
        for f in _judged(analysis, found)
    ]
    ranked = _ranked(judged, _first(analysis), analysis.contenders)
    return tuple(replace(f, rank=i + 1) for i, f in enumerate(ranked))


def _first(analysis: Analysis) -> tuple[str, ...]:
    """Return the kinds that are told first; of several goals the front is the answer.

    A stack's price of tuning layer by layer comes before it; other tables have other layers.
    """
    if not several_goals(analysis):
        return FIRST
    if set(analysis.table.layers) <= set(LAYERS):
        return (*FIRST[:1], "front", *FIRST[1:])
    return ("front", *FIRST)


def _decides(analysis: Analysis, f: Finding) -> bool:
    """Say whether a finding may decide something: about contenders, and not the problem itself."""
    if f.layers and not f.choices and set(f.layers) <= set(PROBLEM):
        return False
    if any(c.partition("=")[0] in PROBLEM for c in f.choices[:1]):
        return False
    return all_near(analysis.contenders, f.choices)


def _claims(analysis: Analysis) -> Iterable[Finding]:
    yield from price(analysis)
    yield from best(analysis)
    yield from importance(analysis)
    yield from noise(analysis)
    yield from speedups(analysis)
    yield from losses(analysis)
    yield from interactions(analysis)
    yield from flips(analysis)
    yield from dominance(analysis)
    yield from ways(analysis)
    yield from scaling(analysis)
    yield from break_evens(analysis)
    yield from returns(analysis)
    yield from elbows(analysis)
    yield from expected(analysis)
    yield from waterfalls(analysis)
    yield from roofline(analysis)
    yield from correlations(analysis)
    yield from front(analysis)
    yield from failures(analysis)


def _judged(analysis: Analysis, found: list[Finding]) -> list[Finding]:
    """Keep what the false discovery rate, or the floor, lets through."""
    p = np.array([f.p for f in found])
    q = benjamini_hochberg(p)
    trivial = np.array([f.kind in TRIVIAL for f in found], bool)
    for sort in (trivial, ~trivial):
        q[sort] = np.maximum(q[sort], benjamini_hochberg(p[sort]))
    out = []
    for f, rate in zip(found, q.tolist(), strict=True):
        if f.certainty == STATED:
            out.append(f)
        elif not analysis.estimates.known:
            if f.ratio > 1 + analysis.table.floor:
                out.append(replace(f, certainty=BEYOND))
        elif rate < FDR:
            out.append(replace(f, q=rate, certainty=SIGNIFICANT))
    return out


def _ranked(
    found: list[Finding], to_begin: tuple[str, ...], near: Contenders | None = None
) -> list[Finding]:
    """Return findings in the order in which they are told.

    Of those that are not about contenders alone, the ones with a contender on a side come first:
    by how much a straw man is worse than another one decides nothing.
    """
    seen: dict[str, int] = {}
    scored = []
    for f in sorted(found, key=_size, reverse=True):
        # What is about straw men does not push back what is about contenders.
        key = f"{f.kind} {f.contender}"
        seen[key] = seen.get(key, 0) + 1
        scored.append((_size(f) / seen[key], f))
    middle = sorted(
        (x for x in scored if x[1].kind not in to_begin + LAST),
        key=lambda x: (not x[1].contender, not _beside(near or {}, x[1]), -x[0]),
    )
    first = [f for kind in to_begin for f in found if f.kind == kind]
    last = [f for kind in LAST for f in found if f.kind == kind and kind not in to_begin]
    told = _once_a_fact([f for _, f in middle])
    return [*first, *told[:MOST], *last, *_rest(told[MOST:])]


def _beside(near: Contenders, f: Finding) -> bool:
    """Say whether some choice of a finding is a contender, or it is about none."""
    return not f.choices or any(all_near(near, [choice]) for choice in f.choices)


def _once_a_fact(found: list[Finding]) -> list[Finding]:
    """Put the first finding of every fact before all others, each in the order they came.

    What a choice gains, with its costs and its coverage, comes before what was promised of it. A
    layer and its sub-layer that say the same of the same cells say one fact.
    """
    heads: list[Finding] = []
    others: list[Finding] = []
    facts: set[str] = set()
    same: set[tuple[str, tuple[str, ...], float]] = set()
    gains = {f.fact for f in found if f.fact and f.kind not in TRIVIAL}
    for f in found:
        again = bool(f.fact) and (f.fact in facts or (f.kind in TRIVIAL and f.fact in gains))
        alike = (f.kind, tuple(f.cells), round(f.ratio, 9))
        again = again or (bool(f.cells) and bool(f.choices) and alike in same)
        same.add(alike)
        (others if again else heads).append(f)
        if not again:
            facts.add(f.fact)
    return heads + others


def _rest(left: list[Finding]) -> list[Finding]:
    """Say how many findings are in the tables alone, of which kinds."""
    if not left:
        return []
    kinds = Counter(f.kind for f in left)
    shown = ", ".join(f"{n} of kind {kind}" for kind, n in sorted(kinds.items()))
    text = f"{len(left)} findings with less to say are in the tables alone ({shown})."
    return [Finding("rest", text, numbers=dict(kinds), overturn="The tables hold all of them.")]


def _size(f: Finding) -> float:
    """Return the log of the end of the interval nearer to no effect, of the ratio without one.

    Of a choice between contenders no more than it is worth.
    """
    near = f.low if math.isfinite(f.low) else f.ratio
    size = abs(math.log(near)) if math.isfinite(near) and near > 0 else 0.0
    return min(size, math.log(f.worth)) if f.contender and math.isfinite(f.worth) else size
