"""Which few of many stacks tell most: designs over stacks that the rules have left.

Stacks are rows of level numbers, ``(n, factors)``: designs choose among the rows that are there,
so that combinations which a rule refuses are never asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
RIDGE = 1e-3
MOST_EXCHANGES = 30
GAIN = 1e-9


def pairwise(codes: Codes, seed: int = 0) -> list[int]:
    """Return rows in which every pair of levels that occurs at all occurs at least once.

    Greedy: each row covers most of what was not covered (within ln(pairs) of the least possible).
    """
    return _covering(codes, 2, seed)


def choices(codes: Codes, seed: int = 0) -> list[int]:
    """Return rows in which every level that occurs at all occurs at least once."""
    return _covering(codes, 1, seed)


def _covering(codes: Codes, strength: int, seed: int) -> list[int]:
    codes = np.asarray(codes)
    strength = min(strength, codes.shape[1])
    tuples, count = _tuples(codes, strength)
    ties = np.random.default_rng(seed).random(len(codes))
    open_ = np.zeros(count, bool)
    open_[tuples] = True
    chosen: list[int] = []
    while open_.any():
        gains = open_[tuples].sum(1) + ties
        at = int(np.argmax(gains))
        chosen.append(at)
        open_[tuples[at]] = False
    return chosen


def _tuples(codes: Codes, strength: int) -> tuple[Codes, int]:
    """Return the number of each combination of levels that each row has."""
    levels = codes.max(0) + 1
    columns, start = [], 0
    for factors in itertools.combinations(range(codes.shape[1]), strength):
        sizes = [int(levels[f]) for f in factors]
        columns.append(start + np.ravel_multi_index([codes[:, f] for f in factors], sizes))
        start += int(np.prod(sizes))
    return np.stack(columns, axis=1), start


def terms(codes: Codes, effects: str) -> Floats:
    """Return the columns of a linear model: the mean, ``singles``, and with ``pairs`` those too.

    A factor with k levels has k - 1 columns that sum to zero over its levels.
    """
    levels = codes.max(0) + 1
    single = [_contrasts(int(n))[codes[:, f]] for f, n in enumerate(levels)]
    columns = [np.ones((len(codes), 1)), *single]
    if effects == "pairs":
        for one, other in itertools.combinations(single, 2):
            columns.append((one[:, :, None] * other[:, None, :]).reshape(len(codes), -1))
    return np.concatenate(columns, axis=1)


def _contrasts(n: int) -> Floats:
    """Return orthogonal columns over ``n`` levels, each with mean square 1 (Helmert)."""
    found = np.zeros((n, n - 1))
    for k in range(1, n):
        found[:k, k - 1], found[k, k - 1] = -1.0, float(k)
    return np.asarray(found * np.sqrt(n / np.maximum((found**2).sum(0), 1e-12)))


def d_optimal(
    codes: Codes, n: int, effects: str = "singles", seed: int = 0, first: Sequence[int] = ()
) -> list[int]:
    """Return ``n`` different rows that make the determinant of the information largest.

    Greedy, then exchanges (Fedorov 1972) of all but ``first``. A small ridge makes it well defined
    with fewer rows than terms.
    """
    model = terms(np.asarray(codes), effects)
    n = min(n, len(model))
    chosen = list(first)[:n]
    facts = RIDGE * np.eye(model.shape[1]) + model[chosen].T @ model[chosen]
    inverse = np.asarray(np.linalg.inv(facts), dtype=np.float64)
    ties = 1 + 1e-7 * np.random.default_rng(seed).random(len(model))
    while len(chosen) < n:
        worth = np.einsum("ij,ij->i", model @ inverse, model) * ties
        worth[chosen] = -1
        chosen.append(int(np.argmax(worth)))
        inverse = _updated(inverse, model[chosen[-1]], 1.0)
    return _exchanged(model, chosen, inverse, len(first))


def _updated(inverse: Floats, row: Floats, sign: float) -> Floats:
    """Return the inverse after a row was added (1) or taken away (-1)."""
    seen = inverse @ row
    return np.asarray(inverse - sign * np.outer(seen, seen) / (1 + sign * row @ seen))


def _exchanged(model: Floats, chosen: list[int], inverse: Floats, fixed: int) -> list[int]:
    for _ in range(MOST_EXCHANGES):
        best = (1 + GAIN, -1, -1)
        seen = model @ inverse
        worth = np.einsum("ij,ij->i", seen, model)
        for place in range(fixed, len(chosen)):
            old = chosen[place]
            cross = seen @ model[old]
            gain = (1 + worth) * (1 - worth[old]) + cross**2
            gain[chosen] = 0.0
            new = int(np.argmax(gain))
            best = max(best, (float(gain[new]), place, new))
        _, place, new = best
        if place < 0:
            break
        inverse = _updated(_updated(inverse, model[new], 1.0), model[chosen[place]], -1.0)
        chosen[place] = new
    return chosen


def neighbours(codes: Codes, of: int, changes: int) -> list[int]:
    """Return the rows that differ from row ``of`` in at most so many factors, nearest first."""
    apart = (codes != codes[of]).sum(1)
    order = np.argsort(apart, kind="stable")
    return [int(at) for at in order if apart[at] <= changes]
