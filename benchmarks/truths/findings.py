"""Findings: is anything significant told of tables of equal cells?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from slices import Slices

from dlas.analyze.whole import analyze
from truths.asking import measured
from truths.counting import Row, counted, each, rate
from truths.grids import SHAPE, world


def reports_anything(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Say whether a table of equal cells yields any significant finding.

    That more threads do not keep what they promise is true of these tables: it is not counted.
    """
    for _ in range(draws):
        ((table, _),) = measured(rng, world(rng, np.zeros(SHAPE)), 1)
        found = analyze(table).findings
        yield any(f.certainty == "significant" and f.kind != "expectation" for f in found)


def run(n: int, seed: int = 1, slices: Slices | None = None) -> Iterator[Row]:
    """Measure the share of tables of equal cells with any significant finding."""
    found = counted(n, (seed, 3), each(reports_anything), slices, __file__, step=1)
    yield from rate(found, "null: all equal, any significant finding", "at most 7 %")
