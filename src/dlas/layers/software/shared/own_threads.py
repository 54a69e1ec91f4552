"""How many threads of this process computed, where a runtime has nobody to ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

TASKS = Path("/proc/self/task")


def that_ran(run: Callable[[], object]) -> int | None:
    """Return how many threads used the processor while ``run`` was called; None: not told.

    The kernel counts the nanoseconds of each thread. A thread that waits in its sleep uses none;
    one of a team of OpenMP's is woken for its share of every loop, and counts.
    """
    before = _nanoseconds()
    run()
    after = _nanoseconds()
    used = sum(spent > before.get(task, 0) for task, spent in after.items())
    return used or None


def _nanoseconds() -> dict[int, int]:
    """Return the time that each thread has had on a processor; empty where nobody says so."""
    found = {}
    for task in TASKS.iterdir() if TASKS.is_dir() else ():
        try:
            found[int(task.name)] = time.clock_gettime_ns(_clock(int(task.name)))
        except OSError:
            continue  # it has ended meanwhile
    return found


def _clock(thread: int) -> int:
    """Return Linux's clock of one thread's processor time, as ``pthread_getcpuclockid`` makes it.

    The bits: the thread's number inverted, that it is a thread (4), and what is counted (2).
    """
    return (~thread << 3) | 4 | 2
