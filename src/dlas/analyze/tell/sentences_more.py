"""The sentences of the other parts: winners, ordered factors, front, failures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.parts import breakeven, pareto
from dlas.analyze.tell.sentences import above_one, what_overturns
from dlas.analyze.tell.words import better, compared, contexts, listed, number, percent, times

PROXIES = ("macs", "effective_macs", "params", "nonzero_params", "weights_mb")
SINGLES = 10
"""Contexts told one by one where no group of them loses as a whole."""
LOOSE = 0.7
"""A rank correlation below which an order is not the other order."""


def dominance(analysis: Analysis) -> Iterator[Finding]:
    """Say which choice is the best wherever it was measured."""
    for r in analysis.winners.itertuples():
        if r.contexts < 3 or r.best < r.contexts or r.contexts < 0.5 * r.contested:
            continue
        rows = analysis.losses[analysis.losses["layer"] == r.layer]
        gain = float(rows["second_median"].iloc[0])
        word = "fastest" if better(analysis.table)[0] == "faster" else "best"
        close = f"; in {r.contexts - r.clearly} of them by less than can be told" if (
            r.clearly < r.contexts
        ) else ""  # fmt: skip
        yield Finding(
            "dominance",
            f"{r.layer}={r.level} is the {word} {r.layer} in all {contexts(r.contexts)} it was "
            f"measured in{close}.",
            layers=(r.layer,),
            ratio=gain,
            p=r.p,
            certainty=SIGNIFICANT,
            cells=tuple(r.cells),
            numbers={"contexts": r.contexts, "clearly": r.clearly, "over_second": gain},
            overturn="One context in which another choice is better.",
        )


def scaling(analysis: Analysis) -> Iterator[Finding]:
    """Say where more of an ordered factor makes it worse."""
    bad = better(analysis.table)[1]
    for factor, part in analysis.scaling.groupby("factor", sort=False):
        loses = part[part["shape"].str.startswith("loses")]
        if not len(loses):
            continue
        share = len(loses) / len(part)
        mostly = share > 0.5 and len(loses) < len(part)
        if mostly:
            yield Finding(
                "scaling",
                f"A higher {factor} makes it {bad} in {percent(share)} of its "
                f"{contexts(len(part))}.",
                layers=(str(factor),),
                ratio=float(np.exp(np.median(-np.log(loses["gain"])))),
                cells=tuple(loses["cells"].iloc[0]),
                numbers={"loses": len(loses), "contexts": len(part)},
                overturn="Contexts that were not measured.",
            )
        for fixed, rows in _grouped(part, loses):
            if not (mostly and len(rows) == 1):
                yield _worse(analysis, str(factor), part, share, fixed, rows)


def _worse(
    analysis: Analysis,
    factor: str,
    part: pd.DataFrame,
    share: float,
    fixed: dict[str, str],
    rows: pd.DataFrame,
) -> Finding:
    """Return the finding of contexts with something in common that all lose."""
    bad = better(analysis.table)[1]
    said = [_scaled(r, fixed, bad) for r in rows.itertuples()]
    where = f"With {', '.join(f'{c}={v}' for c, v in fixed.items())} a" if fixed else "A"
    shallow = rows.iloc[int(np.argmax(rows["gain"].to_numpy()))]
    ends = (float(shallow["gain"]), float(shallow["low"]), float(shallow["high"]))
    ratio, low, high = above_one(*ends)
    return Finding(
        "scaling",
        f"{where} higher {factor} makes it {bad}: {listed(said, 4)} "
        f"({percent(share)} of all contexts of {factor} lose).",
        layers=(factor, *fixed),
        ratio=ratio,
        low=low,
        high=high,
        p=min(1.0, float(rows["p"].max()) * len(part)),
        certainty=SIGNIFICANT,
        cells=tuple(dict.fromkeys(c for cells in rows["cells"] for c in cells)),
        numbers={"gains": rows["gain"].tolist(), "contexts": len(rows)},
        overturn=what_overturns(analysis, *ends),
    )


def _scaled(r: Any, fixed: dict[str, str], bad: str) -> str:
    rest = ", ".join(f"{c}={v}" for c, v in r.fixed.items() if c not in fixed)
    after = r.shape.partition("best at ")[2]
    gained = f" after gaining {percent(r.best_gain - 1)} at {after}" if after else ""
    where = f" at {rest}" if rest else ""
    return f"{times(1 / r.gain)} {bad} from {r.lowest} to {r.highest}{where}{gained}"


def _grouped(
    part: pd.DataFrame, loses: pd.DataFrame
) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Split losing contexts into the fewest groups, of at most two fixed choices, that all lose.

    What is left over is told context by context, the clearest first.
    """
    fixed = part["fixed"].tolist()
    names = list(fixed[0])
    worse = part.index.isin(loses.index)
    left = worse.copy()
    for size in (0, 1, 2):
        for some in combinations(names, size):
            keys = [tuple(f[c] for c in some) for f in fixed]
            group = pd.factorize(pd.Series(keys, dtype=object))[0]
            count = np.bincount(group)
            whole = (np.bincount(group, worse) == count) & (count > 1)
            for g in np.flatnonzero(whole & (np.bincount(group, left) > 0)):
                inside = group == g
                left &= ~inside
                yield dict(zip(some, keys[int(np.argmax(inside))], strict=True)), part[inside]
    rest = part[left].nsmallest(SINGLES, "gain")
    for i in rest.index:
        yield rest.loc[i, "fixed"], rest.loc[[i]]


