"""A data frame to text, CSV, JSON or Parquet: for ``dlas table``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.cli.display import table, terminal_width
from dlas.core.errors import StorageError, UserError, near
from dlas.tables import as_csv, as_json, as_parquet

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("text", "csv", "json", "parquet")


def pick(
    frame: pd.DataFrame,
    *,
    sort: str | None = None,
    columns: str | None = None,
    usual: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return a frame sorted, with the columns named (``a,b``; ``all``), else the usual ones.

    Raises:
        UserError: a column is unknown.
    """
    have = list(frame.columns)
    if columns is None:
        wanted = have if usual is None else [c for c in usual if c in have]
    else:
        wanted = have if columns == "all" else [c.strip() for c in columns.split(",")]
    named = [*wanted, *([sort] if sort else [])]
    if unknown := [c for c in named if c not in have]:
        raise UserError(
            [
                f"no column is called {c!r}.{near(c, have)} Columns: {', '.join(have)}."
                for c in unknown
            ]
        )
    if sort:
        frame = frame.sort_values(sort, kind="stable", na_position="last")
    return frame[wanted]


def write(frame: pd.DataFrame, format: str, output: Path | None) -> None:
    """Write a frame to a file or to standard output.

    Raises:
        StorageError: the file cannot be written.
        UserError: Parquet was asked for on a terminal.
    """
    if format == "parquet" and output is None and sys.stdout.isatty():
        raise UserError("parquet is not text: give a file, -o results.parquet")
    _put(encoded(frame, format, terminal_width(sys.stdout) if output is None else None), output)


def encoded(frame: pd.DataFrame, format: str, width: int | None = None) -> bytes:
    """Return a frame in one of :data:`FORMATS`; ``width`` is that of a terminal, for text."""
    if format == "parquet":
        return as_parquet(frame)
    if format == "csv":
        return as_csv(frame).encode()
    if format == "json":
        return f"{as_json(frame)}\n".encode()
    columns = [str(column) for column in frame.columns]
    return f"{table(rows_of(frame), columns, width)}\n".encode()


def rows_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Return the rows of a frame as plain values, None where something was not measured."""
    rows: list[dict[str, object]] = json.loads(as_json(frame))
    return rows


def _put(data: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{output} cannot be written: {error.strerror}") from error
