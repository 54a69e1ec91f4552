"""How much each layer matters, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.estimate.table import Table
from dlas.analyze.tell.words import around, better, brief, listed, percent, times

LEVEL = 0.05
NOTHING = 1.0005
"""A cost below is none."""
SHOWN = 3
"""Levels without which the order of the layers is another one that are told."""


def importance(analysis: Analysis) -> Iterator[Finding]:
    """Say which layer matters most: what leaving it at its default costs the best stack."""
    found = analysis.regrets[analysis.regrets["ratio"].notna()]
    if len(found):
        yield _regret(analysis, found)
    else:
        yield from _by_shares(analysis)
    yield from _order(analysis)


def _regret(analysis: Analysis, found: pd.DataFrame) -> Finding:
    matters = _matters(analysis, found)
    sure, found = found[matters], pd.concat([found[matters], found[~matters]])
    terms = found["layer"].tolist()
    if not len(sure):
        text = (
            f"No layer matters beyond noise: with any of {listed(terms, 6)} left at its default "
            "the best stack that can be reached is no worse, as far as can be told"
        )
    else:
        top = sure.iloc[0]
        told = [_left(analysis, r, first=not i) for i, r in enumerate(found.itertuples())]
        text = f"{top['layer']} matters most for {analysis.table.metric}: {'; '.join(told)}"
        same = [x for x in top["tied"] if x in terms]
        if same:
            text += f". What {listed([top['layer'], *same], 4)} cost cannot be told apart"
    shares = analysis.shares[analysis.shares["kind"] == "layer"]
    return Finding(
        "importance",
        f"{text}{_confounded(found)}.",
        layers=tuple(terms),
        ratio=float(found["ratio"].iloc[0]),
        low=float(found["low"].iloc[0]),
        high=float(found["high"].iloc[0]),
        cells=tuple(dict.fromkeys(c for some in found["cells"] for c in some)),
        numbers={
            "regrets": dict(zip(terms, found["ratio"].tolist(), strict=True)),
            "shares": dict(zip(shares["term"], shares["share"], strict=True)),
        },
        overturn="Other defaults (--baseline), other goals, or choices that were not measured.",
    )


def _matters(analysis: Analysis, found: pd.DataFrame) -> np.ndarray:
    """Say which layers cost something for sure, all of them (Bonferroni); else beyond the floor.

    The dearest of several is told: each has to be sure by so much more.
    """
    if analysis.estimates.known:
        p, ratio = (found[c].to_numpy(dtype=float) for c in ("p", "ratio"))
        return np.asarray((p * len(found) < LEVEL) & (ratio > 1))
    return np.asarray(found["ratio"].to_numpy(dtype=float) > 1 + analysis.table.floor)


def _left(analysis: Analysis, r: Any, *, first: bool) -> str:
    """Say what leaving one layer at its default costs."""
    table = analysis.table
    left = f"left at {r.default}" if first else f"{r.layer} left at {r.default}"
    bad = better(table)[1]
    if r.ratio < NOTHING:
        return f"{left}, the best stack is no {bad}{_as_far(table, r.low, r.high)}"
    text = f"{left}, the best stack that can be reached is {times(r.ratio)} {bad}"
    text += f" on average over {r.reached} groups" if r.reached > 1 else ""
    inside = [around(table, 1 / r.ratio, 1 / r.high, 1 / r.low).removeprefix(", ")]
    if r.reached > 1 and r.most > 1.05 * r.ratio:
        inside.append(f"at most {times(r.most)} with {brief(table, r.most_at)}")
    if r.reached < r.groups:
        inside.append(f"in {r.groups - r.reached} of {r.groups} none with it meets the goals")
    inside = [part for part in inside if part]
    return f"{text} ({', '.join(inside)})" if inside else text


def _as_far(table: Table, low: float, high: float) -> str:
    """Return the interval of a cost that is none: what it may still be."""
    good, bad = better(table)
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    ends = [f"{times(x)} {bad if x > 1 else good}" for x in (low, high)]
    return f", as far as can be told (95 % interval {' to '.join(ends)})"


def _confounded(found: pd.DataFrame) -> str:
    """Say which layers go together in the table, and what would tell them apart."""
    groups: dict[frozenset[str], str] = {}
    for r in found.itertuples():
        if r.confounded:
            key = frozenset((r.layer, *r.confounded))
            groups[key] = groups.get(key, "") or r.missing
    told = []
    for layers, missing in groups.items():
        names = listed([x for x in found["layer"] if x in layers], 6)
        text = f". {names} are confounded: their choices go together in this table, and what one "
        text += "costs may be the other's"
        told.append(f"{text}; a stack with {missing} would tell" if missing else text)
    return "".join(told)


def _by_shares(analysis: Analysis) -> Iterator[Finding]:
    """Say how much each layer's levels differ, where no layer is free to be chosen."""
    shares = analysis.shares
    layers = shares[shares["kind"] == "layer"].sort_values("share", ascending=False)
    if not len(layers):
        return
    terms = layers["term"].tolist()
    told = [f"{t} {percent(s)}" for t, s in zip(terms, layers["share"], strict=True)]
    pairs = float(shares.loc[shares["kind"] == "pair", "share"].sum())
    lost = layers.loc[layers["confounded"].eq(True), "term"].tolist()
    text = (
        f"Shares of the variance of {analysis.table.metric} (log scale): {listed(told, 6)}; pairs "
        f"of layers together {percent(pairs)}"
    )
    if lost:
        text += f". Confounded, so that shares are split between them: {listed(lost, 6)}"
    if not (layers["share"] > layers["chance"].fillna(0.0)).any():
        noisy = float(shares.loc[shares["kind"] == "noise", "share"].sum())
        text = (
            f"No layer matters beyond noise: {percent(noisy)} of the variance of "
            f"{analysis.table.metric} is what the noise of rounds alone would make"
        )
    yield Finding(
        "importance",
        f"{text}.",
        layers=tuple(terms),
        cells=_extremes(analysis, terms),
        numbers={"shares": dict(zip(terms, layers["share"], strict=True)), "pairs": pairs},
        overturn="Other levels: a share says how much the levels in the table differ.",
    )


