"""What changed between two runs, machines or versions, beyond noise."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import records
from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import Floats
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.sessions import between
from dlas.analyze.estimate.student import above, quantile
from dlas.analyze.estimate.table import COMPLETE, Table
from dlas.analyze.parts.contrasts import benjamini_hochberg, satterthwaite
from dlas.analyze.tell.words import better, listed, number, percent, times
from dlas.core.errors import UserError

FDR = 0.05


@dataclass(frozen=True)
class Comparison:
    """Table b against table a: ratios are a over b, above 1 where b is better."""

    metric: str
    known: bool
    """Whether both tables know their noise."""
    floor: float
    shift: float
    """Median ratio over all common cells: what changed for everything alike (machine, clock)."""
    apart: float
    """By how much a cell differs between the two runs of its own, as a share (a standard
    deviation): what half of the cells differ by, beyond the shift and the noise of their rounds,
    and more the fewer there are. It is in all intervals. NaN: there is one, or no noise known."""
    cells: pd.DataFrame
    """``key, cell_a, cell_b, ratio, low, high, p, q, changed, beyond_shift``."""
    levels: pd.DataFrame
    """``layer, level, cells, ratio, low, high, q``: geometric means net of ``shift``."""
    status: pd.DataFrame
    """``key, before, after, reason``: cells whose status changed."""
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    winners: pd.DataFrame
    """``layer, context, before, after, ratio_a, ratio_b``: another choice is now the best."""
    better: str = "better"
    worse: str = "worse"

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain values."""
        out: dict[str, object] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            out[f.name] = records(value) if isinstance(value, pd.DataFrame) else value
        return out


def compare(a: Table, b: Table) -> Comparison:
    """Compare two tables cell by cell; cells are matched by their layers.

    With several hosts in a table its cells are matched by host too. Rounds of two runs share no
    round effects, so that a shift common to all cells cannot be told from another day: it is
    shown apart, and ``beyond_shift`` says what changed net of it. Between two sessions in which
    nothing changed every cell differs by a little of its own, too: by what half of the cells
    differ (``apart``), and that stands in the intervals beside the noise of rounds. ``changed``
    and ``beyond_shift`` hold the false discovery rate at 5 %; without noise the floor decides.

    Raises:
        UserError: metrics or layers differ.
    """
    _same_shape(a, b)
    one, two = estimate(a), estimate(b)
    known = one.known and two.known
    keys = _keys(a, b)
    left, right = (_rows(t, e, keys) for t, e in ((a, one), (b, two)))
    both = left.index.intersection(right.index, sort=False)
    i, j = left.loc[both].to_numpy(dtype=int), right.loc[both].to_numpy(dtype=int)
    gaps = _gaps(one, two, i, j)
    good, bad = better(a)
    return Comparison(
        metric=a.metric,
        known=known,
        floor=a.floor,
        shift=float(np.exp(gaps.shift)),
        apart=float(np.expm1(np.sqrt(gaps.each))) if known else float("nan"),
        cells=_cells(a, b, both, i, j, gaps, known),
        levels=_levels(a, i, gaps, known),
        status=_status(a, b, keys),
        only_a=_missing(a, b, keys),
        only_b=_missing(b, a, keys),
        winners=_winners(a, i, one, two, j, gaps if known else None),
        better=good,
        worse=bad,
    )


def _same_shape(a: Table, b: Table) -> None:
    problems = []
    if a.metric != b.metric:
        problems.append(f"metric: {a.metric!r} against {b.metric!r}")
    if set(a.layers) != set(b.layers):
        problems.append(f"layers: {', '.join(a.layers)} against {', '.join(b.layers)}")
    if a.maximize != b.maximize:
        problems.append("one table wants more of the metric, the other less")
    if problems:
        raise UserError(problems)


def _keys(a: Table, b: Table) -> list[str]:
    several = max(len(a.hosts), len(b.hosts)) > 1
    return [*a.layers, *(["host"] if several else [])]


def _joined(table: Table, keys: list[str]) -> pd.Series:
    return table.cells[keys].astype(str).agg(" / ".join, axis=1)


def _rows(table: Table, estimates: Estimates, keys: list[str]) -> pd.Series:
    rows = np.flatnonzero(np.isfinite(estimates.mean))
    return pd.Series(rows, index=_joined(table, keys).iloc[rows])


