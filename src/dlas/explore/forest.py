"""The other candidate for the model: a forest, for spaces with cliffs rather than products.

Trees are grown on drawn samples, so that each measured stack is also valued by the trees that
never saw it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlas.core.sampler import StackSpace
from dlas.explore.anova import AnovaKernel, Codes, Floats
from dlas.explore.surrogate import Beliefs

TREES = 50


@dataclass(frozen=True)
class Forest:
    """What a forest believes of all stacks, and of each measured one left out."""

    believed: Beliefs
    left_out: Floats
    """NaN where every tree saw the stack."""


def grow(candidates: StackSpace, at: Codes, values: Floats, seed: int) -> Forest:
    """Grow a forest on the values of the stacks ``at``."""
    from sklearn.ensemble import ExtraTreesRegressor

    features = _features(candidates).astype(np.float32)
    forest = ExtraTreesRegressor(TREES, bootstrap=True, random_state=seed)
    forest.fit(features[at], values)
    # The trees themselves: what stands around them checks its arguments for most of the time.
    each = np.stack([tree.tree_.predict(features)[:, 0] for tree in forest.estimators_])
    left_out = np.full((TREES, len(at)), np.nan)
    for k, drawn in enumerate(forest.estimators_samples_):
        outside = np.setdiff1d(np.arange(len(at)), drawn)
        left_out[k, outside] = each[k, at][outside]
    seen = np.isfinite(left_out)
    sums = np.where(seen, left_out, 0.0).sum(0)
    means = np.where(seen.any(0), sums / np.maximum(seen.sum(0), 1), np.nan)
    return Forest(Beliefs(each.mean(0), each.std(0)), means)


def _features(candidates: StackSpace) -> Floats:
    """Return ordered factors by position, unordered ones a column a level."""
    grid = AnovaKernel(candidates.axes, 1)
    spread = grid.spread(candidates.codes)
    parts: list[Floats] = []
    for i, axis in enumerate(candidates.axes):
        columns = spread[:, grid.starts[i] : grid.starts[i + 1]]
        if axis.positions is not None:
            columns = columns @ np.asarray(axis.positions, float)[:, None]
        parts.append(columns)
    if candidates.known is not None:
        parts.append(candidates.known)
    return np.concatenate(parts, axis=1)
