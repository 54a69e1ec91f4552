"""Coverage: how often do 95 % intervals hold the truth?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from slices import Slices

from dlas.analyze.parts.effects import speedups
from dlas.analyze.parts.interactions import interactions
from truths.asking import inside, measured, ratio_of_ratios
from truths.counting import Row, counted, each, rate, rates
from truths.crossing import crossing, overtaken
from truths.grids import cells_of, mixed, world


def covered(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield by kind of interval whether it holds the truth, table by table."""
    true = world(rng, mixed(rng))
    log = dict(zip(cells_of(true)["cell"], true.log[true.there], strict=True))
    pairs = None
    for table, noise in measured(rng, true, draws):
        one, contexts = speedups(table, noise)
        gaps = contexts["baseline_cell"].map(log) - contexts["cell"].map(log)
        yield "paired speed-up in one context", inside(gaps, contexts)
        grouped = gaps.groupby([contexts["factor"], contexts["level"]], sort=False)
        frame = one.set_index(["factor", "level"])
        mean, middle = grouped.mean()[frame.index], grouped.median()[frame.index]
        yield "main effect (geometric mean of paired speed-ups)", inside(mean, frame)
        ends = frame[["median_low", "median_high"]].set_axis(["low", "high"], axis=1)
        yield "median of paired speed-ups", inside(middle, ends)
        found = interactions(table, noise)
        if pairs is None:
            pairs = pd.Series([ratio_of_ratios(true, r) for r in found.itertuples()])
        yield "pair effect (ratio of ratios)", inside(pairs, found)


def covered_break_even(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Say whether the intervals of a true break-even hold it."""
    true, level = crossing(rng)
    for table, noise in measured(rng, true, draws):
        found = overtaken(table, noise)
        yield bool(found["low"] <= level <= found["high"])


def run(n: int, seed: int = 1, slices: Slices | None = None) -> Iterator[Row]:
    """Measure how often 95 % intervals hold the truth, over all intervals of all tables."""

    def ask(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, int, int]]:
        yield from ((name, int(held.sum()), len(held)) for name, held in covered(rng, draws))

    found = counted(n, (seed, 4), ask, slices, __file__)
    yield from rates(found, lambda name: (f"coverage: {name}", "at least 93 %"), "intervals")
    found = counted(n, (seed, 5), each(covered_break_even), slices, __file__)
    yield from rate(found, "coverage: break-even", "at least 93 %")
