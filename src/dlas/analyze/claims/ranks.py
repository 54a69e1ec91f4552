"""Rank correlation of two columns over models, or the levels of any layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import cast

import numpy as np
from scipy import stats

from dlas.analyze.claims.amounts import Answered
from dlas.analyze.claims.gauges import Basis, Gauge
from dlas.analyze.claims.hypothesis import Assertion, Claim
from dlas.analyze.claims.pairs import (
    CannotTell,
    Key,
    chosen,
    fixed_of,
    keys_of,
    placed,
    places_of,
    rest_of,
)
from dlas.analyze.claims.terms import gauge_of
from dlas.analyze.estimate.levels import EMPTY, Floats

LEAST = 5
"""With fewer models nothing is said of an order."""
DRAWS = 2_000
NONE = 0.5
"""*No correlation*: the interval lies within so much of zero."""


def answers(
    evidence: Basis, claim: Claim, test: Assertion
) -> tuple[list[Answered], list[dict[str, str]]]:
    """Answer a test of a correlation, in every context or over all cells.

    Raises:
        CannotTell: fewer than five models have both columns.
    """
    columns = test.quantity.columns
    x, y = (gauge_of(evidence, columns[name]) for name in ("x", "y"))
    if why := evidence.unknown(columns["over"]):
        raise CannotTell(why)
    over = evidence.named(columns["over"])
    if not evidence.layer(over):
        raise CannotTell(f"{columns['over']} is no layer, nor part of one")
    rows = chosen(evidence, y, claim.where)
    rows = rows[np.isfinite(x.value[rows])]
    contexts = test.contexts or ()
    names = places_of(evidence, contexts, [evidence.layer(over)]) if contexts else []
    if not contexts and len(evidence.table.hosts) > 1:
        names = ["host"]
    by_place: dict[Key, list[int]] = {}
    for row, key in keys_of(evidence, names, rows.tolist()).items():
        by_place.setdefault(key, []).append(row)
    made, lonely, most = [], [], 0
    for key, some in by_place.items():
        units = _units(evidence, over, some)
        most = max(most, len(units))
        if len(units) < LEAST:
            lonely.append(placed(names, key))
            continue
        made.append(_answer((x, y), units, test, placed(names, key)))
    if not made:
        raise CannotTell(
            f"a correlation over {columns['over']} needs {LEAST} different ones, measured with "
            f"all else equal, and there are {most}"
        )
    return made, lonely


def _units(evidence: Basis, over: str, rows: Sequence[int]) -> dict[str, list[int]]:
    """Return the rows of each level in the places that all levels share; none share one: none."""
    layer = evidence.layer(over)
    level, where = (keys_of(evidence, x, rows) for x in ([over], rest_of(evidence, [layer])))
    own = fixed_of(evidence, layer, [over], np.array(rows, dtype=np.int64), rows)
    found: dict[str, dict[Key, list[int]]] = {}
    for r in rows:
        if level[r][0] != EMPTY:
            found.setdefault(level[r][0], {}).setdefault((*where[r], *own[r]), []).append(r)
    shared = set.intersection(*(set(f) for f in found.values())) if found else set()
    return {
        name: [r for place, some in places.items() if place in shared for r in some]
        for name, places in found.items()
        if shared
    }


def _answer(
    gauges: tuple[Gauge, Gauge], units: Mapping[str, list[int]], test: Assertion,
    place: Mapping[str, str],
) -> Answered:  # fmt: skip
    x, y = (np.array([g.value[rows].mean() for rows in units.values()]) for g in gauges)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Answered(place, 1.0, 1.0, told="one of the two is the same for all")
    r = _spearman(x, y)
    drawn = _drawn(x, y)
    low, high = (float(v) for v in np.quantile(drawn, [0.025, 0.975]))
    true, false = _compared(r, x, y, drawn, test.sign, cast(float, test.bound))
    rows = tuple(r for some in units.values() for r in some)
    return Answered(place, true, false, r, low, high, rows, (), f"over {len(units)} levels")


def _spearman(x: Floats, y: Floats) -> float:
    return float(stats.spearmanr(x, y).statistic)


def _drawn(x: Floats, y: Floats) -> Floats:
    """Draw levels with replacement; a draw of one value only has no order and is drawn again."""
    rng = np.random.default_rng(0)
    out: list[float] = []
    while len(out) < DRAWS:
        some = rng.integers(len(x), size=(DRAWS, len(x)))
        a, b = stats.rankdata(x[some], axis=1), stats.rankdata(y[some], axis=1)
        a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
        size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
        good = size > 0
        out += ((a * b).sum(axis=1)[good] / size[good]).tolist()
    return np.array(out[:DRAWS])


def _compared(
    r: float, x: Floats, y: Floats, drawn: Floats, sign: str, bound: float
) -> tuple[float, float]:
    """Return the p values of "it is so" and "it is not so"."""

    def above(at: float) -> float:
        return max(_share(drawn <= at), _normal(r, at, len(x)), _chance(x, y, at))

    def below(at: float) -> float:
        return max(_share(drawn >= at), _normal(-r, -at, len(x)), _chance(x, -y, -at))

    if sign in (">", ">="):
        return above(bound), below(bound)
    if sign in ("<", "<="):
        return below(bound), above(bound)
    inside = max(above(bound - NONE), below(bound + NONE))
    outside = min(above(bound + NONE), below(bound - NONE))
    return (inside, outside) if sign == "==" else (outside, inside)


def _share(hit: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    return (int(hit.sum()) + 1) / (len(hit) + 1)


def _normal(r: float, at: float, n: int) -> float:
    """Return the p value of "above" by Fisher's z for ranks (Bonett and Wright 2000).

    A bootstrap over few models is too sure; the larger p value counts.
    """
    edge = 1 - 1e-9
    one, two = (math.atanh(min(max(v, -edge), edge)) for v in (r, at))
    return float(stats.norm.sf((one - two) / math.sqrt((1 + r * r / 2) / (n - 3))))


def _chance(x: Floats, y: Floats, at: float) -> float:
    """Return how often an order by chance is as good, where chance is among what is excluded."""
    if at < 0:
        return 0.0
    n, seen = len(x), _spearman(x, y)
    if n <= 7:
        orders = [_spearman(x, np.array(p)) for p in permutations(y.tolist())]
    else:
        rng = np.random.default_rng(0)
        orders = [_spearman(x, rng.permutation(y)) for _ in range(DRAWS)]
    return float(np.mean(np.array(orders) >= seen - 1e-12))
