"""From records to a data frame with one type per column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dlas.core.keys import Json, canonical

if TYPE_CHECKING:
    import pandas as pd


Value = object
"""What a table holds in one place: a number, a truth value, text, or None."""


def frame_of(
    records: Sequence[Mapping[str, Value]],
    columns: Sequence[str],
    *,
    text: frozenset[str] = frozenset(),
    whole: frozenset[str] = frozenset(),
    flags: frozenset[str] = frozenset(),
) -> pd.DataFrame:
    """Return a frame with the given columns; a record lacks what was not measured.

    Columns of ``text`` hold str or None, ``whole`` nullable integers, ``flags`` nullable booleans,
    all others float64 with NaN.
    """
    import pandas as pd

    types = {
        **dict.fromkeys(text, "object"),
        **dict.fromkeys(whole, "Int64"),
        **dict.fromkeys(flags, "boolean"),
    }
    made = {
        name: pd.Series([r.get(name) for r in records], dtype=types.get(name, "float64"))
        for name in columns
    }
    return pd.DataFrame(made, columns=list(columns))


def factor_column(values: Sequence[Json]) -> pd.Series:
    """Return one factor: numbers and booleans as such where all are, else text."""
    import pandas as pd

    known = [v for v in values if v is not None]
    if known and all(isinstance(v, bool) for v in known):
        return pd.Series(values, dtype="boolean")
    if known and not any(isinstance(v, bool) for v in known):
        if all(isinstance(v, int) for v in known):
            return pd.Series(values, dtype="Int64")
        if all(isinstance(v, int | float) for v in known):
            return pd.Series(values, dtype="float64")
    return pd.Series([_text(v) for v in values], dtype="object")


def _text(value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return canonical(value)