@dataclass(frozen=True)
class _Gaps:
    """What common cells differ by, on the log scale, and its errors."""

    d: Floats
    shift: float
    """The median."""
    each: float
    """The variance that a cell has of its own between the two; NaN: not known."""
    each_df: float
    own: Floats
    """Variance by cell, and stratum of either table."""
    shared: Floats
    """Standard errors by cell, and error that cells of either table have in common; over their
    mean, which belongs to the shift, in ``net`` and ``level``."""
    df: Floats
    """Degrees of freedom behind ``own`` and ``shared``."""

    def raw(self) -> tuple[Floats, Floats]:
        """Return the standard error of every difference, and its degrees of freedom."""
        return self._spread(self.own, self.shared, self.each)

    def net(self) -> tuple[Floats, Floats]:
        """Return the same of every difference less the shift."""
        return self._spread(self.own, self.shared - self._mean, self.each)

    def level(self, here: np.ndarray) -> tuple[Floats, Floats]:
        """Return the same of the mean of some differences less the shift."""
        n = int(here.sum())
        shared = self.shared[here].mean(axis=0) - self._mean
        own = self.own[here].sum(axis=0) / n**2
        return self._spread(own[None, :], shared[None, :], self.each / n)

    @property
    def _mean(self) -> Floats:
        return np.asarray(self.shared.sum(axis=0) / max(len(self.d), 1))

    def _spread(self, own: Floats, shared: Floats, each: float) -> tuple[Floats, Floats]:
        var = np.hstack([own, shared**2, np.full((len(own), 1), each)])
        return np.sqrt(var.sum(axis=1)), satterthwaite(var, np.append(self.df, self.each_df))


def _gaps(one: Estimates, two: Estimates, i: np.ndarray, j: np.ndarray) -> _Gaps:
    d = one.mean[i] - two.mean[j]
    own = np.hstack([one.var[i, : one.own], two.var[j, : two.own]])
    shared = np.hstack([one.shared[i], two.shared[j]])
    df = [one.df[: one.own], two.df[: two.own], one.df[one.own :], two.df[two.own :]]
    shift = float(np.median(d)) if len(d) else 0.0
    return _Gaps(d, shift, *between(d, own.sum(axis=1)), own, shared, np.concatenate(df))


def _cells(
    a: Table, b: Table, keys: pd.Index, i: np.ndarray, j: np.ndarray, gaps: _Gaps, known: bool
) -> pd.DataFrame:
    d, shift, floor = gaps.d, gaps.shift, float(np.log1p(a.floor))
    frame = pd.DataFrame(
        {
            "key": keys.astype(str),
            "cell_a": a.rows["cell"].to_numpy()[i],
            "cell_b": b.rows["cell"].to_numpy()[j],
            "ratio": np.exp(d),
        }
    )
    if not known:
        return frame.assign(
            low=np.nan, high=np.nan, p=np.nan, q=np.nan,
            changed=np.abs(d) > floor, beyond_shift=np.abs(d - shift) > floor,
        )  # fmt: skip
    (se, freedom), (net, net_freedom) = gaps.raw(), gaps.net()
    half = quantile(0.975, freedom) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * above(np.abs(d) / se, freedom)
        p_net = 2 * above(np.abs(d - shift) / net, net_freedom)
    q = benjamini_hochberg(p)
    return frame.assign(
        low=np.exp(d - half), high=np.exp(d + half), p=p, q=q,
        changed=q < FDR, beyond_shift=benjamini_hochberg(p_net) < FDR,
    )  # fmt: skip


