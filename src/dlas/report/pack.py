"""Rows as columns, texts as numbers of one shared list: what keeps the page small."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dlas.core.keys import Json

Row = Mapping[str, object]
Part = dict[str, object]
"""A part of the page: nothing here looks into it again, the page's script does."""


def plain(value: object) -> Json:
    """Return a value as JSON knows it; what is missing or not finite becomes None."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if str(value) in ("NaT", "<NA>", "nan") else str(value)


def shorter(value: Json, digits: int) -> Json:
    """Return a number with so many significant digits, anything else as it is."""
    if isinstance(value, float) and math.isfinite(value) and value != 0:
        return float(f"{value:.{digits}g}")
    return value


class Texts:
    """Every text of the page once."""

    def __init__(self) -> None:
        self.list: list[str] = []
        self._place: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Return the number of a text."""
        if text not in self._place:
            self._place[text] = len(self.list)
            self.list.append(text)
        return self._place[text]


def pack(
    rows: Sequence[Row], texts: Texts, columns: Sequence[str] = (), digits: int | None = 6
) -> Part:
    """Return rows column by column.

    A column is ``{"v": values}``; ``{"c": value}`` where all are the same; ``{"s": numbers}``
    where all are texts (-1: none), ``{"l": lists of numbers}`` where all are lists of texts.

    Args:
        rows: the rows.
        texts: where texts go.
        columns: the columns, all of the first row where none are given.
        digits: significant digits of floats; all of them where None.
    """
    names = list(columns) or (list(rows[0]) if rows else [])
    return {"n": len(rows), "columns": {n: _column([r.get(n) for r in rows], texts, digits)
                                        for n in names}}  # fmt: skip


def _column(raw: Sequence[object], texts: Texts, digits: int | None) -> Part:
    values = [plain(v) for v in raw]
    if digits is not None:
        values = [shorter(v, digits) for v in values]
    if not values or all(type(v) is type(values[0]) and v == values[0] for v in values):
        return {"c": values[0] if values else None}
    said = [v for v in values if v is None or isinstance(v, str)]
    if len(said) == len(values):
        return {"s": [-1 if v is None else texts.place(v) for v in said]}
    lists = [[x for x in v if isinstance(x, str)] for v in values if isinstance(v, list)]
    if lists == values:
        return {"l": [[texts.place(x) for x in v] for v in lists]}
    return {"v": values}


def unpack(packed: Mapping[str, Any], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of :func:`pack`, as the page reads them."""
    columns = {n: _values(c, packed["n"], texts) for n, c in packed["columns"].items()}
    return [{n: v[i] for n, v in columns.items()} for i in range(packed["n"])]


def _values(column: Mapping[str, Any], n: int, texts: Sequence[str]) -> list[Any]:
    if "c" in column:
        return [column["c"]] * n
    if "s" in column:
        return [None if i < 0 else texts[i] for i in column["s"]]
    if "l" in column:
        return [[texts[i] for i in each] for each in column["l"]]
    return list(column["v"])
