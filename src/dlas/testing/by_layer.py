"""The checks of each layer, in the order in which they are best read."""

from __future__ import annotations

from collections.abc import Mapping

from dlas.testing.algorithm import ALGORITHM
from dlas.testing.check import Judge
from dlas.testing.dataset import DATASET
from dlas.testing.every import EVERY
from dlas.testing.hardware import HARDWARE
from dlas.testing.model import MODEL
from dlas.testing.optimization import OPTIMIZATION
from dlas.testing.software import SOFTWARE

CHECKS: Mapping[str, tuple[Judge, ...]] = {
    "dataset": (*EVERY, *DATASET),
    "model": (*EVERY, *MODEL),
    "optimization": (*EVERY, *OPTIMIZATION),
    "algorithm": (*EVERY, *ALGORITHM),
    "software": (*EVERY, *SOFTWARE),
    "hardware": (*EVERY, *HARDWARE),
}
