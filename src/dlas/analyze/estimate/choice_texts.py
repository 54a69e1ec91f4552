"""Choices as text: their parts and parameters, and the columns that are a layer's sub-layers.

``thin(s=0.5)+narrow`` has the parts ``thin(s=0.5)`` and ``narrow``, of the techniques ``thin`` and
``narrow``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

import pandas as pd

from dlas.analyze.estimate.levels import EMPTY, skeleton
from dlas.core.stack import DEFAULTS

PLAIN = DEFAULTS["optimization"]
"""What a sub-layer has where it has no technique."""


def parts_of(text: str) -> list[str]:
    """Return the parts of a choice, with their parameters."""
    return re.split(r"\+(?![^()]*\))", text)


def less(text: str, parameter: str, technique: str = "") -> str:
    """Return a choice's text without one parameter: of its parts, or of one technique's."""

    def rest(found: re.Match[str]) -> str:
        kept = [p for p in found[1].split(",") if p.partition("=")[0].strip() != parameter]
        return f"({','.join(kept)})" if kept else ""

    return "+".join(
        re.sub(r"\(([^()]*)\)", rest, part) if technique in ("", skeleton(part)) else part
        for part in parts_of(text)
    )


def techniques_with(parameter: str, texts: Sequence[str]) -> set[str]:
    """Return the techniques that are written with a parameter."""
    written = re.compile(rf"\((?:[^()]*,)?\s*{re.escape(parameter)}\s*=")
    return {skeleton(p) for text in texts for p in parts_of(text) if written.search(p)}


def sublayers_among(
    cells: pd.DataFrame, layer: str, columns: Sequence[str], plain: Set[str]
) -> tuple[str, ...]:
    """Return the columns that are a layer's sub-layers; none where they do not spell its choices.

    In every row that has them the techniques of all together are the layer's, and what a level of
    one stands for in the layer's text, with its parameters, is always the same: so where the
    others are equal all else of the layer is.

    Args:
        cells: the table, as text.
        layer: a layer.
        columns: its parameters whose levels are names.
        plain: the levels that stand for no technique; each column may have one more of its own.
    """
    names = {skeleton(p) for text in cells[layer].unique() for p in parts_of(text)} | plain
    idle = {c: frozenset(_techniques(cells[c])) - names for c in columns}
    found = [c for c in columns if len(idle[c]) <= 1 and _techniques(cells[c]) - idle[c] - plain]
    rows = cells[[layer, *found]].drop_duplicates()
    rows = rows[(rows[found] != EMPTY).any(axis=1)] if found else rows.iloc[:0]
    if rows.empty or (rows[found] == EMPTY).any(axis=None):
        return ()
    stands_for: dict[tuple[str, str], list[str]] = {}
    for text, *levels in rows.itertuples(index=False, name=None):
        whole = {skeleton(p): p for p in parts_of(text) if skeleton(p) not in plain}
        used: list[str] = []
        for column, level in zip(found, levels, strict=True):
            own = [t for p in parts_of(level) if (t := skeleton(p)) not in plain | idle[column]]
            used += own
            spelled = [whole.get(t, "") for t in own]
            if stands_for.setdefault((column, level), spelled) != spelled:
                return ()
        if sorted(used) != sorted(whole):
            return ()
    return tuple(found)


def _techniques(column: pd.Series) -> set[str]:
    """Return the techniques of a column's levels."""
    return {skeleton(p) for text in column.unique() if text != EMPTY for p in parts_of(text)}
