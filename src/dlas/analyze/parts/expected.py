"""What was expected of a choice, and what came of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contrasts import Differences, Grid, differences, grid, tested
from dlas.analyze.parts.effects import baseline_of
from dlas.analyze.parts.limits import crowded
from dlas.analyze.parts.partition import GIVEN, RUNTIME

COSTS = (
    "macs", "effective_macs", "params", "nonzero_params", "bytes", "weights_mb",
)  # fmt: skip
"""Columns of which half promises twice the speed. A file's size is none: it holds code too."""
OF_THE_PROBLEM = (*(x for x in GIVEN if x != "hardware"), RUNTIME)
"""Layers whose choice promises nothing by its costs: another network is another task, and another
runtime asked for the same runs the same."""
THREADS = "ran_threads"
WIDTH = "ran_precision"
OVER, UNDER, RIGHT, OPEN = "over-predicts", "under-predicts", "predicts", "cannot tell"
COLUMNS = [
    "factor", "level", "baseline", "cost", "by", "at", "contexts", "expected", "observed",
    "low", "high", "achieved", "achieved_low", "achieved_high", "p", "verdict",
]  # fmt: skip
CONTEXT_COLUMNS = [
    "factor", "level", "baseline", "cost", "context", "expected", "observed", "cell",
    "baseline_cell",
]  # fmt: skip


def expected(table: Table, estimates: Estimates) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare measured speed-ups with what multiplications, bytes, threads or width promise.

    Returns:
        One row per choice, cost column and group of contexts (``by`` a layer and ``at`` its
        level, empty for all): geometric means of the ``expected`` speed-up (cost of the
        baseline over cost of the choice; threads the other way round; a network's and a runtime's
        choice promises nothing) and the ``observed`` one
        with its interval; ``achieved`` is observed over expected; ``verdict`` says whether the
        cost over-predicts, under-predicts or predicts it within the floor.
        And one row per context. Choices that leave the cost as it is are left out.
    """
    promises = _promises(table)
    rows: list[dict[str, object]] = []
    contexts: list[dict[str, Any]] = []
    for factor in table.compared:
        if crowded(table, factor) or factor.layer in OF_THE_PROBLEM:
            continue
        found = grid(table, factor, estimates)
        base = found.levels.index(baseline_of(table, factor))
        for i in range(len(found.levels)):
            if i == base:
                continue
            diff = differences(found, estimates, np.array([[base, i]]))
            for cost, log_cost in promises.items():
                use, promise = _promised(table, diff, log_cost)
                if not use.any():
                    continue
                label: dict[str, object] = {"factor": factor.name, "level": found.levels[i]}
                label |= {"baseline": found.levels[base], "cost": cost}
                rows += [label | r for r in _grouped(table, estimates, found, diff, use, promise)]
                contexts.append(_by_context(table, diff, use, promise, label))
    one = pd.DataFrame(rows, columns=COLUMNS)
    if not contexts:
        return one, pd.DataFrame(columns=CONTEXT_COLUMNS)
    every = {c: np.concatenate([some[c] for some in contexts]) for c in CONTEXT_COLUMNS}
    return one, pd.DataFrame(every)


def _promises(table: Table) -> dict[str, Floats]:
    """Return by name the log of what a cell costs: half of it promises twice the speed."""
    out = {}
    for name in COSTS:
        if name in table.cells and name != table.metric and name not in table.layers:
            out[name] = _log(table.cells[name])
    threads = THREADS if THREADS in table.cells else threads_column(table)
    if threads is not None:
        out[threads] = -_log(table.cells[threads])
    if WIDTH in table.cells:
        digits = table.cells[WIDTH].astype("string").str.extract(r"(\d+)$", expand=False)
        out[WIDTH] = _log(digits)
    return {k: v for k, v in out.items() if np.isfinite(v).any()}


def threads_column(table: Table) -> str | None:
    """Return the ordered factor that counts threads, by its name; None: there is none."""
    names = (f.name for f in table.scaled if f.numeric)
    return next((n for n in names if n.rpartition(".")[2] == "threads"), None)


def _log(column: pd.Series) -> Floats:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, np.log(values), np.nan)


def _promised(table: Table, diff: Differences, log_cost: Floats) -> tuple[Bools, Floats]:
    row = diff.grid.row
    promise = log_cost[row[:, diff.first[0]]] - log_cost[row[:, diff.second[0]]]
    use = (diff.there[:, 0] > 0) & (np.abs(np.nan_to_num(promise)) > np.log1p(table.floor))
    return np.asarray(use), promise


def _grouped(
    table: Table,
    estimates: Estimates,
    found: Grid,
    diff: Differences,
    use: Bools,
    promise: Floats,
) -> list[dict[str, object]]:
    """Return the groups of contexts: all, then by each other layer's levels."""
    names, members = [("", "")], [use]
    for by in found.contexts.columns:
        values = found.contexts[by].to_numpy()
        levels = pd.unique(values[use])
        if len(levels) > 1:
            names += [(str(by), str(at)) for at in levels]
            members += [use & (values == at) for at in levels]
    member = np.array(members, dtype=float)
    n = member.sum(axis=1)
    hoped = member @ np.where(use, promise, 0.0) / n
    var = estimates.averaged(member @ diff.var[:, 0], n, member @ diff.apart[:, 0])
    middle = member @ diff.median[:, 0] / n
    seen = tested(member @ diff.mean[:, 0] / n, var, estimates, median=middle)
    share = tested(seen.value - hoped, var, estimates, median=middle - hoped)
    half = float(np.log1p(table.floor))
    return [
        {
            "by": by,
            "at": at,
            "contexts": int(n[i]),
            "expected": float(np.exp(hoped[i])),
            "observed": float(np.exp(seen.value[i])),
            "low": float(np.exp(seen.low[i])),
            "high": float(np.exp(seen.high[i])),
            "achieved": float(np.exp(share.value[i])),
            "achieved_low": float(np.exp(share.low[i])),
            "achieved_high": float(np.exp(share.high[i])),
            "p": float(share.p[i]),
            "verdict": _verdict(
                float(share.value[i]), float(share.low[i]), float(share.high[i]), half
            ),
        }
        for i, (by, at) in enumerate(names)
    ]


def _verdict(share: float, low: float, high: float, half: float) -> str:
    """Judge observed over expected; an interval that is NaN (no noise known) decides nothing."""
    if abs(share) <= half:
        return RIGHT
    if share < 0:
        return OPEN if high >= 0 else OVER
    return OPEN if low <= 0 else UNDER


def _by_context(
    table: Table, diff: Differences, use: Bools, promise: Floats, label: dict[str, object]
) -> dict[str, Any]:
    """Return the columns of the contexts of one choice and cost."""
    here = np.flatnonzero(use)
    ids = table.rows["cell"].to_numpy()
    return {
        "context": np.array([diff.grid.texts[i] for i in here], dtype=object),
        "expected": np.exp(promise[here]),
        "observed": np.exp(diff.mean[here, 0]),
        "cell": ids[diff.grid.row[here, diff.second[0]]],
        "baseline_cell": ids[diff.grid.row[here, diff.first[0]]],
        **{name: np.full(len(here), value, dtype=object) for name, value in label.items()},
    }
