"""Whether one candidate is faster than another beyond noise, by readings taken in turn."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

BEYOND = 0.99
"""A winner's time must be below this share of the fixed schedule's, with `CONFIDENCE`."""
CONFIDENCE = 0.98

Readings = tuple[list[float], list[float]]
"""Seconds of a candidate, a reading a round: from beyond the caches, and from the caches."""


def gain_of(first: Readings, second: Readings) -> float:
    """Return how much faster the second is than the first, 1 if not beyond noise.

    Both states of the caches count together, and it must be slower in neither. Fewer than six
    readings are never beyond noise.
    """
    if any(statistics.median(_ratios(a, b)) > 1 for a, b in zip(first, second, strict=True)):
        return 1.0
    ratios = sorted(together(first, second))
    rank = bound_rank(len(ratios))
    if rank is None or ratios[rank - 1] >= BEYOND:
        return 1.0
    return 1 / statistics.median(ratios)


def bound_rank(count: int) -> int | None:
    """Return which of `count` sorted readings bounds their median from above, counted from 1.

    The k-th is below the true median only if k or more readings are, each with probability 1/2. It
    is the smallest k for which that does not happen with `CONFIDENCE`; None: none of so few does.
    """
    covered = 0.0
    for rank in range(1, count + 1):
        covered += math.comb(count, rank - 1) / 2**count
        if covered >= CONFIDENCE:
            return rank
    return None


def by_candidate(told: Mapping[str, Any]) -> list[Readings]:
    """Return the readings of each candidate from what a child told of all."""
    return list(zip(told["seconds"], told["warm"], strict=True))


def together(first: Readings, second: Readings) -> list[float]:
    """Return the second's time in units of the first's, each round the mean of both states."""
    states = (_ratios(a, b) for a, b in zip(first, second, strict=True))
    return [math.sqrt(cold * warm) for cold, warm in zip(*states, strict=True)]


def _ratios(first: list[float], second: list[float]) -> list[float]:
    return [b / a for a, b in zip(first, second, strict=True)]
