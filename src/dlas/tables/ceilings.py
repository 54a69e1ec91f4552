"""What the machines could do at most, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlas.tables.frame import frame_of
from dlas.tables.read import Folders, read

if TYPE_CHECKING:
    import pandas as pd

CEILING_COLUMNS = (
    "host", "session", "kind", "precision", "hardware", "threads", "isa", "software", "dataset",
    "moment", "value", "unit", "reason", "method", "cache_mb", "array_mb", "created_at",
)  # fmt: skip
ARITHMETIC_TYPE = "float32"
"""The type of arithmetic whose kind names none."""
UNITS = {"arithmetic": "GFLOP/s", "memory": "GB/s", "overhead": "ms"}
_NUMBERS = frozenset({"value", "cache_mb", "array_mb"})
_WHOLE = frozenset({"threads"})
_TEXT = frozenset(CEILING_COLUMNS) - _NUMBERS - _WHOLE


def ceilings_frame(folders: Folders) -> pd.DataFrame:
    """Return one row per reading: two of each kind, choice of hardware and session.

    ``arithmetic`` in GFLOP/s (of a type, ``precision``; a multiply-add counts as two; in ``int8``
    GOP/s), ``memory`` in GB/s,
    ``overhead`` in ms, by software and data set, of a network of one operator. ``value`` is empty
    where it was not measured, for ``reason``; ``method`` says how it was.

    Raises:
        UserError: a folder holds no results.
        StorageError: a file is damaged.
    """
    records = [
        {name: getattr(row, name) for name in CEILING_COLUMNS if hasattr(row, name)}
        | {**_kind(row.kind), **row.detail}
        for results in read(folders)
        for row in sorted(results.ceilings, key=lambda r: r.created_at)
    ]
    return frame_of(records, CEILING_COLUMNS, text=_TEXT, whole=_WHOLE)


def _kind(stored: str) -> dict[str, str | None]:
    """Return what a reading is of, the type where it is one of arithmetic, and its unit."""
    kind, _, precision = stored.partition(" ")
    if kind == "arithmetic":
        precision = precision or ARITHMETIC_TYPE
    return {"kind": kind, "precision": precision or None, "unit": UNITS.get(kind)}
