"""Images that differ from one another by more than noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlas.core.protocols import Array


def patches(count: int, channels: int, height: int, width: int, seed: int = 0) -> Array:
    """Return images of 4 x 4 random patches under some noise, float32 ``(count, c, h, w)``."""
    import numpy as np

    random = np.random.default_rng(seed)
    coarse = random.standard_normal((count, channels, 4, 4))
    fine = np.kron(coarse, np.ones((1, 1, -(-height // 4), -(-width // 4))))
    noise = random.standard_normal((count, channels, height, width))
    return (fine[:, :, :height, :width] + 0.3 * noise).astype(np.float32)
