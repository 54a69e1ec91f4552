"""Places where a test can kill dlas, to prove that nothing finished is lost.

``DLAS_FAILPOINT=name`` or ``name:3`` (the third time) makes :func:`reach` kill the whole process
group with SIGKILL at that place. Without the variable it does nothing.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_seen: Counter[str] = Counter()

NAMES = (
    "planned",
    "step-started",
    "step-done",
    "step-committed",
    "built",
    "evaluated",
    "fact-stored",
    "round-started",
    "measured",
    "round-stored",
    "cells-stored",
)
"""Every state transition of a run, in order."""

WITH_BUDGET = ("evicted",)
"""Those that only a run with a disk budget comes to."""


def reach(name: str) -> None:
    """Die here if the environment says so."""
    wanted = os.environ.get("DLAS_FAILPOINT")
    if not wanted:
        return
    place, _, count = wanted.partition(":")
    if place != name:
        return
    _seen[name] += 1
    if _seen[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
