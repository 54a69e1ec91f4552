"""What capped a cell: arithmetic, memory or overhead, by ceilings measured in the same study."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dlas.analyze.estimate.levels import Floats
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.expected import THREADS, WIDTH, threads_column
from dlas.core.errors import UserError

FIGURES = ("gflops", "gb_s", "overhead_ms")
SCOPES = ("cache_mb", "precision")
"""Columns of ceilings that limit what a figure holds for; both may be absent."""
OTHER_TYPE = "gflops_"
"""Begins the names of columns of ceilings that hold the figure of a type other than that."""
ARITHMETIC, MEMORY, OVERHEAD, NONE = "arithmetic", "memory", "overhead", "none of them"
HALF = 0.5
"""A ceiling that explains less of the time than this does not cap the cell."""
COLUMNS = [
    "cell", "host", "ms", "arithmetic_ms", "memory_ms", "overhead_ms", "bound",
    "explained", "gflops", "macs_per_byte", "most_gflops", "most_gb_s",
]  # fmt: skip


def roofline(table: Table) -> pd.DataFrame:
    """Say for each cell what capped it (Williams, Waterman and Patterson 2009).

    ``Table.ceilings`` holds what was measured on the hosts in this study, never figures from a
    file: ``gflops`` (peak arithmetic), ``gb_s`` (memory bandwidth) and ``overhead_ms`` (time of an
    inference that does next to nothing), empty where one was not measured. Its other columns say
    where they hold: ``host``; ``threads`` (compared with the threads that ran, or were asked
    for); and any column of the cells. ``precision`` names the type that ``gflops`` is of: cells
    that ran another go by the column ``gflops_TYPE``, without which they have no
    ``arithmetic_ms``. ``cache_mb`` is the size of the last cache: cells
    whose weights fit into it need not read them from memory and have no ``memory_ms``.

    Needs the column ``macs`` and a latency (``ms``): the metric where it is one, else
    ``quiet_ms``, else ``latency_ms``. ``arithmetic_ms`` counts ``effective_macs`` instead
    where zeros were skipped (``ran_sparsity``). ``weights_mb`` stands for the bytes moved, the
    least a cell can move. ``bound`` names the largest of the three times where it is at least
    half of the latency, ``explained`` is its share of the latency: above 1 where a cell did
    fewer multiplications than are counted. Empty where ceilings or columns are missing.
    """
    column = latency_column(table)
    if table.ceilings is None or column is None or "macs" not in table.cells:
        return pd.DataFrame(columns=COLUMNS)
    keys = _keys(table, table.ceilings)
    cells = table.cells[table.complete].assign(ms=lambda c: c[column])
    if "threads" in keys:
        cells = cells.assign(threads=_thread_numbers(table))
    own = [c for c in table.ceilings if _is_own(c)]
    joined = cells.drop(columns=[c for c in own if c in cells]).merge(
        table.ceilings[[*keys, *own]], on=keys, how="inner"
    )
    return _capped(joined)[COLUMNS]


def latency_column(table: Table) -> str | None:
    """Return the latency that a table is about: its metric, else undisturbed, else as seen."""
    known = ("quiet_ms", "latency_ms")
    wanted = (table.metric, *known) if table.metric in known else known
    return next((name for name in wanted if name in table.cells), None)


def _is_own(column: str) -> bool:
    """Return whether a column is of the ceilings themselves, not one that cells have, too."""
    return column in (*FIGURES, *SCOPES) or column.startswith(OTHER_TYPE)


def _keys(table: Table, ceilings: pd.DataFrame) -> list[str]:
    """Return the columns on which ceilings and cells are matched."""
    missing = [c for c in ("host", *FIGURES) if c not in ceilings]
    keys = [str(c) for c in ceilings.columns if not _is_own(c)]
    unknown = [c for c in keys if c != "threads" and c not in table.cells]
    problems = [f"ceilings: column {c!r} is missing" for c in missing]
    problems += [f"ceilings: the cells have no column {c!r}" for c in unknown]
    if not problems and ceilings.duplicated(keys).any():
        problems = [f"ceilings: two rows have the same {', '.join(keys)}"]
    if problems:
        raise UserError(problems)
    return keys


def _capped(joined: pd.DataFrame) -> pd.DataFrame:
    latency, most = _number(joined, "ms"), _most(joined)
    done, weights = _multiplications(joined), _number(joined, "weights_mb")
    moved = weights.where(~(weights <= _number(joined, "cache_mb")))
    times = pd.DataFrame(
        {
            "arithmetic_ms": 2 * done / (most * 1e6),
            "memory_ms": moved / _number(joined, "gb_s"),
            "overhead_ms": _number(joined, "overhead_ms"),
        }
    )
    known = times.fillna(-1.0).to_numpy(dtype=float)
    largest = known.max(axis=1, initial=-1.0)
    explained = np.where(largest > 0, largest / latency, np.nan)
    names = np.array([ARITHMETIC, MEMORY, OVERHEAD], dtype=object)
    bound = names[known.argmax(axis=1)] if len(joined) else np.array([], dtype=object)
    return joined.assign(
        **{c: times[c] for c in times},
        bound=np.where(explained >= HALF, bound, NONE),
        explained=explained,
        gflops=2 * done / (latency * 1e6),
        macs_per_byte=done / (weights * 1e6),
        most_gflops=most,
        most_gb_s=_number(joined, "gb_s"),
    )


def _number(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame:
        return pd.Series(np.nan, index=frame.index)
    return pd.to_numeric(frame[column], errors="coerce").astype(float)


def _multiplications(joined: pd.DataFrame) -> pd.Series:
    """Return how many a cell does: those of weights that are not zero where zeros are skipped."""
    every, fewer = _number(joined, "macs"), _number(joined, "effective_macs")
    skips = _number(joined, "ran_sparsity").gt(0) & fewer.notna()
    return every.where(~skips, fewer)


def _most(joined: pd.DataFrame) -> pd.Series:
    """Return the arithmetic ceiling of the type in which each cell computed; NaN: not known."""
    most = _number(joined, "gflops")
    if "precision" not in joined or WIDTH not in joined:
        return most
    ran = joined[WIDTH].astype("string")
    found = most.where(ran.isna() | ran.eq(joined["precision"]))
    for column in (c for c in joined if str(c).startswith(OTHER_TYPE)):
        other = ran.eq(str(column).removeprefix(OTHER_TYPE)).fillna(False)
        found = found.where(~other, _number(joined, column))
    return found


def _thread_numbers(table: Table) -> Floats:
    """Return the threads that ran, or else were asked for; 1 where the table does not say."""
    asked = threads_column(table)
    found = pd.Series(np.nan, index=table.cells.index[table.complete])
    for name in (THREADS, asked):
        if name is not None and name in table.cells:
            found = found.fillna(pd.to_numeric(table.cells[name], errors="coerce").astype(float))
    return np.asarray(found.fillna(1.0 if asked is None else np.nan).to_numpy(dtype=float))
