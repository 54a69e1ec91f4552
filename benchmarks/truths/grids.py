"""Synthetic studies whose answers are known; nothing of ``dlas`` makes them.

Their rounds have heavy tails (Student's t, 4 degrees of freedom, 3 % standard deviation), round
effects of 2 %, noise that differs by runtime (2.2, 3.0 and 3.6 %), 40 % holes and a parameter that
exists for one technique only. The analysis knows none of this: it pools variances within runtime
and threads and takes t intervals.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

SPARSITY = (0.5, 0.7, 0.9)
CHOICES = {
    "model": ("m0", "m1", "m2"),
    "optimization": ("none", *(f"thin(sparsity={s})" for s in SPARSITY), "narrow"),
    "algorithm": ("a0", "a1"),
    "software": ("s0", "s1", "s2"),
    "hardware": ("cpu(threads=1)", "cpu(threads=2)", "cpu(threads=4)"),
}
SHAPE = tuple(len(v) for v in CHOICES.values())
NAMES = tuple(CHOICES)
NOISE = (0.022, 0.030, 0.036)
ROUND = 0.02
HOLES = 0.4
ROUNDS = 3
TENTH = float(np.log(1.10))


@dataclass(frozen=True)
class World:
    """A true grid of log latencies, which of its cells exist, and their true accuracy."""

    log: np.ndarray
    there: np.ndarray
    accuracy: np.ndarray


def holes(rng: np.random.Generator) -> np.ndarray:
    """Punch 40 % holes: one runtime lacks an algorithm, the rest at random."""
    there = np.ones(SHAPE, dtype=bool)
    there[:, :, rng.integers(2), rng.integers(3), :] = False
    left = np.flatnonzero(there)
    drop = round(HOLES * there.size) - int((~there).sum())
    there.flat[rng.choice(left, drop, replace=False)] = False
    return there


def along(effect: np.ndarray, *axes: int) -> np.ndarray:
    """Spread an effect of some layers over the whole grid."""
    shape = [1] * len(SHAPE)
    for axis, size in zip(axes, effect.shape, strict=True):
        shape[axis] = size
    return effect.transpose(np.argsort(axes)).reshape(shape)


def equal(rng: np.random.Generator) -> np.ndarray:
    """Draw a grid whose cells are all the same."""
    return np.zeros(SHAPE)


def mains(rng: np.random.Generator, spread: float = 0.4) -> np.ndarray:
    """Draw main effects for all layers."""
    log = np.zeros(SHAPE)
    for axis, size in enumerate(SHAPE):
        log = log + along(rng.normal(0, spread, size), axis)
    return log


def mixed(rng: np.random.Generator) -> np.ndarray:
    """Draw main effects and interactions of every pair of layers."""
    log = mains(rng)
    for i, j in itertools.combinations(range(len(SHAPE)), 2):
        log = log + along(rng.normal(0, 0.1, (SHAPE[i], SHAPE[j])), i, j)
    return log


def shrinking(rng: np.random.Generator) -> np.ndarray:
    """Let one layer's gaps shrink with another's choice, to almost nothing, never below zero.

    The other layer's own order goes the same way, so that nothing is reversed there either.
    """
    one, other = rng.permutation(len(SHAPE))[:2]
    log = np.zeros(SHAPE)
    for axis, size in enumerate(SHAPE):
        if axis not in (one, other):
            log = log + along(rng.normal(0, 0.4, size), axis)
    gap = rng.permutation(np.concatenate([[0.0], rng.uniform(0.05, 0.6, SHAPE[one] - 1)]))
    order = rng.permutation(SHAPE[other])
    keep = np.sort(rng.uniform(0.0, 1.0, SHAPE[other]))[order]
    keep[np.argmin(keep)] = 0.0
    own = np.sort(rng.uniform(0.0, 0.8, SHAPE[other]))[order]
    return log + along(np.outer(gap, keep), int(one), int(other)) + along(own, int(other))


def whole(log: np.ndarray) -> World:
    """Give a true grid all of its cells."""
    return World(log, np.ones(SHAPE, dtype=bool), np.full(SHAPE, 0.9))


def trapped(rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Let one optimization pay on one runtime alone, by far, and cost anywhere else.

    That runtime costs with every other optimization: whoever moves one of the two layers at a
    time stays away from their best. Returns the grid and the runtime.
    """
    log = mains(rng, 0.1)
    chosen, runtime = int(rng.integers(1, SHAPE[1])), int(rng.integers(SHAPE[3]))
    bump = np.zeros((SHAPE[1], SHAPE[3]))
    bump[chosen] += 0.8
    bump[:, runtime] += 0.8
    bump[chosen, runtime] = -0.8
    return log + along(bump, 1, 3), runtime


def world(rng: np.random.Generator, log: np.ndarray) -> World:
    """Put holes into a true grid and give its cells accuracies."""
    accuracy = np.round(0.9 - 0.05 * rng.random(SHAPE), 4)
    return World(log, holes(rng), accuracy)


def cells_of(true: World) -> pd.DataFrame:
    """Return the cells of a world, as a study writes them, without their latency."""
    place = np.argwhere(true.there)
    n = len(place)
    cells = pd.DataFrame(
        {x: np.array(CHOICES[x], object)[place[:, i]] for i, x in enumerate(NAMES)}
    )
    names = [f"c{i:04d}" for i in range(n)]
    fixed = {"dataset": "d", "host": "h", "status": "complete", "reason": ""}
    cells = cells.assign(cell=names, accuracy=true.accuracy[true.there], **fixed)
    cells["optimization.sparsity"] = np.array([np.nan, *SPARSITY, np.nan])[place[:, 1]]
    cells["hardware.threads"] = np.array([1, 2, 4])[place[:, 4]]
    return cells


def draw(rng: np.random.Generator, true: World) -> np.ndarray:
    """Measure every cell of a world in every round: log latencies by cell and round."""
    log = true.log[true.there][:, None]
    sd = np.array(NOISE)[np.argwhere(true.there)[:, 3]][:, None]
    # Student's t with 4 degrees of freedom has variance 2.
    heavy = rng.standard_t(4, size=(len(log), ROUNDS)) / np.sqrt(2.0)
    common = rng.normal(0, ROUND, ROUNDS)[None, :]
    return np.asarray(log + common + sd * heavy)


def rounds_of(cells: pd.DataFrame, seen: np.ndarray) -> pd.DataFrame:
    """Return measured rounds as a study writes them."""
    n = len(cells)
    return pd.DataFrame(
        {
            "cell": np.repeat(cells["cell"].to_numpy(), ROUNDS),
            "control": 0,
            "round": np.tile(np.arange(ROUNDS), n),
            "host": "h",
            "session": "s",
            "latency_ms": np.exp(seen).ravel(),
        }
    )


def index(layer: str, level: str) -> int:
    return CHOICES[layer].index(level)