def break_evens(analysis: Analysis) -> Iterator[Finding]:
    """Say where one choice overtakes another as a factor rises."""
    found = analysis.break_evens
    shown = found[(found["context"] == breakeven.AVERAGE) | (found["contexts"] == 1)]
    for (factor, layer), part in shown.groupby(["factor", "layer"], sort=False):
        for (a, b), rows in part.groupby(["a", "b"], sort=False):
            mean = rows[rows["context"] == breakeven.AVERAGE]
            one = mean if len(mean) else rows.head(1)
            r = one.iloc[0]
            if r["verdict"] != breakeven.CROSSES:
                continue
            first, then = (a, b) if r["below"] > 1 else (b, a)
            single = rows[(rows["context"] != breakeven.AVERAGE)]
            crossing = single[single["verdict"] == breakeven.CROSSES]["level"].dropna()
            text = (
                f"{layer}: {then} overtakes {first} at {factor} {number(r['level'])}"
                f"{_range(r['low'], r['high'])}, on average over {contexts(int(r['contexts']))}"
            )
            if len(crossing):
                text += (
                    f"; in {len(crossing)} of {contexts(len(single))} it does, at "
                    f"{number(crossing.min())} to {number(crossing.max())}"
                )
            ends = (max(r["below"], 1 / r["below"]), max(r["above"], 1 / r["above"]))
            yield Finding(
                "break-even",
                f"{text}.",
                layers=(str(factor), str(layer)),
                ratio=float(min(ends)),
                p=min(1.0, float(r["p"]) * part[["a", "b"]].drop_duplicates().shape[0]),
                certainty=SIGNIFICANT,
                cells=tuple(r["cells"]),
                numbers={"level": r["level"], "low": r["low"], "high": r["high"]},
                overturn="Levels between those measured: lines are drawn between them.",
            )


def _range(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    left = "below the range" if math.isinf(low) else number(low)
    right = "above the range" if math.isinf(high) else number(high)
    return f" (95 % interval {left} to {right})"


def returns(analysis: Analysis) -> Iterator[Finding]:
    """Say from where on more of a factor costs without paying."""
    for (factor, kind, cost), part in analysis.returns.groupby(
        ["factor", "technique", "cost"], sort=False
    ):
        pays = part["pays"].to_numpy(dtype=bool)
        # Only a tail of steps that do not pay is a point after which more does not.
        tail = len(pays) - (int(np.argmax(~pays[::-1] == 0)) if pays.any() else len(pays))
        if tail == len(pays):
            continue
        r = part.iloc[tail]
        of = f" of {kind}" if kind else ""
        change = f"{cost} by {number(r['cost_change'])}" if cost == "accuracy" else (
            f"{number(r['cost_change'])} times the {cost}"
        )  # fmt: skip
        yield Finding(
            "returns",
            f"Beyond {factor} {r['from']}{of} more does not pay: the next step is "
            f"{compared(analysis.table, r['gain'])} it and changes {change}.",
            layers=(str(factor),),
            ratio=float(r["gain"]),
            cells=tuple(r["cells"]),
            numbers={"from": r["from"], "to": r["to"], "gain": r["gain"]},
            overturn="A gain above the floor in contexts that were not measured.",
        )


def correlations(analysis: Analysis) -> Iterator[Finding]:
    """Say where a proxy does not order the metric."""
    found = analysis.correlations
    metric = analysis.table.metric
    for r in found[(found["by"] == "") & (found["y"] == metric)].itertuples():
        if r.x in PROXIES and r.spearman < LOOSE:
            yield Finding(
                "correlation",
                f"The order by {r.x} is not the order by {metric}: Spearman's correlation is "
                f"{r.spearman:.2f} over {r.cells} cells.",
                cells=tuple(r.odd),
                numbers={"spearman": r.spearman, "kendall": r.kendall},
                overturn="Other cells: a correlation belongs to the set it is taken over.",
            )


def front(analysis: Analysis) -> Iterator[Finding]:
    """Say which cells are, and may be, on the Pareto front."""
    found = analysis.front
    on = found[found["front"] == pareto.ON]["cell"].astype(str).tolist()
    maybe = int((found["front"] == pareto.MAYBE).sum())
    axes = listed(list(pareto.objectives(analysis.table)), 4)
    if len(on) < 2:
        return
    text = f"{len(on)} cells are on the Pareto front of {axes}"
    if maybe:
        text += f", {maybe} more may be"
    yield Finding(
        "front",
        f"{text}: {listed(on, 3)}.",
        cells=tuple(on[:50]),
        numbers={"on": len(on), "maybe": maybe},
        overturn="More rounds decide about those that may be on it.",
    )


def failures(analysis: Analysis) -> Iterator[Finding]:
    """Say which cells are missing, and why."""
    for r in analysis.failures.head(5).itertuples():
        why = f": {r.reason}" if r.reason else ", no reason given"
        most = f" ({percent(r.share)} of them with {r.where})" if r.where else ""
        yield Finding(
            "failures",
            f"{r.cells} cells are {r.status}{most}{why}.",
            cells=tuple(r.examples),
            numbers={"cells": r.cells, "share": r.share},
            overturn="What depends on these cells is not in any finding.",
        )
