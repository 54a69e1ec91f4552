"""The Pareto front, and the best cell under the study's goals, as far as noise lets us tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats, Ints
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contrasts import tested
from dlas.core.goals import Goals

ON, MAYBE, OFF = "on the front", "may be on the front", "dominated"
MEETS, FAILS, OPEN = "meets", "fails", "cannot tell"
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
    values = {c: _numbers(table, c) * sign for c, sign in directions.items()}
    # A metric that nobody measured has no say; a cell without one of the others has no place.
    values = {c: v for c, v in values.items() if np.isfinite(v[rows]).any()}
    directions = {c: directions[c] for c in values}
    columns = ["cell", "host", *directions, "front", "dominated_by"]
    if not values:
        return pd.DataFrame(columns=columns)
    rows = rows[np.all([np.isfinite(values[c][rows]) for c in values], axis=0)]
    fails, _ = _by_cell(table, _verdicts(table, estimates))
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


def _numbers(table: Table, column: str) -> Floats:
    values = table.rows["value"]
    if column != table.metric:
        values = pd.to_numeric(table.cells[column], errors="coerce")
    return np.asarray(values.to_numpy(dtype=float))


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
        frame[c] = _numbers(table, c)[rows]
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


@dataclass(frozen=True)
class Best:
    """The best cell under the goals, and what cannot be told apart from it."""

    metric: str
    """What was minimized or maximized."""
    cell: str
    """The best cell that meets all limits; empty where there is none."""
    host: str
    value: float
    verdicts: pd.DataFrame
    """``cell, host, limit, bound, value, low, high, verdict`` for every cell and limit."""
    runners_up: pd.DataFrame
    """``cell, host, value, ratio, low, high, meets``: those not surely worse than the best."""
    sure: bool
    """Whether the best cell surely meets every limit."""


def best(table: Table, estimates: Estimates) -> Best:
    """Find the best cell under the goals.

    The first goal to minimize or maximize decides (the metric analysed where there is none);
    each limit is judged by an interval: ``meets``, ``fails``, ``cannot tell``. A drop of
    accuracy is paired: its standard error is sqrt(flips/n - drop^2)/sqrt(n) with ``flips`` the
    number of images whose label changed, an upper bound of McNemar's discordant pairs. The
    best cell meets all limits surely, or, where none does, possibly (``sure`` is False then).
    With given layers it is the best of all that is given: see :func:`best_of_given`.
    """
    metric, sign = _decider(table)
    verdicts = _verdicts(table, estimates)
    value = _numbers(table, metric)
    usable = table.complete & np.isfinite(value)
    fails, opens = _by_cell(table, verdicts)
    empty = pd.DataFrame(columns=["cell", "host", "value", "ratio", "low", "high", "meets"])
    top, sure = _top(table, estimates, metric, sign * value, usable & ~fails, opens)
    if top < 0:
        return Best(metric, "", "", float("nan"), verdicts, empty, False)
    others = np.flatnonzero(usable & ~fails)
    near = _not_surely_worse(table, estimates, metric, value * sign, others, top)
    near["meets"] = ~opens[near.pop("row").to_numpy(dtype=int)]
    cell, host = (str(table.rows[c].iloc[top]) for c in ("cell", "host"))
    return Best(metric, cell, host, float(value[top]), verdicts, near, sure)


def meeting(table: Table, estimates: Estimates) -> tuple[Bools, Bools]:
    """Return which complete cells surely meet all limits of the goals, and which may."""
    fails, opens = _by_cell(table, _verdicts(table, estimates))
    return table.complete & ~fails & ~opens, table.complete & ~fails


def _top(
    table: Table, estimates: Estimates, metric: str, score: Floats, usable: Bools, opens: Bools
) -> tuple[int, bool]:
    """Return the best of some rows, -1 where there is none, and whether it meets all limits."""
    order = estimates.mean if metric == table.metric else score
    usable = usable & np.isfinite(order)
    candidates = np.flatnonzero(usable & ~opens)
    sure = len(candidates) > 0
    if not sure:
        candidates = np.flatnonzero(usable)
    return (
        (int(candidates[np.argmin(order[candidates])]), sure) if len(candidates) else (-1, False)
    )


def best_of_given(table: Table, estimates: Estimates) -> pd.DataFrame:
    """Find the best cell for everything that is given: each host and level of given layers.

    One row each, ``given`` its levels as text: ``cell``, ``choice`` (its levels of the other
    layers), ``value``, ``sure`` (it surely meets all limits), ``over_second`` (the second-best
    over it, NaN without one), ``ties`` (how many cannot be told from it), ``loss`` (what the
    choice that is best for all together loses there, NaN where it was not measured). Empty where
    nothing is given.
    """
    columns = ["given", "host", "cell", "choice", "value", "sure", "over_second", "ties", "loss"]
    if not table.given:
        return pd.DataFrame(columns=columns)
    metric, sign = _decider(table)
    value = _numbers(table, metric)
    fails, opens = _by_cell(table, _verdicts(table, estimates))
    usable = table.complete & np.isfinite(value) & ~fails
    log = _log_of(table, estimates, metric, sign)
    group = table.asked_for
    choices = named(table, [x for x in table.layers if x not in table.given])
    common = _for_all(log, group, choices, usable & ~opens)
    levels, ids = named(table, list(table.given)), table.rows["cell"].to_numpy()
    out: list[dict[str, object]] = []
    for g in range(int(group.max(initial=-1)) + 1):
        here = np.flatnonzero(group == g)
        row: dict[str, object] = {
            "given": levels[here[0]],
            "cell": "",
            "choice": "",
            "sure": False,
        }
        row["host"] = str(table.rows["host"].iloc[here[0]])
        out.append(row | {"value": np.nan, "over_second": np.nan, "ties": 0, "loss": np.nan})
        may = here[usable[here] & np.isfinite(log[here])]
        surely = may[~opens[may]]
        if not len(may):
            continue
        rows = surely if len(surely) else may
        top = int(rows[np.argmin(log[rows])])
        out[-1] |= {"cell": str(ids[top]), "choice": choices[top], "value": float(value[top])}
        out[-1] |= _beside(table, estimates, metric, log, top, may[may != top])
        out[-1]["sure"] = len(surely) > 0
        same = here[(choices[here] == common) & np.isfinite(log[here])]
        if len(same):
            out[-1]["loss"] = float(np.exp(log[same[0]] - log[top]))
    return pd.DataFrame(out, columns=columns)


def _beside(
    table: Table, estimates: Estimates, metric: str, log: Floats, top: int, others: Ints
) -> dict[str, object]:
    """Return how far the second-best is, and how many cannot be told from the best."""
    if not len(others):
        return {"over_second": float("nan"), "ties": 0}
    gap = log[others] - log[top]
    near = gap <= np.log1p(table.floor)
    if metric == table.metric and estimates.known:
        level = 1 - 2 * ALPHA / len(others)
        var = estimates.var[others] + estimates.var[top]
        near = tested(gap, var, estimates, level).low <= 0
    return {"over_second": float(np.exp(gap.min())), "ties": int(near.sum())}


def _log_of(table: Table, estimates: Estimates, metric: str, sign: float) -> Floats:
    """Return the logarithm of what decides, less is better; NaN where it is not above zero."""
    if metric == table.metric:
        return estimates.mean
    value = _numbers(table, metric)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(table.complete & (value > 0), sign * np.log(value), np.nan)


def _for_all(log: Floats, group: Ints, choices: np.ndarray, usable: Bools) -> str:
    """Return the choice that loses least in the geometric mean, of those measured most widely."""
    rows = np.flatnonzero(usable & np.isfinite(log))
    if not len(rows):
        return ""
    least = pd.Series(log[rows]).groupby(group[rows]).transform("min").to_numpy()
    by = pd.Series(log[rows] - least).groupby(choices[rows])
    means, counts = by.mean(), by.size()
    return str(means[counts == counts.max()].idxmin())


def named(table: Table, layers: list[str]) -> np.ndarray:
    """Return by row the levels of some layers as text, ``layer=level, layer=level``."""
    columns = [(x + "=" + table.cells[x].astype(str)).tolist() for x in layers]
    names = [", ".join(row) for row in zip(*columns, strict=True)] if columns else []
    return np.array(names or [""] * len(table.cells), dtype=object)


def _decider(table: Table) -> tuple[str, float]:
    goals: Goals = table.goals
    if goals.minimize:
        return goals.minimize[0], 1.0
    if goals.maximize:
        return goals.maximize[0], -1.0
    return table.metric, -1.0 if table.maximize else 1.0


def _by_cell(table: Table, verdicts: pd.DataFrame) -> tuple[Bools, Bools]:
    fails, opens = np.zeros(len(table.cells), bool), np.zeros(len(table.cells), bool)
    fails[verdicts.loc[verdicts["verdict"] == FAILS, "row"].to_numpy(dtype=int)] = True
    opens[verdicts.loc[verdicts["verdict"] == OPEN, "row"].to_numpy(dtype=int)] = True
    return fails, opens


def _not_surely_worse(
    table: Table, estimates: Estimates, metric: str, score: Floats, rows: Ints, top: int
) -> pd.DataFrame:
    """Return the cells of the best cell's host that are not surely worse (Hsu 1984)."""
    host = table.rows["host"].to_numpy()
    rows = rows[(host[rows] == host[top]) & (rows != top)]
    if metric == table.metric:
        rows = rows[np.isfinite(estimates.mean[rows])]
        gap = estimates.mean[rows] - estimates.mean[top]
        level = 1 - 2 * ALPHA / max(len(rows), 1)
        result = tested(gap, estimates.gap(rows, np.array([top])), estimates, level)
        keep = result.low <= 0 if estimates.known else gap <= np.log1p(table.floor)
        low, high = np.exp(result.low), np.exp(result.high)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = np.sign(score[top]) * np.log(score[rows] / score[top])
        keep = gap <= np.log1p(table.floor)
        low = high = np.full(len(rows), np.nan)
    order = np.argsort(gap[keep], kind="stable")
    chosen = rows[keep][order]
    frame = table.rows.iloc[chosen][["cell", "host"]].reset_index(drop=True)
    return frame.assign(
        row=chosen,
        value=_numbers(table, metric)[chosen],
        ratio=np.exp(gap[keep][order]),
        low=low[keep][order],
        high=high[keep][order],
    )


def _verdicts(table: Table, estimates: Estimates) -> pd.DataFrame:
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
    value = _numbers(table, column)
    cells = table.cells
    if column == table.metric and estimates.known:
        result = tested(estimates.mean, estimates.var, estimates)
        half = np.nan_to_num(np.exp(result.high - result.value), nan=1.0)
        return value, value / half, value * half
    if column == "accuracy_drop" and {"flips", "accuracy_n"} <= set(cells.columns):
        n, flips = _numbers(table, "accuracy_n"), _numbers(table, "flips")
        with np.errstate(divide="ignore", invalid="ignore"):
            se = np.sqrt(np.maximum(flips / n - value**2, 0.0) / n)
        half = np.nan_to_num(stats.norm.ppf(0.975) * se)
        return value, value - half, value + half
    low, high = f"{column}_low", f"{column}_high"
    if {low, high} <= set(cells.columns):
        ends = _numbers(table, low), _numbers(table, high)
        first, last = (np.where(np.isfinite(e), e, value) for e in ends)
        return value, first, last
    return value, value, value
