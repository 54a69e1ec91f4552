"""What stands beside every comparison: in how many contexts it holds, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.covered import Coverage
from dlas.analyze.parts.paid import LEAST_DROP, SCORE, TIMES, Paid
from dlas.analyze.tell.words import better, contexts, listed, number, percent

NAMES = {
    "memory_mb": "memory", "build_s": "time to build", "tuning_s": "time to tune",
    "energy_mj": "energy", "weights_mb": "bytes of weights",
}  # fmt: skip
"""What a reader calls the columns."""
LITTLE = 0.05
"""A ratio of a cost nearer to 1 is not worth a word."""


def coverage(table: Table, found: Coverage, *, worse_than: str = "") -> str:
    """Return in how many contexts a comparison is sure, as a sentence's part.

    Args:
        table: it is of.
        found: the coverage, of the better of two choices.
        worse_than: the better one, where the sentence is about the other.
    """
    good, bad = better(table)[::-1] if worse_than else better(table)
    parts = []
    if found.contexts < found.of:
        parts.append(f"both ran in {found.contexts} of {contexts(found.of)}"
                     f"{failed(found, worse_than or 'it')}")  # fmt: skip
    if found.contexts > 1:
        counts = ((found.surely, f"surely {good}"), (found.against, f"surely {bad}"),
                  (found.undecided, "undecided"))  # fmt: skip
        told = [f"{what} in {n}" for n, what in counts if n]
        parts.append("undecided in all" if found.undecided == found.contexts else ", ".join(told))
    parts += [shared(found.shared)] if found.shared else []
    if found.hosts_of > 1:
        parts.append(f"on {found.hosts} of {found.hosts_of} machines surely so on average")
    return "; ".join(parts)


def shared(conditions: Sequence[str]) -> str:
    """Return what all contexts of a finding have in common; nothing without any."""
    return f"all of them with {' and '.join(conditions)}" if conditions else ""


def failed(found: Coverage, who: str = "it") -> str:
    """Return where a choice did not run, in brackets; nothing where it was not tried either."""
    return f" ({who} was tried and did not run in {found.failed})" if found.failed else ""


def costing(found: Sequence[Paid], *, who: str = "it") -> str:
    """Return what a gain costs or saves, ``it costs 2.1 points of accuracy and saves ...``."""
    one_way = [cost for cost in found if not _both_ways(cost)]
    said: dict[str, list[str]] = {"costs": [], "gains": [], "saves": []}
    for cost in one_way:
        text = _ratio(cost) if cost.unit == TIMES else _points(cost)
        if text:
            said[_verb(cost)].append(text)
    told = [f"{verb} {' and '.join(what)}" for verb, what in said.items() if what]
    told += [_changes(cost) for cost in found if _both_ways(cost)]
    if any(c.name == SCORE and not _points(c) for c in one_way):
        told.append(f"costs no {SCORE}")
    return f"{who} {', '.join(told)}" if told else ""


def _both_ways(cost: Paid) -> bool:
    """Say whether a change goes either way over contexts: its mean costs and gains nothing."""
    return cost.unit != TIMES and cost.least < -LEAST_DROP and cost.most > LEAST_DROP


def _changes(cost: Paid) -> str:
    """Return ``changes accuracy by -0.400 to 1.60 points (0.140 on average)``."""
    share = max(abs(cost.least), abs(cost.most)) <= 1
    unit = 100.0 if share else 1.0
    least, most, mean = (number(unit * x) for x in (cost.least, cost.most, cost.change))
    name = NAMES.get(cost.name, cost.name)
    points = " points" if share else ""
    return f"changes {name} by {least} to {most}{points} ({mean} on average)"


def _verb(cost: Paid) -> str:
    """Return what a change that is worth a word does: its direction, however small it is."""
    rises = cost.change > (1 if cost.unit == TIMES else 0)
    if rises != cost.more:
        return "costs"
    return "gains" if cost.more else "saves"


def _ratio(cost: Paid) -> str:
    """Return ``71 % of memory`` or ``2.10 times the memory``; nothing for a little."""
    name = NAMES.get(cost.name, cost.name)
    if abs(cost.change - 1) < LITTLE:
        return ""
    if cost.change < 1:
        return f"{percent(1 - cost.change)} of {name}"
    if cost.change < 2:
        return f"{percent(cost.change - 1)} more {name}"
    return f"{number(cost.change)} times the {name}"


def _points(cost: Paid) -> str:
    """Return ``2.1 points of accuracy (0.5 to 5.6)``; nothing where nothing changes."""
    share = max(abs(cost.least), abs(cost.most)) <= 1
    unit = 100.0 if share else 1.0
    if abs(cost.change) < LEAST_DROP / 2:
        return ""
    name = NAMES.get(cost.name, cost.name)
    text = f"{number(abs(cost.change) * unit)} {'points of ' if share else ''}{name}"
    sign = -unit if cost.change < 0 else unit
    low, high = sorted((sign * cost.least + 0.0, sign * cost.most + 0.0))  # never -0
    if cost.contexts > 1 and high - low > LEAST_DROP * unit:
        text += f" ({number(low)} to {number(high)})"
    return text


def meeting(found: Coverage, meets: Sequence[int], *, who: str = "it", than: str) -> str:
    """Return in how many contexts either choice meets the goals, where that tells something.

    Nothing without limits, and where both meet them everywhere.

    Args:
        found: the coverage, of the better of two choices.
        meets: in how many contexts the better and the worse one surely meet the goals; -1 without.
        who: the better one.
        than: the worse one.
    """
    own, other = meets
    if own < 0 or own == other == found.contexts:
        return ""
    if own == other:
        return f"both surely meet the goals in {own} of {contexts(found.contexts)}"
    return (
        f"{who} surely meets the goals in {own} of {contexts(found.contexts)}, {than} in {other}"
    )


def joined(parts: Sequence[str]) -> str:
    """Return sentences' parts that are not empty, with semicolons."""
    return "; ".join(part for part in parts if part)


def choices(*pairs: tuple[str, str]) -> tuple[str, ...]:
    """Return ``layer=level`` of each pair."""
    return tuple(f"{layer}={level}" for layer, level in pairs)


def either(layer: str, a: str, b: str) -> str:
    """Return what a finding about two levels is about, whichever comes first."""
    return f"{layer}: {listed(sorted((a, b)), 2)}"
