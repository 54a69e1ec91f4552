"""A data frame to text, CSV, JSON or Parquet: for ``dlas table``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from dlas.cli.display import plain, table, terminal_width, text_of
from dlas.cli.terminal import beside, fit
from dlas.core.errors import StorageError, UserError, near
from dlas.core.stack import LAYERS
from dlas.tables import as_csv, as_json, as_parquet

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("text", "csv", "json", "parquet")
FIRST_TO_GO = (
    "quiet_low_ms", "quiet_high_ms", "latency_low_ms", "latency_high_ms", "accuracy_drop",
    "memory_mb", "reason", "host", "accuracy",
)  # fmt: skip
"""Columns that go first where a terminal is too narrow, in this order."""
KEPT = ("cell", "quiet_ms", "latency_ms")
"""Columns that always stand whole."""
LAST = ("status", "stale")
"""Columns that are cut and never go, as the layers."""


@dataclass(frozen=True)
class View:
    """How a table is shown on a terminal."""

    wide: bool = False
    """A line a row, however long."""
    chosen: bool = False
    """The columns were named: all stay."""


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


def write(frame: pd.DataFrame, format: str, output: Path | None, view: View | None = None) -> None:
    """Write a frame to a file or to standard output; text on a terminal fits it as ``view`` says.

    Raises:
        StorageError: the file cannot be written.
        UserError: Parquet was asked for on a terminal.
    """
    if format == "parquet" and output is None and sys.stdout.isatty():
        raise UserError("parquet is not text: give a file, -o results.parquet")
    width = terminal_width(sys.stdout) if output is None and format == "text" else None
    if width is None or view is None or view.wide:
        data = encoded(frame, format)
        _put(data if output or format != "text" else _terminal(data.decode()), output)
    else:
        _put(_terminal(f"{fitted(frame, width, view)}\n"), None)


def _terminal(text: str) -> bytes:
    """Return text as the standard output takes it; what it cannot show is escaped."""
    return text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")


def encoded(frame: pd.DataFrame, format: str) -> bytes:
    """Return a frame in one of :data:`FORMATS`, text as one line a row however long."""
    if format == "parquet":
        return as_parquet(frame)
    if format == "csv":
        return as_csv(frame).encode()
    if format == "json":
        return f"{as_json(frame)}\n".encode()
    columns = [str(column) for column in frame.columns]
    return f"{table(rows_of(frame), columns)}\n".encode()


def fitted(frame: pd.DataFrame, width: int, view: View) -> str:
    """Return a frame as text that a terminal holds without folding a line."""
    columns = [str(column) for column in frame.columns]
    lines = [[text_of(row.get(column)) for column in columns] for row in rows_of(frame)]
    if "cell" in columns:
        _shorten_cells(lines, columns.index("cell"))
    rest = [c for c in reversed(columns) if c not in (*FIRST_TO_GO, *LAYERS, *LAST)]
    made = fit(
        columns, lines, width, first_to_go=[*FIRST_TO_GO, *rest], kept=KEPT, chosen=view.chosen
    )
    above, below = (
        [part for line in lines for part in wrap(line, width)] for lines in beside(made)
    )
    return "\n".join([*above, *([""] if above else []), plain(made.columns, made.lines), *below])


def _shorten_cells(lines: list[list[str]], at: int) -> None:
    """Leave as much of the cells' hashes as tells them apart: `dlas show` takes a beginning."""
    cells = {line[at] for line in lines}
    length = next((n for n in (8, 10, 12) if len({c[:n] for c in cells}) == len(cells)), None)
    for line in lines:
        line[at] = line[at][:length]


def rows_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Return the rows of a frame as plain values, None where something was not measured."""
    rows: list[dict[str, object]] = json.loads(as_json(frame))
    return rows


def _put(data: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.flush()
        if (binary := getattr(sys.stdout, "buffer", None)) is None:  # a notebook's, a test's
            sys.stdout.write(data.decode(errors="replace"))
        else:
            binary.write(data)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{output} cannot be written: {error.strerror}") from error