def _extremes(analysis: Analysis, layers: list[str]) -> tuple[str, ...]:
    """Return for each layer the pair of cells, all else equal, that its choices set farthest."""
    rows = analysis.speedup_contexts
    found: list[str] = []
    for layer in layers:
        own = rows[rows["factor"] == layer]
        if len(own):
            far = own.iloc[int(np.argmax(np.abs(np.log(own["ratio"]))))]
            found += [str(far["cell"]), str(far["baseline_cell"])]
    return tuple(dict.fromkeys(found))


def _order(analysis: Analysis) -> Iterator[Finding]:
    """Say which single levels the order of the layers by variance rests on.

    A level without which another layer collapses proves nothing; those without which another
    layer comes first are told first.
    """
    left = analysis.left_out
    changed = left[left["changed"].eq(True) & ~left["collapses"].eq(True)]
    changed = changed.sort_values("first", ascending=False, kind="stable")
    if not len(changed):
        return
    told = [f"without {r.layer}={r.level}: {r.order}" for r in changed.head(SHOWN).itertuples()]
    more = len(changed) - SHOWN
    told += [f"and {more} more {'level' if more == 1 else 'levels'}"] if more > 0 else []
    yield Finding(
        "order",
        f"The order of the layers by how much their levels differ, {left['order'].iloc[0]}, rests "
        f"on single levels: {'; '.join(told)}.",
        layers=tuple(dict.fromkeys(changed["layer"])),
        cells=_having(analysis, changed),
        numbers={"levels": [f"{r.layer}={r.level}" for r in changed.itertuples()],
                 "first": int(changed["first"].sum())},
        overturn="What a default costs the best stack, which one bad level cannot move.",
    )  # fmt: skip


def _having(analysis: Analysis, levels: pd.DataFrame) -> tuple[str, ...]:
    """Return up to 20 cells that hold one of some single levels."""
    good = analysis.table.complete
    cells = analysis.table.cells[good]
    held = np.zeros(len(cells), dtype=bool)
    for r in levels.itertuples():
        held |= (cells[r.layer] == r.level).to_numpy(dtype=bool)
    return tuple(analysis.table.rows["cell"][good][held].astype(str).head(20))
