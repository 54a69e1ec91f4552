"""Steps to the machines that would give them the same key; to this one what no other can do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from dlas.core.errors import StorageError, UserError
from dlas.run.engines.dask import LOOK_S, PATIENCE_S, Crew, Errand
from dlas.run.engines.errands import Enrolled, Lost, Reply, StepErrand
from dlas.run.engines.hands import Chore, Made, Threads
from dlas.run.plan.plan import Step
from dlas.store.objects import DamagedObject

AHEAD = 2
"""Steps handed out for each slot, so that no machine waits for the next one to arrive."""

Who = frozenset[str]


@dataclass
class Spread:
    """The hands of a run that has a crew."""

    crew: Crew
    libraries: Mapping[str, str | None]
    """The runtimes' versions here."""
    elsewhere: Collection[str]
    """The keys of the steps that this machine cannot do."""
    show: Callable[[], None]
    """Called now and then by the run's own thread."""
    look_s: float | None = LOOK_S
    _threads: Threads | None = None
    _here: set[str] = field(default_factory=set)
    _machines: tuple[Enrolled, ...] = ()
    _able: dict[str, tuple[Who, int]] = field(default_factory=dict)
    _idle_since: float | None = None

    def able(self, step: Step, machine: Enrolled) -> bool:
        """Return whether a step would be the same on a machine."""
        if step.host:  # it looks at what was built, on hosts of this class
            twin = machine.host == step.host and machine.libraries == self.libraries
            return twin and all(key in machine.keys for key in step.inputs.values())
        return step.key in machine.keys

    # ------------------------------------------------------------ what an engine asks

    def fitting(self, due: Sequence[Step], running: Collection[Step]) -> Sequence[Step]:
        """Return as many as the machines take, and what only this one can do."""
        self.show()
        own = [step for step in running if step.key in self._here]
        placed = Counter(self._who(step)[0] for step in running if step.key not in self._here)
        most = AHEAD * sum(machine.slots for machine in self.crew.machines)
        fits: list[Step] = []
        mine: list[Step] = []
        for step in due:
            who, slots = self._who(step)
            if not who:
                mine += [step] if step.key not in self.elsewhere else []
            elif placed[who] < AHEAD * slots and placed.total() < most:
                placed[who] += 1
                fits.append(step)
        found = [*fits, *self._own().fitting(mine, own)]
        if found or running:
            self._idle_since = None
        return found

    def start(self, task: Chore) -> Future[Made]:
        """Have a step done by a machine, or by this one."""
        step = task.step
        if not self._who(step)[0]:
            return self._start_here(task)
        errand = Errand(
            method="step",
            given=StepErrand(step, task.needs, task.files, task.anew),
            text=f"{step.stage}-{step.key[:16]}",
            able=lambda machine: self.able(step, machine),
            alone=step.alone,
            forced=step.key in self.elsewhere,
        )
        made: Future[Made] = Future()
        made.set_running_or_notify_cancel()  # from now on it is recalled, not cancelled
        self.crew.send(errand).add_done_callback(lambda done: self._take(task, done, made))
        return made

    def wait(self) -> bool:
        """Wait for machines; not for ever.

        Raises:
            UserError: none came that can do what is due.
        """
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        if now - self._idle_since > PATIENCE_S:
            raise UserError(
                f"no machine was there for {PATIENCE_S:g} s that can do what is left. The same "
                "command goes on when one is."
            )
        time.sleep(LOOK_S)
        return True

    def drop(self, futures: Collection[Future[Made]]) -> None:
        """Give up what runs."""
        self.crew.recall_all("step")
        if self._threads is not None:
            self._threads.drop(futures)
        self._threads = None
        self._here.clear()

    # ------------------------------------------------------------ inside

    def _who(self, step: Step) -> tuple[Who, int]:
        """Return the machines that can do a step, and their slots together."""
        there = self.crew.machines
        if there != self._machines:
            self._machines = there
            self._able.clear()
        if step.key not in self._able:
            able = [m for m in there if self.able(step, m)]
            names = frozenset(machine.name for machine in able)
            self._able[step.key] = names, sum(machine.slots for machine in able)
        return self._able[step.key]

    def _own(self) -> Threads:
        self._threads = self._threads or Threads()
        return self._threads

    def _start_here(self, task: Chore) -> Future[Made]:
        self._here.add(task.step.key)
        return self._own().start(task)

    def _take(self, task: Chore, done: Future[Reply], made: Future[Made]) -> None:
        """Make of an answer what an engine expects."""
        try:
            answer = done.result()
            if answer.nobody:
                mine = self._start_here(task)
                mine.add_done_callback(lambda ended: _pass_on(ended, made))
                return
            made.set_result(_made(answer))
        except Lost as error:
            _given_up(task, str(error), made)
        except BaseException as error:
            made.set_exception(error)


def _made(answer: Reply) -> Made:
    if answer.damaged:
        raise DamagedObject(answer.damaged, answer.problem)
    if answer.record is None:
        raise StorageError(answer.problem)
    return answer.record, answer.known


def _given_up(task: Chore, reason: str, made: Future[Made]) -> None:
    """Record that a step failed; where that is refused, whoever waits for it has to know."""
    try:
        made.set_result(task.lost(reason))
    except BaseException as error:
        made.set_exception(error)


def _pass_on(ended: Future[Made], made: Future[Made]) -> None:
    error = ended.exception()
    if error is not None:
        made.set_exception(error)
    else:
        made.set_result(ended.result())
