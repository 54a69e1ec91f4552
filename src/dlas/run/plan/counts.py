"""How many measurements a plan comes to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable

from dlas.core.records import MeasureSettings
from dlas.run.plan.plan import Runnable


def stratum(plan: Runnable) -> tuple[str, int]:
    """Return the runtime and thread count within which noise is pooled."""
    return plan.stack.software[0].name, plan.threads


def control_count(strata: Collection[int], settings: MeasureSettings) -> int:
    """Return how many cells are measured twice (A/A), given the sizes of the strata.

    max(``min_controls``, ``controls`` x cells), and at least two for each stratum; none where both
    settings are zero.
    """
    if settings.controls == 0 and settings.min_controls == 0:
        return 0
    cells = sum(strata)
    wanted = max(settings.min_controls, math.ceil(settings.controls * cells))
    return max(min(wanted, cells), sum(min(2, size) for size in strata))


def measurement_count(cells: Iterable[Runnable], settings: MeasureSettings) -> int:
    """Return how many measurements a study makes at most, A/A controls included.

    But for what is measured once more because the machine was disturbed.
    """
    strata = Counter(stratum(cell) for cell in cells).values()
    return settings.rounds.max * (sum(strata) + control_count(strata, settings))
