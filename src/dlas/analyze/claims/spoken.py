"""Verdicts as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlas.analyze.claims.gauges import Basis
from dlas.analyze.claims.hypothesis import LEAST_CONTEXTS, Assertion, Claim, ClaimsFile
from dlas.analyze.claims.judge import CANNOT, NOT, REPRODUCED, Judged, Tried
from dlas.analyze.claims.language import ANSWERED, FORMS
from dlas.analyze.claims.plainly import METRICS, Plainly
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
            lines += _of_test(evidence, one.claim, tried)
        if one.reason:
            lines.append(f"   cannot tell: {one.reason}")
        if one.change:
            lines.append(f"   would change it: {one.change}")
    return "\n".join(lines) + "\n"


def _of_test(evidence: Basis, claim: Claim, tried: Tried) -> list[str]:
    lines = [f"   test: {tried.test.text}{conditions(evidence, claim, tried.test)}"]
    if not tried.answers:
        return lines
    missing = f", {len(tried.lonely)} with one side missing" if tried.lonely else ""
    if tried.test.how:
        lines.append(
            f"   cases: {tried.count(True)} surely yes, {tried.count(False)} surely no, "
            f"{tried.count(None)} undecided{missing}"
        )
    one = tried.decisive
    if one is not None:
        answer = ANSWERS[one.surely]
        lines.append(f"   it hangs on: {answer}: {Plainly(evidence).shown(tried)}")
        for sign, rows in (("first", one.first), ("second", one.second)):
            if rows:
                lines.append(f"   cells, {sign} side: {_cells(evidence, rows)}")
    return lines


def conditions(evidence: Basis, claim: Claim, test: Assertion) -> str:
    """Return what a claim asks of a test beside its text: ``; where ...; by at least 5 %``."""
    share = test.quantity.name == "drop"
    parts = [f"where {' and '.join(rule.text for rule in claim.where)}"] if claim.where else []
    if claim.least_effect:
        parts.append(f"by at least {_percent(claim.least_effect, share)}")
    if FORMS[test.quantity.name].gives == ANSWERED or _asks_for_the_same(test):
        floor = evidence.table.floor if claim.floor is None else claim.floor
        parts.append(f"the same: within {_percent(floor, share)}")
    if claim.least_contexts > LEAST_CONTEXTS:
        parts.append(f"in at least {claim.least_contexts} cases")
    return "".join(f"; {part}" for part in parts)


def _asks_for_the_same(test: Assertion) -> bool:
    """Say whether a test asks for a number that is the same within the floor."""
    return test.sign in ("==", "!=") and test.quantity.name in ("ratio", "speedup", "drop")


def _percent(share: float, points: bool) -> str:
    return f"{100 * share:.3g} {'points' if points else '%'}"


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
        "where": [rule.text for rule in one.claim.where],
        "contexts_at_least": one.claim.least_contexts,
        "effect_at_least": one.claim.least_effect,
        "floor": evidence.table.floor if one.claim.floor is None else one.claim.floor,
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
MEANINGS = {
    REPRODUCED: "The numbers surely say so.",
    NOT: "The numbers surely say the contrary.",
    CANNOT: "Noise, or too few cases to look at, leaves it open.",
}
"""What each verdict means."""
HEADS = ("claim", "needed in", "found in", "the case that decides")
"""What stands beside the name of a claim and its verdict."""


def about(evidence: Basis) -> tuple[str, str]:
    """Return what was measured, and how to read verdicts on it: for somebody who knows neither."""
    table = evidence.table
    metric = METRICS.get(table.metric, "")
    return (
        f"{int(table.complete.sum())} stacks were measured. A stack is one choice of each of: "
        f"{', '.join(table.layers)}. They are compared by {table.metric}"
        + (f", {metric}." if metric else "."),
        "A case is one place to look at a claim: all that it does not speak of is the same on "
        "both sides. There it surely holds (yes), surely does not (no), or noise leaves it open. "
        "Numbers in brackets are 95 % intervals. The chance that any of these verdicts is wrong "
        "through noise is at most 5 %.",
    )


def as_markdown(
    evidence: Basis, file: ClaimsFile, judged: Sequence[Judged], notes: Iterable[str] = ()
) -> str:
    """Return a page of verdicts for somebody who knows neither the claims nor dlas."""
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts(judged).items())
    lines = [f"# What became of {len(judged)} claims: {file.name}", ""]
    lines += [file.description, ""] if file.description else []
    lines += [f"**{told}.**", ""]
    lines += [text for part in about(evidence) for text in (part, "")]
    for verdict in VERDICTS:
        lines += _group(evidence, verdict, [one for one in judged if one.verdict == verdict])
    lines += ["## Where each claim is from, and what would change its verdict", ""]
    for one in judged:
        parts = [f"Source: {one.claim.source}." if one.claim.source else "", sentence(one.reason)]
        parts += [f"Would change it: {one.change}" if one.change else ""]
        lines.append(f"- **{one.claim.id}**: {' '.join(p for p in parts if p)}")
        tests = numbered(
            [
                f"`{t.test.text}`{conditions(evidence, one.claim, t.test)}{_more(evidence, t)}"
                for t in one.tests
            ]
        )
        lines += [f"  {told}" for told in tests]
    lines += ["", "## How it was measured", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _group(evidence: Basis, verdict: str, some: Sequence[Judged]) -> list[str]:
    """Return the claims of one verdict as a table; nothing where there are none."""
    if not some:
        return []
    plainly = Plainly(evidence)
    lines = [
        f"## {SIGNS[verdict]} {verdict.capitalize()}: {len(some)}", "", MEANINGS[verdict], "",
        f"| | {' | '.join(HEADS)} |", f"| --- |{' --- |' * len(HEADS)}",
    ]  # fmt: skip
    for one in some:
        columns = [numbered([_cell(said(t)) for t in one.tests]) for said in plainly.columns]
        cells = [_cell(one.claim.sentence), *("<br>".join(each) for each in columns)]
        lines.append(f"| {one.claim.id} | {' | '.join(cells)} |")
    return [*lines, ""]


def _more(evidence: Basis, tried: Tried) -> str:
    """Say in how many contexts a claim could not be looked at, and which cells decide."""
    parts, n = [], len(tried.lonely)
    if n:
        parts.append(f"{'1 case has' if n == 1 else f'{n} cases have'} one side only")
    parts += [f"decided by {told}"] if (told := deciding(evidence, tried)) else []
    return f" ({'; '.join(parts)})" if parts else ""


def numbered(texts: Sequence[str]) -> list[str]:
    """Return what is said of each test of a claim, numbered where they are several and differ."""
    if len(set(texts)) == 1:
        return [texts[0]]
    return [f"{n}) {text}" for n, text in enumerate(texts, start=1)]


def deciding(evidence: Basis, tried: Tried) -> str:
    """Name the cells on both sides of the case that decides; nothing where there is none."""
    one = tried.decisive
    sides = [rows for rows in (one.first, one.second) if rows] if one else []
    return " against ".join(_cells(evidence, rows) for rows in sides)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def sentence(text: str) -> str:
    """Return words as a sentence; nothing of nothing."""
    return f"{text[0].upper()}{text[1:]}." if text else ""
