"""What costs promised of each choice and what came of it, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.expected import OPEN, RIGHT, WIDTH
from dlas.analyze.parts.roofline import NONE
from dlas.analyze.tell import beside
from dlas.analyze.tell.words import (
    above_one,
    around,
    compared,
    contexts,
    listed,
    number,
    signed,
    what_overturns,
)

DIRECT = (
    "effective_macs", "macs", "bytes", "weights_mb", "ran_precision", "nonzero_params", "params",
)  # fmt: skip
"""Costs by how directly they make time; a choice is judged by the first that it changes."""
LESS = {
    "effective_macs": "fewer multiplications that are left where zeros are skipped",
    "macs": "fewer multiplications",
    "bytes": "fewer bytes",
    "weights_mb": "fewer bytes of weights",
    "ran_precision": "a narrower type",
    "nonzero_params": "fewer parameters that are not zero",
    "params": "fewer parameters",
}
"""What a reader calls less of a cost."""
CHOICE = ["factor", "level"]
SPLIT = 6
"""Parts of a promise that are told one by one."""
SAME = 0.05
"""Promises that differ by less are told as one."""


def expected(analysis: Analysis) -> Iterator[Finding]:
    """Say of each choice what its costs promised, what came of it, and what capped it."""
    found, every = analysis.expected, analysis.expected_contexts
    split = found[found["by"] != ""]
    parts_of, contexts_of = (f.groupby([*CHOICE, "cost"]).indices for f in (split, every))
    for _, rows in found[found["by"] == ""].groupby(CHOICE, sort=False):
        r = min(rows.itertuples(), key=lambda row: _directness(str(row.cost)))
        key = (r.factor, r.level, r.cost)
        split_by, by = _split(analysis, split.iloc[parts_of.get(key, [])])
        some = every.iloc[contexts_of[key]]
        ratio, low, high = above_one(r.achieved, r.achieved_low, r.achieved_high)
        yield Finding(
            "expectation",
            f"{_promise(analysis, r, rows)}{_ran(analysis, r, some)}{split_by}"
            f"{_capped(analysis, some)}.",
            layers=(r.factor, by) if by else (r.factor,),
            ratio=ratio,
            low=low,
            high=high,
            p=r.p,
            certainty=SIGNIFICANT,
            choices=beside.choices(*_better_first(r)),
            fact=beside.either(r.factor, r.level, r.baseline),
            cells=_cells(some),
            numbers={
                "cost": r.cost,
                "expected": r.expected,
                "observed": r.observed,
                "verdict": r.verdict,
                "others": {str(x.cost): x.expected for x in rows.itertuples() if x.cost != r.cost},
            },
            overturn=what_overturns(analysis, r.achieved, r.achieved_low, r.achieved_high),
        )


def _better_first(r: Any) -> list[tuple[str, str]]:
    both = [(r.factor, r.level), (r.factor, r.baseline)]
    return both if r.observed >= 1 else both[::-1]


def _directness(cost: str) -> int:
    return DIRECT.index(cost) if cost in DIRECT else -1  # threads: nothing is more direct


def _promise(analysis: Analysis, r: Any, rows: pd.DataFrame) -> str:
    """Say what was promised and what came, each in its own direction: no ratio of the two."""
    table = analysis.table
    text = (
        f"{_less(str(r.cost), r.expected)} promises {r.factor}={r.level} to be "
        f"{compared(table, r.expected)} {r.baseline}: it is {signed(table, r.observed)} "
        f"({contexts(r.contexts)}{around(table, r.observed, r.low, r.high)}), {_kept(r)}"
    )
    others = [
        f"{signed(table, x.expected)} by {x.cost}"
        for x in rows.itertuples()
        if abs(np.log(x.expected / r.expected)) > SAME
    ]
    return f"{text}; other costs promise {listed(others, 4)}" if others else text


def _less(cost: str, promise: float) -> str:
    """Return what promises: ``Fewer multiplications (macs)``, ``More ran_threads``."""
    text = LESS.get(cost)
    if text is None:
        return f"More {cost}" if promise > 1 else f"Fewer {cost}"
    if promise < 1:
        text = text.replace("fewer", "more").replace("a narrower", "a wider")
    return f"{text[0].upper()}{text[1:]} ({cost})"


def _kept(r: Any) -> str:
    if r.verdict == RIGHT:
        return "as promised"
    if r.verdict == OPEN:
        return "which may be as promised"
    return "less than promised" if r.achieved < 1 else "more than promised"


def _ran(analysis: Analysis, r: Any, some: pd.DataFrame) -> str:
    """Say in how many contexts the choice ran in the type of its baseline after all."""
    table = analysis.table
    if WIDTH not in table.cells or r.factor not in table.layers:
        return ""
    own = analysis.speedup_contexts
    own = own[(own["factor"] == r.factor) & (own["level"] == r.level)]
    type_of = dict(zip(table.rows["cell"].astype(str), table.cells[WIDTH], strict=True))
    ran, before = (own[c].astype(str).map(type_of) for c in ("cell", "baseline_cell"))
    stayed = own[(ran == before) & ran.notna()]
    if not len(stayed) or len(stayed) == len(own):
        return ""
    kinds = ", ".join(dict.fromkeys(map(str, ran[stayed.index])))
    mean = float(np.exp(np.log(stayed["ratio"]).mean()))
    return (
        f". In {len(stayed)} of {contexts(len(own))} it ran in {kinds} like {r.baseline}, and it "
        f"is {signed(table, mean)}"
    )


def _split(analysis: Analysis, rows: pd.DataFrame) -> tuple[str, str]:
    """Say what came of a promise by the layer over which the kept part of it differs most."""
    if not len(rows):
        return "", ""
    achieved = np.log(rows["achieved"])
    spread = achieved.groupby(rows["by"], sort=False).agg(lambda x: x.max() - x.min())
    by = str(spread.idxmax())
    parts = list(rows[rows["by"] == by].itertuples())
    return f". By {by}{_each(analysis.table, parts)}", by


def _each(table: Table, parts: list[Any]) -> str:
    """Say what came of each part; promise and verdict once, where all parts have the same."""
    told = [f"{r.at} {signed(table, r.observed)}" for r in parts]
    promised = [f"of {number(r.expected)} times promised" for r in parts]
    kept = [_kept(r) for r in parts]
    if len(parts) > 1 and len({*promised}) == len({*kept}) == 1:
        return f", {promised[0]}: {listed(told, SPLIT)}, each {kept[0]}"
    each = zip(told, promised, kept, strict=True)
    return f": {listed([f'{part} {promise} ({k})' for part, promise, k in each], SPLIT)}"


def _capped(analysis: Analysis, some: pd.DataFrame) -> str:
    """Return what capped the cells of a choice; nothing where no ceiling was measured."""
    roof = analysis.roofline
    bounds = roof[roof["cell"].isin(set(some["cell"]))]["bound"]
    if not len(bounds):
        return ""
    counts = bounds.value_counts()
    told = [f"{name} in {n}" for name, n in counts.items() if name != NONE]
    rest = int(counts.get(NONE, 0))
    if rest:
        told.append(f"none of the three ceilings in {rest}")
    return f". What caps its cells: {listed(told, 4)} of {len(bounds)}"


def _cells(some: pd.DataFrame) -> tuple[str, ...]:
    """Return the cells that kept least and most of the promise, each with its baseline."""
    kept = np.log(some["observed"] / some["expected"]).to_numpy()
    ends = some.iloc[[int(np.argmin(kept)), int(np.argmax(kept))]]
    return tuple(dict.fromkeys(ends[["cell", "baseline_cell"]].astype(str).to_numpy().ravel()))
