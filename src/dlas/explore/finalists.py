"""The stacks that may be on the front: measured further, their last word from rounds since then.

A stack is chosen for its first round, so that round flatters it. What is said of the finalists in
the end rests on the rounds after it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlas.core.sampler import Told
from dlas.explore.sought import Sought
from dlas.store.results import ResultStore, RoundRow
from dlas.tables.fitted import round_ms
from dlas.tables.latency import median_variance
from dlas.tables.read import complete

FLOOR = 0.05
"""Ratio less one below which nothing counts, as long as no A/A controls have told."""


def contenders(told: Sequence[Told], sought: Sought, floor: float = FLOOR) -> list[Told]:
    """Return the stacks that no other is better than by more than the floor, in every metric.

    Only those that meet the limits; where none does, none.
    """
    good = [each for each in told if each.values is not None and sought.meets(each.values)]
    if not good:
        return []
    points = np.array([[_cost(each, c, s) for c, s in sought.metrics] for each in good])
    margin = np.array([
        math.log1p(floor) if np.isfinite(points[:, k]).all() and _timed(c) else 0.0
        for k, (c, _) in enumerate(sought.metrics)
    ])  # fmt: skip
    kept = []
    for point, each in zip(points, good, strict=True):
        worse = np.all(points + margin <= point, axis=1) & np.any(points + margin < point, axis=1)
        if not worse.any():
            kept.append(each)
    return kept


def _cost(each: Told, column: str, sign: float) -> float:
    assert each.values is not None
    value = each.values[column]
    return sign * (math.log(value) if _timed(column) and value > 0 else value)


def _timed(column: str) -> bool:
    return column.endswith(("_ms", "_s", "_mj"))


@dataclass(frozen=True)
class Final:
    """A finalist's latency from the rounds after it was chosen; None: there were none."""

    cell: str
    values: Mapping[str, float]
    """What was told of it when it was chosen."""
    latency_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    rounds: int = 0


def finals(
    results: ResultStore, host: str, told: Sequence[tuple[str, Mapping[str, float]]]
) -> list[Final]:
    """Return what is said of finalists in the end; the noise is pooled over them."""
    logs = {cell: _later(results, cell, host) for cell, _ in told}
    free = sum(max(len(own) - 1, 0) for own in logs.values())
    squares = sum(
        sum((x - statistics.fmean(own)) ** 2 for x in own) for own in logs.values() if own
    )
    return [_final(cell, values, logs[cell], squares, free) for cell, values in told]


def _final(
    cell: str, values: Mapping[str, float], logs: list[float], squares: float, free: int
) -> Final:
    if not logs:
        return Final(cell, values)
    middle = statistics.median(logs)
    if not free:
        return Final(cell, values, math.exp(middle), rounds=len(logs))
    from scipy import stats

    half = float(stats.t.ppf(0.975, free)) * math.sqrt(squares / free * median_variance(len(logs)))
    low, high = math.exp(middle - half), math.exp(middle + half)
    return Final(cell, values, math.exp(middle), low, high, len(logs))


def _later(results: ResultStore, cell: str, host: str) -> list[float]:
    rows = complete(results.rows(RoundRow, cell=cell, host=host))
    return [math.log(round_ms(row)) for row in rows if row.round > 0]
