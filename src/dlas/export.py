"""A data frame to text, CSV, JSON or Parquet: for ``dlas table``."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.display import table, terminal_width
from dlas.errors import StorageError, UserError, near

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
    if format == "parquet":
        if output is None and sys.stdout.isatty():
            raise UserError("parquet is not text: give a file, -o results.parquet")
        held = io.BytesIO()
        frame.to_parquet(held, index=False)
        _put(held.getvalue(), output)
    else:
        _put((_text(frame, format, output) + "\n").encode(), output)


def _text(frame: pd.DataFrame, format: str, output: Path | None) -> str:
    if format == "csv":
        made: str = frame.to_csv(index=False)
        return made.rstrip("\n")
    if format == "json":
        text: str = frame.to_json(orient="records", indent=2, double_precision=15)
        return text
    width = terminal_width(sys.stdout) if output is None else None
    columns = [str(c) for c in frame.columns]
    return table(frame.to_dict("records"), columns, width)


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
