"""The environments in which software ran: their versions, and two of them as one level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from dlas.core import registry
from dlas.core.protocols import Software
from dlas.core.stack import Choice, Stack
from dlas.store.facts import Built
from dlas.store.results import CellRow
from dlas.tables.read import Results, current

Texts = Mapping[str, str]
"""Software as it is written, and as it is written without its path."""


def several(results: Results) -> list[str]:
    """Say which versions the levels are that one software has in several environments."""
    results = current([results])[0]
    ran = versions(results)
    same: dict[str, list[str]] = defaultdict(list)
    for text, plain in texts_of(results).items():
        same[plain].append(text)
    groups = [texts for texts in same.values() if len({ran.get(t, "") for t in texts}) > 1]
    if not groups:
        return []
    levels = [f"{text} is {ran[text]}" for texts in groups for text in texts if text in ran]
    return [f"{results.folder}: versions are levels of software: {'; '.join(levels)}."]


def versions(results: Results) -> dict[str, str]:
    """Return the versions of its libraries that each software, as it is written, was built by."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for (cell, _), facts in results.facts_of.items():
        built = facts.get(Built.KIND)
        known = Built.from_json(built.value).versions if built else None
        if known and cell in results.texts:
            for name, version in known.items():  # what quantizes has a part in int8 cells alone
                found[results.texts[cell].software][name].add(version)
    return {
        text: ", ".join(f"{name} {' or '.join(sorted(v))}" for name, v in sorted(each.items()))
        for text, each in found.items()
    }


def texts_of(results: Results) -> Texts:
    """Return all software of a folder, by its text, without its path."""
    stacks = (results.stacks[row.cell] for row in results.rows_of_cells)
    return {stack.text("software"): _plain(stack.software[0]).text for stack in stacks}


def matched(a: Results, b: Results) -> tuple[Results, Results, tuple[str, ...]]:
    """Return two folders in which software of two environments is called alike, and which it is.

    Where an environment lies tells nothing of what is compared. So where each folder has one of a
    software, and not the same, both lose the path, and a sentence says which version is which.
    """
    one, two = texts_of(a), texts_of(b)
    pairs = {}
    for plain in {*one.values()} & {*two.values()}:
        first, second = ([t for t, p in each.items() if p == plain] for each in (one, two))
        if len(first) == len(second) == 1 and first != second:
            pairs[plain] = first[0], second[0]
    ran = versions(a), versions(b)
    said = tuple(
        f"software {plain}: {_called(ran[0], first)} against {_called(ran[1], second)}"
        for plain, (first, second) in sorted(pairs.items())
    )
    return (
        _renamed(a, {first for first, _ in pairs.values()}),
        _renamed(b, {second for _, second in pairs.values()}),
        said,
    )


def _called(ran: Mapping[str, str], text: str) -> str:
    return f"{ran[text]} ({text})" if text in ran else text


def _renamed(results: Results, texts: set[str]) -> Results:
    """Return results in which software of these texts stands without its path."""
    if not texts:
        return results
    cells = [_without(row) if row.software in texts else row for row in results.cells]
    return replace(results, cells=cells, remembered={})


def _without(row: CellRow) -> CellRow:
    stack = Stack.from_json(row.stack)
    plain = replace(stack, software=tuple(_plain(choice) for choice in stack.software))
    return replace(row, software=plain.text("software"), stack=plain.to_json())


def _plain(choice: Choice) -> Choice:
    """Return a choice whose text leaves out its paths: of its interpreter, of what converts."""
    places = {*Software.places, *registry.place_names("software", choice.name)}
    shown = tuple(name for name in choice.shown if name not in places)
    return replace(choice, shown=shown)
