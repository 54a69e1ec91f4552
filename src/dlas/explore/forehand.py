"""What is known of stacks before any is measured, and bears on what they cost.

Logarithms of the bytes of the network's weights, of the width of its numbers and of the threads:
a roofline is a sum of these. They go into the trend of the model, so that what was learned on one
network helps with the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dlas.explore.anova import Floats
from dlas.run.plan.plan import Runnable
from dlas.run.plan.preview import WIDTH, weights_bytes


def known(cells: Sequence[Runnable]) -> Floats | None:
    """Return the figures of each cell, ``(n, figures)``; None where none differs.

    The bytes of a network count where every model tells them.
    """
    sizes: dict[str, int | None] = {}
    for cell in cells:
        if cell.prepared not in sizes:
            sizes[cell.prepared] = weights_bytes(cell.techniques)
    told = [size for size in sizes.values() if size]
    columns = [
        [math.log(WIDTH[cell.techniques.precision]) for cell in cells],
        [math.log(cell.threads) for cell in cells],
    ]
    if len(told) == len(sizes):
        columns.append([math.log(sizes[cell.prepared] or 1) for cell in cells])
    varying = [column for column in columns if len(set(column)) > 1]
    return np.array(varying).T if varying else None
