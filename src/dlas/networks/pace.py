"""How far training has come, by steps or by the clock, and what follows from it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TICKS = 10_000
"""Parts of the time by the clock; a rate changes no more often."""
SPANS = 5
"""Sides that a growing image has: the first, three between, and the whole in the last fifth."""
MULTIPLE = 4
"""Sides between are whole multiples of it, so that strides halve them."""


@dataclass(frozen=True)
class Pace:
    """The place in training: after so many of all steps, or after so many of all minutes.

    By the clock the schedule is stretched to the time there is, whatever a step costs (Li, Yumer,
    Ramanan: Budgeted Training, ICLR 2020): the same seed then gives other weights.
    """

    steps: int
    """Of all epochs; of one epoch where the clock decides."""
    minutes: float | None = None
    began: float = field(default_factory=time.monotonic)

    def share(self, step: int) -> float:
        """Return which share of training is over before a step, 0 to 1."""
        if self.minutes is None:
            return step / self.steps
        return min(1.0, (time.monotonic() - self.began) / max(60 * self.minutes, 1e-9))

    def over(self, step: int) -> bool:
        """Say whether no step is left; one is always made."""
        return step > 0 and self.share(step) >= 1

    def rate(self, step: int) -> float:
        """Return the share of the highest learning rate: a linear rise, then a half cosine.

        The rise takes a tenth (one cycle: Smith and Topin, 2018; with a cosine as fast.ai has it).
        """
        at, of = (step, self.steps)
        if self.minutes is not None:
            at, of = int(TICKS * self.share(step)), TICKS
        rise = max(1, of // 10)
        if at < rise:
            return (at + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (at - rise) / max(1, of - rise)))

    def expected(self, step: int) -> int:
        """Return how many steps there will be, as far as it is known after one."""
        share = self.share(step)
        return self.steps if self.minutes is None else max(step, round(step / max(share, 1e-9)))

    def shape(self, step: int, first: int | None, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the images at a step: from a height of ``first`` on.

        None: always the whole.
        """
        span = min(SPANS - 1, int(SPANS * self.share(step)))
        if first is None or span == SPANS - 1:
            return height, width
        grown = first + (height - first) * span / (SPANS - 1)
        side = min(height, max(first, MULTIPLE * round(grown / MULTIPLE)))
        return side, max(1, round(width * side / height))


def sized(images: Tensor, height: int, width: int) -> Tensor:
    """Return a batch of other height and width, averaged where it shrinks (bilinear)."""
    import torch

    if images.shape[2:] == (height, width):
        return images
    return torch.nn.functional.interpolate(
        images, (height, width), mode="bilinear", antialias=True, align_corners=False
    )
