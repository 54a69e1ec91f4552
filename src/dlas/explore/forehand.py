"""What is known of stacks before any is measured, and bears on what they cost.

Logarithms of the bytes of the network's weights, of the width of its numbers and of the threads:
a roofline is a sum of these. They go into the trend of the model, so that what was learned on one
network helps with the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dlas.core.protocols import Techniques
from dlas.explore.anova import Floats
from dlas.run.plan.sizes import WIDTH, weights_bytes


def known(stacks: Sequence[tuple[str, Techniques]]) -> Floats | None:
    """Return the figures of each stack, ``(n, figures)``; None where none differs.

    The bytes of a network count where every model tells them.

    Args:
        stacks: what tells its network from others, and its techniques.
    """
    sizes: dict[str, int | None] = {}
    for network, techniques in stacks:
        if network not in sizes:
            sizes[network] = weights_bytes(techniques)
    told = [size for size in sizes.values() if size]
    columns = [
        [math.log(WIDTH[techniques.precision]) for _, techniques in stacks],
        [math.log(techniques.hardware.threads) for _, techniques in stacks],
    ]
    if len(told) == len(sizes):
        columns.append([math.log(sizes[network] or 1) for network, _ in stacks])
    varying = [column for column in columns if len(set(column)) > 1]
    return np.array(varying).T if varying else None
