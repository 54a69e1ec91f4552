"""Choices as text: their parts and parameters, and the columns that are a layer's sub-layers.

``thin(s=0.5)+narrow`` has the parts ``thin(s=0.5)`` and ``narrow``, of the techniques ``thin`` and
``narrow``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from itertools import combinations

import pandas as pd

from dlas.analyze.estimate.levels import EMPTY, number, skeleton
from dlas.core.stack import DEFAULTS

PLAIN = DEFAULTS["optimization"]
"""What a sub-layer has where it has no technique."""
MOST = 8
"""Columns among which sub-layers are sought: more have too many combinations."""


def parts_of(text: str) -> list[str]:
    """Return the parts of a choice, with their parameters."""
    return _split(text, "+")


def _split(text: str, at: str) -> list[str]:
    """Split a text outside of its brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == at and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def less(text: str, names: Sequence[str], values: Sequence[str]) -> str:
    """Return a choice's text without some of its parameters.

    Args:
        text: the choice.
        names: the parameters, ``name`` or ``technique.name``.
        values: what they are in this choice: what is written without a name is known by them.
    """
    own = {v for v in values if v != EMPTY}
    own |= {str(x) for v in own if (x := number(v)) == x}
    parts = []
    for part in parts_of(text):
        technique, bracket, inner = part.partition("(")
        if bracket:
            mine = {n for n in names if "." not in n or n.startswith(f"{technique}.")}
            told = {n.rpartition(".")[2] for n in mine}
            kept = [a for a in _split(inner[:-1], ",") if not _known(a, told, own)]
            part = f"{technique}({','.join(kept)})" if kept else technique
        parts.append(part)
    return "+".join(parts)


def _known(argument: str, names: Set[str], values: Set[str]) -> bool:
    """Say whether a written parameter is one of those that are told elsewhere."""
    name, equals, _ = (x.strip() for x in argument.partition("="))
    if equals:
        return name in names
    return name in values or str(number(name)) in values


def techniques_with(parameter: str, texts: Sequence[str]) -> set[str]:
    """Return the techniques that are written with a parameter."""
    written = re.compile(rf"[(,]\s*{re.escape(parameter)}\s*=")
    return {skeleton(p) for text in texts for p in parts_of(text) if written.search(p)}


def techniques_in(column: pd.Series) -> set[str]:
    """Return the techniques of a column's levels."""
    return {skeleton(p) for text in column.unique() if text != EMPTY for p in parts_of(text)}


def sublayers_among(
    cells: pd.DataFrame, layer: str, columns: Sequence[str], plain: Set[str]
) -> dict[str, str]:
    """Return the columns that are a layer's sub-layers, none where none spell its choices.

    In every row the techniques of those that it has are together the layer's, one combination
    of levels is one choice, and what a level of one stands for in the layer's text, with its
    parameters, is always the same: so where the others are equal all else of the layer is. Of
    several ways the one with the most columns.

    Args:
        cells: the table, as text.
        layer: a layer.
        columns: its parameters whose levels are names.
        plain: the levels that stand for no technique; each column may have one more of its own,
            which is returned with it.
    """
    names = techniques_in(cells[layer]) | plain
    idle = {c: techniques_in(cells[c]) - names for c in columns}
    some = [c for c in columns if len(idle[c]) <= 1 and techniques_in(cells[c]) - idle[c] - plain]
    for size in range(min(len(some), MOST), 0, -1):
        for found in combinations(some[:MOST], size):
            if _spell(cells, layer, {c: plain | idle[c] for c in found}):
                return {c: next(iter(idle[c]), "") for c in found}
    return {}


def _spell(cells: pd.DataFrame, layer: str, columns: dict[str, Set[str]]) -> bool:
    """Say whether columns, each with its plain levels, spell a layer's choices."""
    rows = cells[[layer, *columns]].drop_duplicates()
    rows = rows[(rows[list(columns)] != EMPTY).any(axis=1)]
    if rows[list(columns)].duplicated().any():
        return False
    stands_for: dict[tuple[str, str], list[str]] = {}
    for text, *levels in rows.itertuples(index=False, name=None):
        whole = {skeleton(p): p for p in parts_of(text)}
        used: list[str] = []
        for (column, plain), level in zip(columns.items(), levels, strict=True):
            if level == EMPTY:
                continue
            own = [t for p in parts_of(level) if (t := skeleton(p)) not in plain]
            used += own
            spelled = [whole.get(t, "") for t in own]
            if stands_for.setdefault((column, level), spelled) != spelled:
                return False
        plain_all = frozenset().union(*columns.values())
        if sorted(used) != sorted(t for t in whole if t not in plain_all or t in used):
            return False
    return bool(stands_for)
