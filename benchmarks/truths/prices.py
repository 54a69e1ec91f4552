"""Prices: is one told where layers do not mind each other, and told where they do?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from slices import Slices

from dlas.analyze.parts.price import price
from truths.asking import measured
from truths.counting import Row, counted, each, rate
from truths.grids import CHOICES, mains, trapped, whole


def additive_price(rng: np.random.Generator, draws: int, spread: float) -> Iterator[bool]:
    """Say whether tuning layer by layer is said to cost where no layer minds another.

    By the number that is told first: by model, the median over starts.
    """
    for table, noise in measured(rng, whole(mains(rng, spread)), draws):
        found, _ = price(table, noise)
        yield bool((found["low"] > 1).any())


def trapped_price(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Say whether a trap is told from every start outside it, with the layers to blame."""
    log, runtime = trapped(rng)
    for table, noise in measured(rng, whole(log), draws):
        _, found = price(table, noise)
        caught = found[found["start"] != CHOICES["software"][runtime]]
        yield bool(
            len(caught)
            and (caught["low"] > 1).all()
            and caught["blame"].str.contains("optimization and software", regex=False).all()
        )


PRICES = {"layers of all sizes": 0.4, "layers that matter little": 0.1, "all equal": 0.0}


def run(n: int, seed: int = 1, slices: Slices | None = None) -> Iterator[Row]:
    """Measure how often a price is told where there is none, and where there is one."""
    for k, (name, spread) in enumerate(PRICES.items()):
        ask = each(partial(additive_price, spread=spread))
        found = counted(n, (seed, 16, k), ask, slices, __file__)
        yield from rate(found, f"price: {name}, additive, interval above 1", "at most 5 %")
    found = counted(n, (seed, 17), each(trapped_price), slices, __file__)
    yield from rate(found, "price: a trap of two layers, told and blamed", "at least 95 %")
