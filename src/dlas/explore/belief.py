"""What is believed of a metric: the Gaussian process, and a forest where that errs less.

Both value every measured stack as if it had been left out; the forest gets the weight that makes
the squared error least, and none unless that gains clearly. Where the process explains nearly all
no forest is grown.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from dlas.core.sampler import StackSpace
from dlas.explore.anova import Codes, Floats
from dlas.explore.forest import Forest, grow
from dlas.explore.surrogate import Beliefs, Surrogate, fit

FEWEST = 8
"""With fewer stacks measured no forest is grown."""
NEARLY_ALL = 0.95
"""The share of the variance explained from which no forest is grown."""
CLEAR_GAIN = 0.9
"""The forest counts where it brings the error left out below this share of the process's."""


def believe(candidates: StackSpace, at: Codes, values: Floats, seed: int = 0) -> Beliefs:
    """Return beliefs of all stacks, given the values of the stacks ``at``."""
    values = np.asarray(values, float)
    with threadpool_limits(1, "blas"):  # the matrices are small: threads wait for each other
        process = fit(candidates, at, values)
        beliefs = _honest(process, values)
        if len(at) < FEWEST or _explained(process, values) >= NEARLY_ALL:
            return beliefs
        forest = grow(candidates, at, values, seed)
    share = _share(process, forest, values)
    return _mixed(beliefs, forest.believed, share) if share > 0 else beliefs


def _honest(process: Surrogate, values: Floats) -> Beliefs:
    """Return beliefs as wide as the errors left out say, noise included.

    Noise is what triples do not explain, too: it belongs to a stack's value.
    """
    beliefs = process.predict()
    sd = np.sqrt(beliefs.sd**2 + process.shape.noise * process.unit**2)
    off = (process.left_out.mean - values) / process.left_out.sd
    return Beliefs(beliefs.mean, sd * max(1.0, float(np.sqrt(np.mean(off**2)))))


def _explained(process: Surrogate, values: Floats) -> float:
    spread = float(np.sum((values - values.mean()) ** 2))
    off = float(np.sum((process.left_out.mean - values) ** 2))
    return 1 - off / spread if spread > 0 else 1.0


def _share(process: Surrogate, forest: Forest, values: Floats) -> float:
    told = np.isfinite(forest.left_out)
    if told.sum() < FEWEST:
        return 0.0
    off = (process.left_out.mean - values)[told]
    other = (forest.left_out - values)[told]
    apart = off - other
    if not (apart @ apart > 0):
        return 0.0
    share = float(np.clip(off @ apart / (apart @ apart), 0.0, 1.0))
    mixed = (1 - share) * off + share * other
    return share if mixed @ mixed < CLEAR_GAIN**2 * (off @ off) else 0.0


def _mixed(one: Beliefs, other: Beliefs, share: float) -> Beliefs:
    mean = (1 - share) * one.mean + share * other.mean
    var = (1 - share) * (one.sd**2 + (one.mean - mean) ** 2)
    var = var + share * (other.sd**2 + (other.mean - mean) ** 2)
    return Beliefs(mean, np.sqrt(var))
