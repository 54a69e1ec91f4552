"""Verdicts as text and as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlas.analyze.claims.amounts import Answered
from dlas.analyze.claims.gauges import Basis
from dlas.analyze.claims.hypothesis import ClaimsFile
from dlas.analyze.claims.judge import CANNOT, NOT, REPRODUCED, Judged, Tried
from dlas.analyze.conclusion import plain

VERDICTS = (REPRODUCED, NOT, CANNOT)
SCHEMA = 1
"""Version of the JSON; raised when a field changes its meaning or goes."""
SHOWN = 3
"""Cells of a side that text names."""
ANSWERS: Mapping[bool | None, str] = {True: "yes", False: "no", None: "undecided"}


def counts(judged: Sequence[Judged]) -> dict[str, int]:
    """Return how many claims have each verdict."""
    found = Counter(one.verdict for one in judged)
    return {verdict: found[verdict] for verdict in VERDICTS}


def as_text(
    evidence: Basis, file: ClaimsFile, judged: Sequence[Judged], notes: Iterable[str] = ()
) -> str:
    """Return the verdicts as lines of text, never wrapped."""
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts(judged).items())
    lines = [
        f"{file.name}: {len(judged)} claims: {told} (chance of any false verdict: at most 5 %)"
    ]
    lines += [f"note: {note}" for note in notes]
    for one in judged:
        lines += ["", f"{one.claim.id}: {one.verdict.upper()}. {one.claim.sentence}"]
        if one.claim.source:
            lines.append(f"   source: {one.claim.source}")
        for tried in one.tests:
            lines += _of_test(evidence, tried)
        if one.reason:
            lines.append(f"   cannot tell: {one.reason}")
        if one.change:
            lines.append(f"   would change it: {one.change}")
    return "\n".join(lines) + "\n"


def _of_test(evidence: Basis, tried: Tried) -> list[str]:
    lines = [f"   test: {tried.test.text}"]
    if not tried.answers:
        return lines
    missing = f", {len(tried.lonely)} with one side missing" if tried.lonely else ""
    if tried.test.how:
        lines.append(
            f"   contexts: {tried.count(True)} surely yes, {tried.count(False)} surely no, "
            f"{tried.count(None)} undecided{missing}"
        )
    one = tried.decisive
    if one is not None:
        lines.append(f"   it hangs on: {_where(one)}{_number(one)}")
        for sign, rows in (("first", one.first), ("second", one.second)):
            if rows:
                lines.append(f"   cells, {sign} side: {_cells(evidence, rows)}")
    return lines


def _where(one: Answered) -> str:
    place = ", ".join(f"{c}={v}" for c, v in one.place.items()) or "all cells"
    return f"{place}: {ANSWERS[one.surely]}"


def _number(one: Answered) -> str:
    told = f", {one.told}" if one.told else ""
    if not math.isfinite(one.value):
        return told
    high = f"{one.high:.3g}" if math.isfinite(one.high) else "more"
    return f"{told}, {one.value:.3g} ({one.low:.3g} to {high})"


def _cells(evidence: Basis, rows: Sequence[int]) -> str:
    names = cells(evidence, rows)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more


def cells(evidence: Basis, rows: Sequence[int]) -> list[str]:
    """Return the names of the cells of some rows."""
    ids = evidence.table.rows["cell"].tolist()
    return list(dict.fromkeys(str(ids[r]) for r in rows))


def as_json(
    evidence: Basis, file: ClaimsFile, judged: Sequence[Judged], notes: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the verdicts as plain values; ``docs/claims.md`` says what each field is."""
    made: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "name": file.name,
            "hash": file.hash,
            "registered": file.registered,
            "metric": evidence.table.metric,
            "counts": counts(judged),
            "notes": [*notes],
            "claims": [_claim(evidence, one) for one in judged],
        }
    )
    return made


def _claim(evidence: Basis, one: Judged) -> dict[str, Any]:
    return {
        "id": one.claim.id,
        "claim": one.claim.sentence,
        "source": one.claim.source,
        "verdict": one.verdict,
        "p": one.p,
        "reason": one.reason,
        "change": one.change,
        "tests": [_test(evidence, tried) for tried in one.tests],
    }


def _test(evidence: Basis, tried: Tried) -> dict[str, Any]:
    return {
        "test": tried.test.text,
        "yes": tried.count(True),
        "no": tried.count(False),
        "undecided": tried.count(None),
        "one_side_missing": len(tried.lonely),
        "missing_in": list(tried.lonely),
        "reason": tried.reason,
        "contexts": [
            {
                "context": dict(a.place), "answer": ANSWERS[a.surely], "value": a.value,
                "low": a.low, "high": a.high, "told": a.told,
                "first": cells(evidence, a.first), "second": cells(evidence, a.second),
            }
            for a in tried.answers
        ],
    }  # fmt: skip


# ---------------------------------------------------------------- a page for people

SIGNS = {REPRODUCED: "\u2713", NOT: "\u2717", CANNOT: "?"}
"""The mark of each verdict."""
ABOUT = (
    "Each row is a sentence that was put to the test on measured numbers. *Reproduced*: the "
    "numbers surely say so, in every, some or most of the places that it speaks of. "
    "*Not reproduced*: they surely say the contrary. *Cannot "
    "tell*: noise, or too few places to look at, leaves it open. A *context* is one place to look "
    "at: everything that the sentence does not speak of is the same on both sides. The chance "
    "that any of these verdicts is wrong through noise is at most 5 %."
)


def as_markdown(
    evidence: Basis, file: ClaimsFile, judged: Sequence[Judged], notes: Iterable[str] = ()
) -> str:
    """Return a page of verdicts for somebody who knows neither the claims nor dlas."""
    table = evidence.table
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts(judged).items())
    ran = int(table.complete.sum())
    lines = [
        f"# Verdicts: {file.name}",
        "",
        f"{file.description} {len(judged)} claims, judged by {table.metric} of {ran} of "
        f"{len(table.cells)} stacks: {told}.".strip(),
        "",
        ABOUT,
        "",
        "| | claim | verdict | contexts | the numbers it hangs on |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in judged:
        lines.append(
            f"| {one.claim.id} | {_cell(one.claim.sentence)} | "
            f"{SIGNS[one.verdict]} {one.verdict} | "
            f"{'<br>'.join(_counted(t) for t in one.tests)} | "
            f"{'<br>'.join(_cell(_shown_by(t)) for t in one.tests)} |"
        )
    lines += ["", "## Where each claim is from, and what would change its verdict", ""]
    for one in judged:
        parts = [f"Source: {one.claim.source}." if one.claim.source else "", sentence(one.reason)]
        parts += [f"Would change it: {one.change}" if one.change else ""]
        lines.append(f"- **{one.claim.id}**: {' '.join(p for p in parts if p)}")
        lines += [f"  `{t.test.text}`" for t in one.tests]
    lines += ["", "## How it was measured", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def sentence(text: str) -> str:
    """Return words as a sentence; nothing of nothing."""
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _counted(tried: Tried) -> str:
    if not tried.answers:
        return "no context"
    if not tried.test.how:
        return "all together"
    return (
        f"{tried.count(True)} yes, {tried.count(False)} no, {tried.count(None)} open"
        + (f", {len(tried.lonely)} with one side missing" if tried.lonely else "")
    )  # fmt: skip


def _shown_by(tried: Tried) -> str:
    one = tried.decisive
    if one is None:
        return tried.reason
    place = ", ".join(f"{c}={v}" for c, v in one.place.items()) or "all cells"
    return f"{place}{_number(one)}"
