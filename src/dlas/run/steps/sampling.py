"""Which test images are looked at, and in which order: the same ones for every stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIMED_IMAGES = 64
"""Different real images that a measurement infers in turn."""
CHECKED_IMAGES = 128
"""Images on which outputs are compared with the lowering reference."""
ORDER_SEED = 20241


def order(count: int) -> NDArray[np.int64]:
    """Return the fixed permutation of a test split: its first n are the evaluated subset."""
    return np.random.default_rng(ORDER_SEED).permutation(count).astype(np.int64)


def fixed_count(batch: int) -> int:
    """Return how many images are stored for checking and timing: whole batches, at least 128."""
    wanted = max(CHECKED_IMAGES, TIMED_IMAGES * min(batch, 4))
    return -(-wanted // batch) * batch
