"""What more of an ordered factor does, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.estimate.scales import VERSIONS
from dlas.analyze.tell.words import (
    above_one,
    better,
    compared,
    contexts,
    listed,
    number,
    percent,
    times,
    what_overturns,
)

SINGLES = 10
"""Contexts told one by one where no group of them loses as a whole."""


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
                f"A {_more(analysis, str(factor))} {factor} makes it {bad} in {percent(share)} of "
                f"its {contexts(len(part))}.",
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
        f"{where} {_more(analysis, factor)} {factor} makes it {bad}: {listed(said, 4)} "
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


def _more(analysis: Analysis, factor: str) -> str:
    return "later" if analysis.table.scale(factor) == VERSIONS else "higher"


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
