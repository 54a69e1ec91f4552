"""What a stack is expected to add to the front: exact, in closed form, for independent normals.

All values are to be minimized. The region that a front does not dominate, below a reference point,
is cut into boxes; the expected volume that a stack adds is a sum over boxes of products over
metrics of ``E[(upper - max(value, lower))+]`` (Yang et al. 2019, "Efficient computation of
expected hypervolume improvement").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from dlas.explore.anova import Floats
from dlas.explore.surrogate import Beliefs

ROOT_TWO_PI = float(np.sqrt(2 * np.pi))


def front(points: Floats) -> NDArray[np.int64]:
    """Return the rows of ``(n, metrics)`` that no other row dominates; of equals the first."""
    if points.shape[1] == 1:
        return np.array([int(np.argmin(points[:, 0]))], dtype=np.int64)
    order = np.lexsort(points.T[::-1])
    kept: list[int] = []
    for row in order:
        rest = points[kept]
        if not len(rest) or not np.any(np.all(rest <= points[row], axis=1)):
            kept.append(int(row))
    return np.array(sorted(kept), dtype=np.int64)


@dataclass(frozen=True)
class Boxes:
    """Disjoint boxes, ``(n, metrics)`` each end; a lower end may be minus infinity."""

    low: Floats
    high: Floats


def free(points: Floats, reference: Floats) -> Boxes:
    """Return the region below a reference point that no point dominates, cut into boxes."""
    inside = points[np.all(points < reference, axis=1)]
    inside = inside[front(inside)] if len(inside) else inside
    low, high = _free(inside, reference)
    return Boxes(low, high)


def _free(points: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Cut along the last metric: between two neighbours there only those below count."""
    if not len(points):
        return np.full((1, len(reference)), -np.inf), reference[None, :].copy()
    if len(reference) == 1:
        return np.array([[-np.inf]]), np.array([[points[:, 0].min()]])
    heights = np.unique(points[:, -1])
    lows, highs = [], []
    for low, high in zip([-np.inf, *heights], [*heights, reference[-1]], strict=True):
        below = points[points[:, -1] <= low][:, :-1]
        below = below[front(below)] if len(below) else below
        a, b = _free(below, reference[:-1])
        lows.append(np.column_stack([a, np.full(len(a), low)]))
        highs.append(np.column_stack([b, np.full(len(b), high)]))
    return np.concatenate(lows), np.concatenate(highs)


def volume(points: Floats, reference: Floats) -> float:
    """Return the hypervolume: what points dominate below a reference point."""
    inside = points[np.all(points < reference, axis=1)]
    if not len(inside):
        return 0.0
    floor = inside.min(0)
    boxes = free(inside, reference)
    open_volume = np.prod(np.clip(boxes.high - np.maximum(boxes.low, floor), 0, None), axis=1)
    return float(np.prod(reference - floor) - open_volume.sum())


def expected(beliefs: list[Beliefs], boxes: Boxes) -> Floats:
    """Return the volume that each stack is expected to add, ``beliefs`` one a metric."""
    total = np.ones((len(beliefs[0].mean), len(boxes.low)))
    for metric, belief in enumerate(beliefs):
        ends = [_below(belief, side[:, metric]) for side in (boxes.high, boxes.low)]
        total *= np.clip(ends[0] - ends[1], 0, None)
    return np.asarray(total.sum(1))


def _below(belief: Beliefs, ends: Floats) -> Floats:
    """Return ``E[(end - value)+]`` of every stack and every end."""
    sd = np.maximum(belief.sd, 1e-12)[:, None]
    finite = np.where(np.isfinite(ends), ends, 0.0)[None, :]
    z = (finite - belief.mean[:, None]) / sd
    found = sd * (z * ndtr(z) + np.exp(-0.5 * z**2) / ROOT_TWO_PI)
    return np.where(np.isfinite(ends)[None, :], found, 0.0)


def chance(belief: Beliefs, most: float) -> Floats:
    """Return the probability that each stack's value is at most ``most``."""
    return np.asarray(ndtr((most - belief.mean) / np.maximum(belief.sd, 1e-12)))


def inside(beliefs: list[Beliefs], boxes: Boxes) -> Floats:
    """Return the probability that each stack's values lie in one of the boxes."""
    total = np.ones((len(beliefs[0].mean), len(boxes.low)))
    for metric, belief in enumerate(beliefs):
        sd = np.maximum(belief.sd, 1e-12)[:, None]
        ends = [
            ndtr((side[:, metric][None, :] - belief.mean[:, None]) / sd)
            for side in (boxes.high, boxes.low)
        ]
        total *= ends[0] - ends[1]
    return np.asarray(np.clip(total.sum(1), 0.0, 1.0))
