"""The first stacks of an exploration: every choice once, then what tells most about them."""

from __future__ import annotations

import math

import numpy as np

from dlas.core.sampler import StackSpace
from dlas.study import screening

MOST = 12
SHARE = 0.05
FEWEST = 4


def starting(candidates: StackSpace, seed: int) -> list[int]:
    """Return the stacks to begin with: at most 12, or 5 % of the space where that is less.

    A D-optimal design for single factors that begins with stacks which cover every choice (as
    many of them as there is room for).
    """
    n = min(len(candidates), max(FEWEST, min(MOST, math.ceil(SHARE * len(candidates)))))
    codes = np.asarray(candidates.codes)
    covering = screening.choices(codes, seed)[:n]
    return screening.d_optimal(codes, n, "singles", seed, first=covering)
