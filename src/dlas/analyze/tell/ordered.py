"""What more of an ordered factor does, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.estimate.levels import codes
from dlas.analyze.estimate.scales import VERSIONS
from dlas.analyze.parts.covered import Coverage
from dlas.analyze.parts.paid import SCORE
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
                f"A {_more(analysis, str(factor))} {factor} makes it {bad}: "
                f"{_counted(bad, part)}.",
                layers=(str(factor),),
                ratio=float(np.exp(np.median(-np.log(loses["gain"])))),
                coverage=_coverage(part),
                fact=f"more {factor}",
                cells=tuple(loses["cells"].iloc[0]),
                numbers={"loses": len(loses), "contexts": len(part)},
                overturn="Contexts that were not measured.",
            )
        for fixed, rows in _grouped(part, loses):
            if not (mostly and len(rows) == 1):
                yield _worse(analysis, str(factor), part, fixed, rows)


def _worse(
    analysis: Analysis,
    factor: str,
    part: pd.DataFrame,
    fixed: dict[str, str],
    rows: pd.DataFrame,
) -> Finding:
    """Return the finding of contexts with something in common that all lose."""
    bad = better(analysis.table)[1]
    every = part["fixed"].tolist()
    told = [c for c in every[0] if c not in fixed and len({f[c] for f in every}) > 1]
    said = [_scaled(r, told, bad) for r in rows.itertuples()]
    where = f"With {', '.join(f'{c}={v}' for c, v in fixed.items())} a" if fixed else "A"
    shallow = rows.iloc[int(np.argmax(rows["gain"].to_numpy()))]
    ends = (float(shallow["gain"]), float(shallow["low"]), float(shallow["high"]))
    ratio, low, high = above_one(*ends)
    return Finding(
        "scaling",
        f"{where} {_more(analysis, factor)} {factor} makes it {bad}: {listed(said, 4)} "
        f"(over all {contexts(len(part))}: {_counted(bad, part, within=False)}).",
        layers=(factor, *fixed),
        ratio=ratio,
        low=low,
        high=high,
        p=min(1.0, float(rows["p"].max()) * len(part)),
        certainty=SIGNIFICANT,
        choices=tuple(f"{c}={v}" for c, v in fixed.items()),
        coverage=Coverage(len(rows), len(part), len(rows), 0, 0),
        fact=f"more {factor}",
        cells=tuple(dict.fromkeys(c for cells in rows["cells"] for c in cells)),
        numbers={"gains": rows["gain"].tolist(), "contexts": len(rows)},
        overturn=what_overturns(analysis, *ends),
    )


def _coverage(part: pd.DataFrame) -> Coverage:
    """Count the contexts in which more of a factor is surely worse, better, and neither."""
    loses = int(part["shape"].str.startswith("loses").sum())
    gains = int(part["shape"].str.startswith("gains").sum())
    return Coverage(len(part), len(part), loses, gains, len(part) - loses - gains)


def _counted(bad: str, part: pd.DataFrame, *, within: bool = True) -> str:
    """Return ``surely slower in 3 of 21 contexts, surely better in 12, undecided in 6``."""
    found = _coverage(part)
    of = f" of {contexts(found.contexts)}" if within else ""
    told = [f"surely {bad} in {found.surely}{of}"]
    told += [f"surely better in {found.against}"] if found.against else []
    told += [f"undecided in {found.undecided}"] if found.undecided else []
    return ", ".join(told)


def _more(analysis: Analysis, factor: str) -> str:
    return "later" if analysis.table.scale(factor) == VERSIONS else "higher"


def _scaled(r: Any, told: list[str], bad: str) -> str:
    rest = ", ".join(f"{c}={r.fixed[c]}" for c in told)
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
    # What is the same everywhere is no condition.
    columns = {c: np.array([f[c] for f in fixed], dtype=object) for c in fixed[0]}
    names = [c for c, levels in columns.items() if len(set(levels)) > 1]
    numbers = {c: codes([columns[c]], len(fixed)) for c in names}
    worse = part.index.isin(loses.index)
    left = worse.copy()
    for size in (0, 1, 2):
        for some in combinations(names, size):
            group = codes([numbers[c] for c in some], len(fixed))
            count = np.bincount(group)
            whole = (np.bincount(group, worse) == count) & (count > 1)
            for g in np.flatnonzero(whole & (np.bincount(group, left) > 0)):
                inside = group == g
                left &= ~inside
                yield {c: fixed[int(np.argmax(inside))][c] for c in some}, part[inside]
    rest = part[left].nsmallest(SINGLES, "gain")
    for i in rest.index:
        yield {c: v for c, v in rest.loc[i, "fixed"].items() if c in names}, rest.loc[[i]]


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
        change = (
            f"costs {number(-100 * r['cost_change'])} points of {cost}"
            if cost == SCORE
            else f"takes {number(r['cost_change'])} times the {cost}"
        )
        yield Finding(
            "returns",
            f"Beyond {factor} {r['from']}{of} more does not pay: the next step is "
            f"{compared(analysis.table, r['gain'])} it and {change}.",
            layers=(str(factor),),
            ratio=float(r["gain"]),
            fact=f"more {factor}{of}",
            cells=tuple(r["cells"]),
            numbers={"from": r["from"], "to": r["to"], "gain": r["gain"]},
            overturn="A gain above the floor in contexts that were not measured.",
        )
