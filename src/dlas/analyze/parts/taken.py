"""The stack to take under the goals, and what cannot be told apart from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Bools, Floats, Ints
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contrasts import tested
from dlas.analyze.parts.odds import NONE, Odds, odds
from dlas.analyze.parts.within import by_cell, numbers_of, verdicts_of
from dlas.core.goals import Goals

ALPHA = 0.05
SIMPLER = 0.10
"""What a simpler stack that cannot be told from the best may lose by its estimate."""


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
    fastest: str = ""
    """The cell with the best estimate, which may be another one, that cannot be told from it."""
    stack: Mapping[str, str] = field(default_factory=dict)
    """The choices of the best cell, layer by layer."""
    chance: float = float("nan")
    """The probability that it is the best of itself and the runners-up that surely meet all limits
    (all of them, where it does not itself); NaN without any, and where noise is not known."""
    regret: float = float("nan")
    """If it is not, by how much the best of them is better, in the median (see ``odds``)."""


def best(table: Table, estimates: Estimates) -> Best:
    """Find the best cell under the goals.

    The first goal to minimize or maximize decides (the metric analysed where there is none);
    each limit is judged by an interval: ``meets``, ``fails``, ``cannot tell``. A drop of
    accuracy is paired (see ``drops``). The
    best cell meets all limits surely, or, where none does, possibly (``sure`` is False then).
    Of those that cannot be told from the best the one is taken that serves the other goals best
    and is the simplest (see ``simplest``); ``runners_up`` stand beside the one that is taken.
    With given layers it is the best of all that is given: see :func:`best_of_given`.
    """
    metric, sign = _decider(table)
    verdicts = verdicts_of(table, estimates)
    value = numbers_of(table, metric)
    usable = table.complete & np.isfinite(value)
    fails, opens = by_cell(table, verdicts)
    empty = pd.DataFrame(columns=["cell", "host", "value", "ratio", "low", "high", "meets"])
    top, sure = _top(table, estimates, metric, sign * value, usable & ~fails, opens)
    if top < 0:
        return Best(metric, "", "", float("nan"), verdicts, empty, False)
    others = np.flatnonzero(usable & ~fails)
    near = _not_surely_worse(table, estimates, metric, value * sign, others, top)
    rivals = near["row"].to_numpy(dtype=int)[near["ratio"].to_numpy() <= 1 + SIMPLER]
    chosen = simplest(table, np.array([top, *rivals[~opens[rivals] | (not sure)]]))
    if chosen != top:
        rows = np.array([top, *near["row"]])
        near = _beside_one(table, estimates, metric, value * sign, rows[rows != chosen], chosen)
    beside = near.pop("row").to_numpy(dtype=int)
    near["meets"] = ~opens[beside]
    found = _odds(table, estimates, metric, chosen, beside[~opens[beside] | (not sure)])
    cell, host = (str(table.rows[c].iloc[chosen]) for c in ("cell", "host"))
    fastest = str(table.rows["cell"].iloc[top])
    stack = {x: str(table.cells[x].iloc[chosen]) for x in table.layers}
    there = (metric, cell, host, float(value[chosen]), verdicts, near, sure, fastest, stack)
    return Best(*there, found.chance, found.regret)


def _odds(table: Table, estimates: Estimates, metric: str, chosen: int, beside: Ints) -> Odds:
    """Return how likely the chosen row is the best; not known of what is not the metric."""
    if metric != table.metric:
        return NONE
    return odds(estimates, np.array([chosen, *beside], dtype=np.int64))


def simplest(table: Table, rows: Ints) -> int:
    """Return of rows that cannot be told apart, the best one first, the one to take.

    First those that are, within the floor, the best by each further goal; of them the one with
    the fewest steps beyond the defaults; of these the first.
    """
    for column, sign in further_goals(table.goals):
        value = numbers_of(table, column)[rows]
        if np.isfinite(value).any():
            best = np.nanmin(sign * value)
            rows = rows[sign * value <= best + abs(best) * table.floor]
    return int(rows[np.argmin(steps_beyond(table)[rows])])


def further_goals(goals: Goals) -> list[tuple[str, float]]:
    """Return the goals beside the first, each with 1 where less is better, -1 where more is."""
    every = [(c, 1.0) for c in goals.minimize] + [(c, -1.0) for c in goals.maximize]
    return every[1:]


def steps_beyond(table: Table) -> Ints:
    """Count by row the steps by which a stack's choices go beyond the defaults that there are."""
    count = np.zeros(len(table.cells), dtype=np.int64)
    for layer in table.free:
        default, known = table.usual(layer), table.choices.get(layer, {})
        if default:
            sizes = {s: 0 if s == default else len(known.get(s, ("one",))) for s in
                     table.cells[layer].unique()}  # fmt: skip
            count += table.cells[layer].map(sizes).to_numpy(dtype=np.int64)
    return count


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
    value = numbers_of(table, metric)
    fails, opens = by_cell(table, verdicts_of(table, estimates))
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
        var = estimates.gap(others, np.array([top]))
        near = tested(gap, var, estimates, level).low <= 0
    return {"over_second": float(np.exp(gap.min())), "ties": int(near.sum())}


def _log_of(table: Table, estimates: Estimates, metric: str, sign: float) -> Floats:
    """Return the logarithm of what decides, less is better; NaN where it is not above zero."""
    if metric == table.metric:
        return estimates.mean
    value = numbers_of(table, metric)
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


def _not_surely_worse(
    table: Table, estimates: Estimates, metric: str, score: Floats, rows: Ints, top: int
) -> pd.DataFrame:
    """Return the cells of the best cell's host that are not surely worse (Hsu 1984)."""
    host = table.rows["host"].to_numpy()
    rows = rows[(host[rows] == host[top]) & (rows != top)]
    if metric == table.metric:
        rows = rows[np.isfinite(estimates.mean[rows])]
    near = _beside_one(table, estimates, metric, score, rows, top)
    told = metric == table.metric and estimates.known
    keep = near["low"] <= 1 if told else near["ratio"] <= 1 + table.floor
    return near[keep].reset_index(drop=True)


def _beside_one(
    table: Table, estimates: Estimates, metric: str, score: Floats, rows: Ints, one: int
) -> pd.DataFrame:
    """Return rows beside one, each with its ratio to it."""
    low = high = np.full(len(rows), np.nan)
    if metric == table.metric:
        gap = estimates.mean[rows] - estimates.mean[one]
        level = 1 - 2 * ALPHA / max(len(rows), 1)
        result = tested(gap, estimates.gap(rows, np.array([one])), estimates, level)
        low, high = np.exp(result.low), np.exp(result.high)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = np.sign(score[one]) * np.log(score[rows] / score[one])
    return _framed(table, metric, rows, gap, low, high)


def _framed(
    table: Table, metric: str, rows: Ints, gap: Floats, low: Floats, high: Floats
) -> pd.DataFrame:
    order = np.argsort(gap, kind="stable")
    frame = table.rows.iloc[rows[order]][["cell", "host"]].reset_index(drop=True)
    return frame.assign(
        row=rows[order],
        value=numbers_of(table, metric)[rows[order]],
        ratio=np.exp(gap[order]),
        low=low[order],
        high=high[order],
    )
