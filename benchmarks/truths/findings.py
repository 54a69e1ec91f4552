"""Findings: is anything significant told of tables of equal cells?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from slices import Slices

from dlas.analyze.whole import analyze
from truths.asking import measured
from truths.counting import Row, counted, each, rate
from truths.grids import SHAPE, world
from truths.worlds import claims, mattering, untrue


def reports_anything(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Say whether a table of equals yields a significant finding, a layer that matters or a price.

    That more threads do not keep what they promise is true of these tables: it is not counted.
    """
    log = np.zeros(SHAPE)
    for _ in range(draws):
        true = world(rng, log)
        ((table, _),) = measured(rng, true, 1)
        found = analyze(table)
        dear = bool((found.price["low"] > 1).any())
        yield (
            dear
            or mattering(found, true)
            or any(
                claims(f) and (f.kind != "expectation" or untrue(f, log)) for f in found.findings
            )
        )


def run(n: int, seed: int = 1, slices: Slices | None = None) -> Iterator[Row]:
    """Measure the share of tables of equal cells with any significant finding."""
    found = counted(n, (seed, 3), each(reports_anything), slices, __file__, step=1)
    yield from rate(found, "null: all equal, any significant finding", "at most 5 %")
