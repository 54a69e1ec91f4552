"""Where the two latencies decide differently: undisturbed by neighbours, and as seen.

Stacks are compared undisturbed. A runtime whose own jitter costs it (a pool of threads, a
collector of garbage) would be whitewashed by that alone, so the page says where it matters.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dlas.analyze.parts.within import by_cell
from dlas.report.material import METRIC, Material
from dlas.report.pack import Part
from dlas.report.parts import Places

ENDS = {"quiet": ("quiet_low_ms", "quiet_high_ms"), "seen": ("latency_low_ms", "latency_high_ms")}


def apart(material: Material, where: Places) -> Part | None:
    """Return where the latency as seen chooses differently; None where only one is known.

    ``best``: the row of the cell that would be taken as seen, that of the best cell unless another
    is surely better, None where the goals are no question of latency. ``contexts``: how often a
    layer's choices meet with everything else equal; ``rows``: those of them whose best choice
    differs, with the rows of both choices, by how much the one that is best as seen is
    slower undisturbed (``quiet_ratio``), by how much the other is slower as seen (``seen_ratio``),
    and whether both are beyond their intervals (``sure``).
    """
    if material.analysis is None or material.metric != METRIC or not material.folders:
        return None
    done = material.cells.iloc[: material.analyzed]
    done = done[(done["status"] == "complete") & done["quiet_ms"].notna()]
    groups = [group for layer in material.layers for group in _contexts(material, done, layer)]
    rows = [row for layer, group in groups for row in _differing(layer, group)]
    return {"best": _best(material, done, where), "contexts": len(groups), "rows": rows}


def _best(material: Material, done: pd.DataFrame, where: Places) -> int | None:
    """Return the row of the best cell as seen, under the same goals."""
    assert material.analysis is not None
    found = material.analysis.best
    if found.metric != METRIC or not found.cell:
        return None
    taken = where[found.cell, found.host]
    fails, opens = by_cell(material.analysis.table, found.verdicts)
    usable = done[(done["host"].fillna("") == found.host) & ~fails[done.index]]
    surely = usable[~opens[usable.index]]
    first = int((surely if len(surely) else usable)["latency_ms"].idxmin())
    return first if _below(done.loc[first], done.loc[taken], "seen") else taken


def _contexts(
    material: Material, done: pd.DataFrame, layer: str
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the cells that differ in one layer alone, for every place where there are several."""
    others = [x for x in (*material.layers, "host") if x != layer]
    for _, group in done.groupby(others, sort=False, dropna=False):
        if group[layer].nunique() > 1:
            yield layer, group


def _differing(layer: str, group: pd.DataFrame) -> Iterator[Part]:
    quiet, seen = int(group["quiet_ms"].idxmin()), int(group["latency_ms"].idxmin())
    if quiet == seen:
        return
    one, other = group.loc[quiet], group.loc[seen]
    yield {
        "layer": layer,
        "quiet": quiet,
        "seen": seen,
        "quiet_ratio": float(other["quiet_ms"] / one["quiet_ms"]),
        "seen_ratio": float(one["latency_ms"] / other["latency_ms"]),
        "sure": _below(one, other, "quiet") and _below(other, one, "seen"),
    }


def _below(one: pd.Series, other: pd.Series, kind: str) -> bool:
    """Say whether the interval of one cell ends before that of another begins."""
    low, high = ENDS[kind]
    return bool(one[high] < other[low])
