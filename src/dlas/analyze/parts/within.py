"""Which cells meet the limits of the goals, as far as their intervals tell."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats
from dlas.analyze.estimate.table import Table, interval_columns
from dlas.analyze.parts.contrasts import tested
from dlas.analyze.parts.drops import drop_interval

MEETS, FAILS, OPEN = "meets", "fails", "cannot tell"


def meeting(table: Table, estimates: Estimates) -> tuple[Bools, Bools]:
    """Return which complete cells surely meet all limits of the goals, and which may."""
    fails, opens = by_cell(table, verdicts_of(table, estimates))
    return table.complete & ~fails & ~opens, table.complete & ~fails


def numbers_of(table: Table, column: str) -> Floats:
    """Return a column as numbers; the metric as it was read."""
    values = table.rows["value"]
    if column != table.metric:
        values = pd.to_numeric(table.cells[column], errors="coerce")
    return np.asarray(values.to_numpy(dtype=float))


def by_cell(table: Table, verdicts: pd.DataFrame) -> tuple[Bools, Bools]:
    """Return which rows surely fail a limit, and of which nobody can tell."""
    fails, opens = np.zeros(len(table.cells), bool), np.zeros(len(table.cells), bool)
    fails[verdicts.loc[verdicts["verdict"] == FAILS, "row"].to_numpy(dtype=int)] = True
    opens[verdicts.loc[verdicts["verdict"] == OPEN, "row"].to_numpy(dtype=int)] = True
    return fails, opens


def verdicts_of(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Judge every complete cell by every limit."""
    columns = ["row", "cell", "host", "limit", "bound", "value", "low", "high", "verdict"]
    frames = []
    rows = np.flatnonzero(table.complete)
    limits = [(c, b, 1.0) for c, b in table.goals.at_most]
    limits += [(c, b, -1.0) for c, b in table.goals.at_least]
    for column, bound, sign in limits:
        value, low, high = _interval(table, estimates, column)
        value, low, high = value[rows], low[rows], high[rows]
        worst, mildest = (high, low) if sign > 0 else (low, high)
        unknown = ~np.isfinite(value)
        meets, misses = sign * worst <= sign * bound, sign * mildest > sign * bound
        verdict = np.where(unknown, OPEN, np.where(meets, MEETS, np.where(misses, FAILS, OPEN)))
        word = "at most" if sign > 0 else "at least"
        frame = table.rows.iloc[rows][["cell", "host"]].reset_index(drop=True)
        frames.append(
            frame.assign(
                row=rows, limit=f"{column} {word}", bound=bound, value=value, low=low, high=high,
                verdict=verdict,
            )
        )  # fmt: skip
    return (
        pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    )


def _interval(table: Table, estimates: Estimates, column: str) -> tuple[Floats, Floats, Floats]:
    """Return a column and its 95 % interval; the value itself where there is no interval."""
    value = numbers_of(table, column)
    cells = table.cells
    if column == table.metric and estimates.known:
        result = tested(estimates.mean, estimates.var, estimates)
        half = np.nan_to_num(np.exp(result.high - result.value), nan=1.0)
        return value, value / half, value * half
    if column == "accuracy_drop" and {"flips", "accuracy_n"} <= set(cells.columns):
        ends = drop_interval(value, numbers_of(table, "flips"), numbers_of(table, "accuracy_n"))
        return value, *ends
    named = interval_columns(cells, column)
    if named is None:
        return value, value, value
    both = (numbers_of(table, name) for name in named)
    low, high = (np.where(np.isfinite(end), end, value) for end in both)
    return value, low, high
