"""The verdicts on registered claims, before anything else on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from dlas.analyze.claims import Judged, judge
from dlas.analyze.claims.plainly import Plainly
from dlas.analyze.claims.spoken import (
    HEADS,
    MEANINGS,
    SIGNS,
    VERDICTS,
    about,
    conditions,
    counts,
    deciding,
    numbered,
    sentence,
)
from dlas.core.errors import UserError
from dlas.store.bundle import home
from dlas.store.registered import Registered, registrations
from dlas.tables.claims_file import read_claims
from dlas.tables.for_claims import Instructions, before_or_after, of_folders
from dlas.tables.read import Results, read

_MAIN = re.compile(r"<main\b")


def with_verdicts(
    page: str, dirs: Sequence[Path | str], results: Sequence[Results] | None = None
) -> str:
    """Return a page with the verdicts on the folders' registered claims before its first section.

    The page as it is where no claims were registered. ``results`` is what was read from the
    folders for the page.
    """
    folders = [Path(d) for d in dirs]
    told = "".join(section(folders, results))
    place = _MAIN.search(page)
    if not told or place is None:
        return page
    return f"{page[: place.start()]}{told}{page[place.start() :]}"


def section(folders: Sequence[Path], results: Sequence[Results] | None = None) -> Iterator[str]:
    """Give the section as HTML; nothing where no claims were registered."""
    found: dict[str, list[tuple[Path, Registered]]] = {}
    for folder in folders:
        for one in registrations(home(folder)):
            found.setdefault(one.hash, []).append((folder, one))
    if not found:
        return
    known = read(folders) if results is None else results
    yield '<section id="claims" aria-labelledby="claims-h"><h2 id="claims-h">Claims</h2>'
    yield (
        "<p>Sentences that somebody expected to hold, with a test that code carries out on the "
        "numbers below. <code>dlas check</code> shows the stacks behind each.</p>"
    )
    for where in found.values():
        yield from _of_file(folders, known, where)
    yield "</section>"


def _of_file(
    folders: Sequence[Path],
    results: Sequence[Results],
    where: Sequence[tuple[Path, Registered]],
) -> Iterator[str]:
    first = where[0][1]
    assert first.path is not None, "it was read from there"
    yield f"<h3>{escape(first.name)}</h3><ul>"
    for folder, one in where:
        mark = f"<strong>{escape(before_or_after(one))}</strong>"
        told = mark if one.afterwards else escape(before_or_after(one))
        yield f"<li>{told} ({escape(str(folder))})</li>"
    yield "</ul>"
    try:
        file = read_claims(first.path)
        evidence = of_folders(folders, file, Instructions(), results)
    except UserError as error:
        yield f"<p>The claims cannot be judged: {escape(str(error))}</p>"
        return
    judged, plainly = judge(evidence, file), Plainly(evidence)
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts(judged).items())
    yield f"<p><strong>{len(judged)} claims: {told}.</strong> {escape(file.description)}</p>"
    parts = "".join(f'<p class="soft">{escape(part)}</p>' for part in about(evidence))
    yield f"<details><summary>What was measured, and how to read the verdicts</summary>{parts}"
    yield "</details>"
    yield from _table(plainly, judged)


def _table(plainly: Plainly, judged: Sequence[Judged]) -> Iterator[str]:
    """Give the claims as a table, by verdict; the case that decides each on demand."""
    heads = "".join(f'<th scope="col">{escape(name.capitalize())}</th>' for name in HEADS[:-1])
    yield f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
    for verdict in VERDICTS:
        some = [one for one in judged if one.verdict == verdict]
        if not some:
            continue
        head = f"{SIGNS[verdict]} {escape(verdict.capitalize())}: {len(some)}."
        yield (
            f'<tbody><tr class="verdict"><th scope="rowgroup" colspan="{len(HEADS) - 1}">{head} '
            f'<span class="soft">{escape(MEANINGS[verdict])}</span></th></tr>'
        )
        yield from (_row(plainly, one) for one in some)
        yield "</tbody>"
    yield "</table></div>"


def _row(plainly: Plainly, one: Judged) -> str:
    *said, shown = (
        "<br>".join(escape(text) for text in numbered([column(t) for t in one.tests]))
        for column in plainly.columns
    )
    named = zip(HEADS[1:-1], said, strict=True)
    cells = "".join(f'<td data-head="{escape(head)}">{text}</td>' for head, text in named)
    claim = f"{escape(one.claim.sentence)}{_more(plainly, one, shown)}"
    return f'<tr><td class="claim">{claim}</td>{cells}</tr>'


def _more(plainly: Plainly, one: Judged, shown: str) -> str:
    """Return what decides it, where it is from, and what would change it."""
    parts = [f"{one.claim.id}."]
    parts += [f"Source: {one.claim.source}."] if one.claim.source else []
    parts += [sentence(one.reason)] if one.reason else []
    parts += [f"Would change it: {one.change}"] if one.change else []
    codes = [
        f"<code>{escape(t.test.text)}</code>"
        f"{escape(conditions(plainly.evidence, one.claim, t.test))}"
        for t in one.tests
    ]
    tests = "".join(f"<br>{code}" for code in numbered(codes))
    named = [told for t in one.tests if (told := deciding(plainly.evidence, t))]
    tests += "".join(f"<br>decided by {escape(told)}" for told in named)
    return f"<details><summary>why</summary>{shown}<br>{escape(' '.join(parts))}{tests}</details>"
