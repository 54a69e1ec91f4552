"""Nulls: is a flip told where there is none?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from slices import Slices

from dlas.analyze.parts.flips import flips
from truths.asking import measured
from truths.counting import Row, counted, each, rate
from truths.grids import equal, mains, shrinking, world

NULLS = {
    "all equal": equal,
    "main effects only": mains,
    "gaps that shrink and never reverse": shrinking,
}


def reports_flip(rng: np.random.Generator, draws: int, kind: str) -> Iterator[bool]:
    """Say whether tables without any flip are said to have one."""
    for table, noise in measured(rng, world(rng, NULLS[kind](rng)), draws):
        yield len(flips(table, noise)) > 0


def run(n: int, seed: int = 1, slices: Slices | None = None) -> Iterator[Row]:
    """Measure the share of tables without a flip that are said to have one."""
    for k, name in enumerate(NULLS):
        ask = each(partial(reports_flip, kind=name))
        found = counted(n, (seed, 2, k), ask, slices, __file__)
        yield from rate(found, f"null: {name}, any flip", "at most 7 %")