def _levels(a: Table, i: np.ndarray, gaps: _Gaps, known: bool) -> pd.DataFrame:
    rows, d = [], gaps.d - gaps.shift
    for layer in a.varied:
        values = a.cells[layer].to_numpy()[i]
        for level in a.levels[layer]:
            here = values == level
            n = int(here.sum())
            if not n:
                continue
            mean = float(d[here].mean())
            se, freedom = gaps.level(here)
            half = float(quantile(0.975, freedom)[0] * se[0]) if known else np.nan
            p = float(2 * above(abs(mean) / se[0], freedom)[0]) if known and se[0] else np.nan
            rows.append(
                {
                    "layer": layer, "level": level, "cells": n, "ratio": np.exp(mean),
                    "low": np.exp(mean - half), "high": np.exp(mean + half), "p": p,
                }
            )  # fmt: skip
    columns = ["layer", "level", "cells", "ratio", "low", "high", "p"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(q=benjamini_hochberg(frame.pop("p").to_numpy(dtype=float)))


def _status(a: Table, b: Table, keys: list[str]) -> pd.DataFrame:
    one = a.rows.set_index(_joined(a, keys))[["status", "reason"]].add_suffix("_a")
    two = b.rows.set_index(_joined(b, keys))[["status", "reason"]].add_suffix("_b")
    both = one.join(two, how="inner")
    both = both[both["status_a"] != both["status_b"]]
    reason = both["reason_b"].where(both["status_b"] != COMPLETE, both["reason_a"])
    return pd.DataFrame(
        {
            "key": both.index.astype(str),
            "before": both["status_a"].to_numpy(),
            "after": both["status_b"].to_numpy(),
            "reason": reason.to_numpy(),
        }
    )


def _missing(a: Table, b: Table, keys: list[str]) -> tuple[str, ...]:
    there = set(_joined(b, keys))
    return tuple(k for k in _joined(a, keys) if k not in there)


def _winners(
    a: Table, i: np.ndarray, one: Estimates, two: Estimates, j: np.ndarray, gaps: _Gaps | None
) -> pd.DataFrame:
    """Return contexts whose best choice is another one, in both tables by more than noise."""
    rows, y_a, y_b = [], one.mean[i], two.mean[j]
    cells = a.cells.iloc[i].reset_index(drop=True)
    for layer in a.varied:
        others = [c for c in a.context_columns if c != layer]
        groups = cells.groupby(others, sort=False).indices if others else {}
        for context, where in groups.items():
            p, q = int(where[np.argmin(y_a[where])]), int(where[np.argmin(y_b[where])])
            gain_a, gain_b = float(y_a[q] - y_a[p]), float(y_b[p] - y_b[q])
            if p == q:
                continue
            pairs = [(e, rows[p], rows[q]) for e, rows in ((one, i), (two, j))]
            if not _both_sure(a, (gain_a, gain_b), pairs, gaps):
                continue
            names = context if isinstance(context, tuple) else (context,)
            rows.append(
                {
                    "layer": layer,
                    "context": ", ".join(f"{c}={v}" for c, v in zip(others, names, strict=True)),
                    "before": cells[layer].iloc[p],
                    "after": cells[layer].iloc[q],
                    "ratio_a": float(np.exp(gain_a)),
                    "ratio_b": float(np.exp(gain_b)),
                }
            )
    columns = ["layer", "context", "before", "after", "ratio_a", "ratio_b"]
    return pd.DataFrame(rows, columns=columns)


def _both_sure(
    table: Table,
    gains: tuple[float, float],
    pairs: list[tuple[Estimates, int, int]],
    gaps: _Gaps | None,
) -> bool:
    """Say whether both gains are beyond noise, and beyond what two cells of a session differ by.

    A difference of one cell between two sessions has as much of that as one of two cells in one.
    """
    if gaps is None:
        return min(gains) > float(np.log1p(table.floor))
    for gain, (e, p, q) in zip(gains, pairs, strict=True):
        var = np.append(e.gap(np.array(p), np.array(q)), gaps.each)
        df = satterthwaite(var, np.append(e.df, gaps.each_df))
        if not gain > quantile(0.975, df) * np.sqrt(var.sum()):
            return False
    return True


def _apart(found: Comparison) -> str:
    if np.isnan(found.apart):
        return (
            "by how much cells differ of their own from run to run one cell does not tell: "
            "nothing is said to have changed"
        )
    return (
        f"beyond that shift and the noise of their rounds cells differ by {percent(found.apart)} "
        "each from run to run, as far as half of them show; what changed is beyond that, too"
    )


def render_comparison(found: Comparison, *, most: int = 10) -> str:
    """Return a comparison as lines of text."""
    cells = found.cells
    word = found.better if found.shift >= 1 else found.worse
    lines = [f"{len(cells)} common cells, {len(found.only_a)} only in the first, "
             f"{len(found.only_b)} only in the second"]  # fmt: skip
    if not len(cells):
        return lines[0] + "\n"
    rule = "at a false discovery rate of 5 %" if found.known else (
        f"by more than {percent(found.floor)} (no noise is known)"
    )  # fmt: skip
    lines.append(
        f"overall the second is {times(found.shift)} {word} (median of all cells; "
        "a shift of everything can be another day or clock)"
    )
    if found.known:
        lines.append(_apart(found))
    lines.append(f"{int(cells['changed'].sum())} cells changed {rule}, "
                 f"{int(cells['beyond_shift'].sum())} beyond that shift")  # fmt: skip
    net = cells[cells["beyond_shift"]].copy()
    net["size"] = np.abs(np.log(net["ratio"] / found.shift))
    for r in net.nlargest(most, "size").itertuples():
        lines.append(
            f"  {r.key}: {number(r.ratio)} ({found.better if r.ratio > 1 else found.worse})"
        )
    sure = found.levels[found.levels["q"] < FDR]
    for r in sure.itertuples():
        word = found.better if r.ratio > 1 else found.worse
        lines.append(
            f"{r.layer}={r.level}: {times(r.ratio)} {word} beyond the shift ({r.cells} cells)"
        )
    for r in found.status.head(most).itertuples():
        why = f": {r.reason}" if r.reason else ""
        lines.append(f"{r.key}: {r.before} before, {r.after} now{why}")
    for r in found.winners.head(most).itertuples():
        lines.append(f"best {r.layer} at {r.context}: {r.before} before, {r.after} now")
    if found.only_a:
        lines.append(f"only in the first: {listed(list(found.only_a), 3)}")
    if found.only_b:
        lines.append(f"only in the second: {listed(list(found.only_b), 3)}")
    return "\n".join(lines) + "\n"
