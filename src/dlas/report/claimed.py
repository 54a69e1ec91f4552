"""The verdicts on registered claims, before anything else on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from dlas.analyze.claims import Judged, judge
from dlas.analyze.claims.judge import Tried
from dlas.analyze.claims.spoken import SIGNS, sentence
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
        "<p>Sentences with a test that code carries out on the numbers below: what was expected, "
        "and what became of it. The chance of any false verdict in a table is at most 5&nbsp;%. "
        "<code>dlas check</code> shows the cells behind each.</p>"
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
        told = mark if one.rounds else escape(before_or_after(one))
        yield f"<li>{told} ({escape(str(folder))})</li>"
    yield "</ul>"
    try:
        file = read_claims(first.path)
        evidence = of_folders(folders, file, Instructions(), results)
    except UserError as error:
        yield f"<p>The claims cannot be judged: {escape(str(error))}</p>"
        return
    yield (
        "<table><thead><tr><th>Verdict</th><th>Claim</th><th>Contexts</th><th>Why, and what would "
        "change it</th></tr></thead><tbody>"
    )
    for one_claim in judge(evidence, file):
        yield _row(one_claim)
    yield "</tbody></table>"


def _row(one: Judged) -> str:
    source = f"<br><small>{escape(one.claim.source)}</small>" if one.claim.source else ""
    why = " ".join(part for part in (sentence(one.reason), one.change) if part)
    return (
        f"<tr><td>{SIGNS[one.verdict]}&nbsp;{escape(one.verdict)}</td>"
        f"<td>{escape(one.claim.sentence)}{source}</td>"
        f"<td>{'<br>'.join(escape(contexts(t)) for t in one.tests)}</td>"
        f"<td>{escape(why)}</td></tr>"
    )


def contexts(tried: Tried) -> str:
    """Return in how many contexts a test surely holds, surely does not, or nobody can tell."""
    if not tried.answers:
        return "none"
    said = [f"{tried.count(True)} yes", f"{tried.count(False)} no"]
    if tried.count(None):
        said.append(f"{tried.count(None)} undecided")
    if tried.lonely:
        said.append(f"{len(tried.lonely)} with one side missing")
    return ", ".join(said)
