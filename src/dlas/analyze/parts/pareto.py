"""The Pareto front of the goals, as far as noise lets us tell."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats, Ints
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contrasts import tested
from dlas.analyze.parts.within import by_cell, numbers_of, verdicts_of

ON, MAYBE, OFF = "on the front", "may be on the front", "dominated"
ALPHA = 0.05


def front(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Sort the complete cells by whether they are, or may be, on the Pareto front.

    Metrics are those of the goals, else the metric analysed and ``accuracy`` where there is
    one. Every host, and every level of given layers, has its own front; cells that surely fail a
    limit are on none. A cell is ``on the front`` where no other is at least as
    good in everything and better in something; it ``may be on the front`` where others are,
    but none by more than the noise of rounds (one-sided 95 % over all members of the front) or,
    without noise, than the floor. Metrics without rounds (accuracy on the stored subset,
    sizes) are taken as they are; cells that lack one of the metrics are left out.
    """
    directions = objectives(table)
    rows = np.flatnonzero(np.isfinite(estimates.mean))
    values = {c: numbers_of(table, c) * sign for c, sign in directions.items()}
    # A metric that nobody measured has no say; a cell without one of the others has no place.
    values = {c: v for c, v in values.items() if np.isfinite(v[rows]).any()}
    directions = {c: directions[c] for c in values}
    columns = ["cell", "host", *directions, "front", "dominated_by"]
    if not values:
        return pd.DataFrame(columns=columns)
    rows = rows[np.all([np.isfinite(values[c][rows]) for c in values], axis=0)]
    fails, _ = by_cell(table, verdicts_of(table, estimates))
    rows = rows[~fails[rows]]
    within = table.asked_for[rows]
    frames = [_one_front(table, estimates, values, rows[within == g]) for g in pd.unique(within)]
    if not frames:
        return pd.DataFrame(columns=columns)
    return pd.concat(frames, ignore_index=True)[columns]


def objectives(table: Table) -> dict[str, float]:
    """Return the metrics of the front and 1 where less is better, -1 where more is."""
    goals = table.goals
    if goals.minimize or goals.maximize:
        return dict.fromkeys(goals.minimize, 1.0) | dict.fromkeys(goals.maximize, -1.0)
    out = {table.metric: -1.0 if table.maximize else 1.0}
    if "accuracy" in table.cells and table.metric != "accuracy":
        out["accuracy"] = -1.0
    return out


def _one_front(
    table: Table, estimates: Estimates, values: dict[str, Floats], rows: Ints
) -> pd.DataFrame:
    matrix = np.stack([values[c][rows] for c in values], axis=1)
    if table.metric in values:
        # The estimate net of round effects, not the raw median, orders the noisy metric.
        matrix[:, list(values).index(table.metric)] = estimates.mean[rows]
    on = _nondominated(matrix)
    members = np.flatnonzero(on)
    sure, by = _surely_dominated(table, estimates, values, matrix, rows, members)
    state = np.where(on, ON, np.where(sure, OFF, MAYBE))
    ids = table.rows["cell"].to_numpy()
    frame = table.rows.iloc[rows][["cell", "host"]].reset_index(drop=True)
    for c in values:
        frame[c] = numbers_of(table, c)[rows]
    frame["front"] = state
    frame["dominated_by"] = [
        str(ids[rows[members[j]]]) if s == OFF else "" for s, j in zip(state, by, strict=True)
    ]
    return frame


def _nondominated(matrix: Floats) -> Bools:
    on = np.ones(len(matrix), dtype=bool)
    for i in range(len(matrix)):
        worse_or_same = (matrix <= matrix[i]).all(axis=1)
        on[i] = not (worse_or_same & (matrix < matrix[i]).any(axis=1)).any()
    return on


def _surely_dominated(
    table: Table,
    estimates: Estimates,
    values: dict[str, Floats],
    matrix: Floats,
    rows: Ints,
    members: Ints,
) -> tuple[Bools, Ints]:
    """Return which cells a member of the front surely dominates, and the first that does."""
    ok = np.ones((len(rows), len(members)), dtype=bool)
    better = np.zeros_like(ok)
    for j, column in enumerate(values):
        gap = matrix[:, j][:, None] - matrix[members, j][None, :]
        if column == table.metric:
            sure = _surely_positive(table, estimates, gap, rows, members)
            ok &= sure
            better |= sure
        else:
            ok &= gap >= 0
            better |= gap > 0
    both = ok & better
    return np.asarray(both.any(axis=1)), np.asarray(both.argmax(axis=1), dtype=np.int64)


def _surely_positive(
    table: Table, estimates: Estimates, gap: Floats, rows: Ints, members: Ints
) -> Bools:
    if not estimates.known:
        return np.asarray(gap > np.log1p(table.floor))
    out = np.zeros(gap.shape, dtype=bool)
    level = 1 - 2 * ALPHA / max(len(members), 1)
    for k, member in enumerate(members):
        var = estimates.gap(rows, rows[[member]])
        out[:, k] = tested(gap[:, k], var, estimates, level).low > 0
    return out
