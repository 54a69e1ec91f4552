"""Power: is what was planted found?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from slices import Slices

from dlas.analyze.parts.breakeven import CROSSES
from dlas.analyze.parts.flips import flips
from dlas.analyze.parts.interactions import interactions
from dlas.analyze.parts.pareto import ON, front
from truths.asking import measured
from truths.counting import Row, counted, each, rate
from truths.crossing import crossing, overtaken
from truths.grids import CHOICES, NAMES, SHAPE, TENTH, World, along, mains, world


def power_interaction(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """A ratio of ratios of 1.10 between two levels of two layers, in at least four contexts."""
    while True:
        i, j = sorted(rng.choice(len(SHAPE), 2, replace=False))
        a, b = rng.choice(SHAPE[i], 2, replace=False)
        m, n = rng.choice(SHAPE[j], 2, replace=False)
        log = mains(rng)
        bump = np.zeros((SHAPE[i], SHAPE[j]))
        bump[a, m] = TENTH * rng.choice([-1, 1])
        true = world(rng, log + along(bump, i, j))
        if four(true.there, i, j, (a, b), (m, n)) >= 4:
            break
    one, two = NAMES[i], NAMES[j]
    levels = [CHOICES[one][a], CHOICES[one][b]], [CHOICES[two][m], CHOICES[two][n]]
    for table, noise in measured(rng, true, draws):
        found = interactions(table, noise)
        pick = found[
            (found["layer"] == one)
            & (found["by"] == two)
            & found[["a", "b"]].isin(levels[0]).all(axis=1)
            & found[["m", "n"]].isin(levels[1]).all(axis=1)
        ]
        assert len(pick) == 1
        yield bool(pick["q"].iloc[0] < 0.05)


def four(
    there: np.ndarray, i: int, j: int, levels: tuple[int, int], others: tuple[int, int]
) -> int:
    """Count contexts in which all four cells exist."""
    moved = np.moveaxis(there, (i, j), (0, 1))
    return int(np.logical_and.reduce([moved[x, y] for x in levels for y in others]).sum())


def power_flip(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Choice a 10 % better than b at one level of another layer and 10 % worse at another."""
    while True:
        i, j = rng.choice(len(SHAPE), 2, replace=False)
        a, b = rng.choice(SHAPE[i], 2, replace=False)
        m, n = rng.choice(SHAPE[j], 2, replace=False)
        log = mains(rng)
        moved = np.moveaxis(log, (i, j), (0, 1))
        moved[a] = moved[b]
        moved[a, m] = moved[b, m] - TENTH
        moved[a, n] = moved[b, n] + TENTH
        true = world(rng, log)
        sides = np.moveaxis(true.there, (i, j), (0, 1))
        if min(int((sides[a, x] & sides[b, x]).sum()) for x in (m, n)) >= 4:
            break
    layer = NAMES[i]
    pair = {CHOICES[layer][a], CHOICES[layer][b]}
    for table, noise in measured(rng, true, draws):
        found = flips(table, noise)
        here = found[(found["layer"] == layer) & found["by"].str.contains(NAMES[j])]
        yield any({r.a, r.b} == pair for r in here.itertuples())


def power_break_even(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """A break-even between a 10 % loss and a 10 % gain, over at least four contexts."""
    true, _ = crossing(rng)
    for table, noise in measured(rng, true, draws):
        yield overtaken(table, noise)["verdict"] == CROSSES


def power_front(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Three cells each 10 % faster than every cell that is as accurate."""
    true = world(rng, mains(rng))
    chosen = rng.choice(np.flatnonzero(true.there), 3, replace=False)
    log, accuracy = true.log.copy(), true.accuracy.copy()
    accuracy.flat[chosen] = [0.95, 0.96, 0.97]
    log.flat[chosen] = log[true.there].min() + TENTH * np.array([-3.0, -2.0, -1.0])
    order = np.flatnonzero(true.there.ravel())
    names = [f"c{int(np.searchsorted(order, c)):04d}" for c in chosen]
    for table, noise in measured(rng, World(log, true.there, accuracy), draws):
        found = front(table, noise).set_index("cell")["front"]
        yield bool((found[names] == ON).all())


POWERS = {
    "interaction, ratio of ratios 1.10, four contexts or more": power_interaction,
    "flip, 10 % each way, four contexts or more each": power_flip,
    "break-even between +10 % and -10 %, four contexts or more": power_break_even,
    "three front members, 10 % apart": power_front,
}


def run(n: int, seed: int = 1, slices: Slices | None = None) -> Iterator[Row]:
    """Measure the share of tables in which what was planted is found."""
    for k, (name, ask) in enumerate(POWERS.items()):
        found = counted(n, (seed, 1, k), each(ask), slices, __file__)
        yield from rate(found, f"power: {name}", "at least 95 %")
