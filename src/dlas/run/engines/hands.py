"""Who does the steps that an engine finds due: the threads of this process, or machines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from dlas.run.measure.host import AVAILABLE
from dlas.run.plan.plan import Step
from dlas.store.step_record import StepRecord

Needs = Mapping[str, StepRecord]
"""What a step is given, by the name of the argument."""
Made = tuple[StepRecord, bool]
"""What became of a step, and whether it was there already."""


def default_workers() -> int:
    """Return how many steps run side by side: a core each, at most four."""
    return min(4, len(AVAILABLE))


class Chore(Protocol):
    """One step that is due, with all that it needs at hand."""

    @property
    def step(self) -> Step:
        """The step."""

    @property
    def needs(self) -> Needs:
        """What it is given."""

    @property
    def files(self) -> bool:
        """Whether what it yields must be there, where it was done before."""

    @property
    def anew(self) -> bool:
        """Whether it is done again, though it was done."""

    def here(self) -> Made:
        """Do it in this process's children."""

    def lost(self, reason: str) -> Made:
        """Record that whoever did it died over it, each time."""


class Hands(Protocol):
    """What does steps; several may be at work."""

    look_s: float | None
    """How often to ask again what may start though nothing has ended; None: never."""

    def fitting(self, due: Sequence[Step], running: Collection[Step]) -> Sequence[Step]:
        """Return which of the steps that are due may start now, the first of the plan first."""

    def start(self, task: Chore) -> Future[Made]:
        """Have a step done."""

    def wait(self) -> bool:
        """Wait a moment where nothing runs and something is due; False: that does not help."""

    def drop(self, futures: Collection[Future[Made]]) -> None:
        """Let go of what was started and has not ended: nobody waits for it any more."""


class Threads:
    """Has steps done by the children of this process, ``side_by_side`` at a time."""

    look_s: float | None = None

    def __init__(self, side_by_side: int = 0) -> None:
        self.side_by_side = side_by_side or default_workers()
        self._executor = ThreadPoolExecutor(self.side_by_side)

    def fitting(self, due: Sequence[Step], running: Collection[Step]) -> Sequence[Step]:
        """Return as many as there are threads; one that is alone waits for all others to end."""
        if any(step.alone for step in running):
            return []
        together = [step for step in due if not step.alone]
        ready = together if together or running else due[:1]
        return ready[: max(self.side_by_side - len(running), 0)]

    def start(self, task: Chore) -> Future[Made]:
        """Have a step done by a thread that waits for a child."""
        doing: Callable[[], Made] = task.here
        return self._executor.submit(doing)

    def wait(self) -> bool:
        """Return False: what may start here starts at once."""
        return False

    def drop(self, futures: Collection[Future[Made]]) -> None:
        """End the threads as soon as their children have ended."""
        for future in futures:
            future.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)
