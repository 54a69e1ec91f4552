"""The interval of a drop of accuracy that was seen on the same images: Tango's score interval."""

from __future__ import annotations

import numpy as np
from scipy import stats

from dlas.analyze.estimate.levels import Floats

HALVINGS = 50


def drop_interval(drop: Floats, flips: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Return the 95 % score interval of a paired difference of shares (Tango 1998).

    Images that got another label than from the baseline bound those that only one of the two got
    right. With no label changed in a hundred a drop of nearly four points is still possible: the
    interval never has the width nothing.

    Args:
        drop: share right of the baseline less that of the choice.
        flips: how many images got another label.
        n: how many images there are.
    """
    lost, won = (flips + drop * n) / 2, (flips - drop * n) / 2
    z = float(stats.norm.ppf(0.975))

    def score(at: Floats) -> Floats:
        b = -lost - won + (2 * n - lost + won) * at
        c = -won * at * (1 - at)
        shared = (np.sqrt(np.maximum(b**2 - 8 * n * c, 0.0)) - b) / (4 * n)
        var = n * (2 * shared + at * (1 - at))
        found: Floats = (lost - won - n * at) / np.sqrt(np.maximum(var, 1e-300))
        return found

    def end(inner: Floats, outer: float, sign: float) -> Floats:
        # The score falls as the difference rises: it passes z below the estimate, -z above it.
        near, far = inner.copy(), np.full_like(inner, outer)
        for _ in range(HALVINGS):
            middle = (near + far) / 2
            inside = sign * score(middle) < z
            near, far = np.where(inside, middle, near), np.where(inside, far, middle)
        return near

    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = end(drop, -1.0, 1.0), end(drop, 1.0, -1.0)
    unknown = ~(np.isfinite(drop) & np.isfinite(flips) & (n > 0))
    return np.where(unknown, drop, low), np.where(unknown, drop, high)
