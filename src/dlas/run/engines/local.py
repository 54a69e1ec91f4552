"""Runs keyed steps on this machine: each once, in parallel, never twice at the same time.

A step whose record is complete counts as done also where its artefact was evicted
(``store/budget.py``). Only when a step that has to run needs its files is it recalled: put back
before that step, with whatever it needs itself. If it then yields what it did before, nothing else
has changed; if not, all steps are judged anew, and what was made from the old content is stale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from dlas.core import failpoints
from dlas.core.keys import Json
from dlas.core.records import MeasureSettings, Outcome, Status
from dlas.run.engines.hands import Hands, Made, Needs, Threads
from dlas.run.measure.alone import machine_lock
from dlas.run.measure.host import placement
from dlas.run.plan.plan import Step
from dlas.run.process.isolate import Pool
from dlas.run.process.tasks import Job
from dlas.store.artifacts import ArtifactStore, Overtaken, StepRecord
from dlas.store.budget import Budget
from dlas.store.disk import remove_tree, tree_bytes
from dlas.store.objects import DamagedObject
from dlas.store.step_record import STORED_BYTES

Done = Callable[[Step, StepRecord, bool], None]
"""Called after each step: the step, its record, and whether it was there already."""
Contents = Mapping[str, str | None]
"""The hashes of what a step is given, by the name of the argument."""


class Remade(Exception):
    """A step done before was made again, and what it yields now is not what it did."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


@dataclass
class LocalEngine:
    """Runs steps in children of this process, or has them run by other ``hands``.

    ``paths`` are put first on the children's ``sys.path`` (the study's folder); ``retry`` names
    the statuses that are not taken as finished, but for steps that were ``tried`` since the run
    began; with ``anew`` nothing is. ``upstream`` are steps
    done before: one runs again only where a given step needs files of it that are gone. With a
    ``budget`` artefacts are evicted; those of the steps named ``later`` are read after this.
    ``beside`` keeps the machine from being measured on while a step works; those that have it
    alone see to it themselves.
    """

    store: ArtifactStore
    pool: Pool
    settings: MeasureSettings
    paths: tuple[str, ...] = ()
    retry: Collection[Status] = ()
    anew: bool = False
    workers: int = 0
    upstream: Mapping[str, Step] = field(default_factory=dict)
    budget: Budget | None = None
    later: Collection[str] = ()
    hands: Hands | None = None
    tried: set[str] = field(default_factory=set)
    beside: Callable[[], AbstractContextManager[None]] = nullcontext

    def run(self, steps: Mapping[str, Step], done: Done) -> dict[str, StepRecord]:
        """Return the record of every step; what is finished is not run again.

        A step whose artefact turns out damaged is forgotten and made again, once.

        Raises:
            Remade: an ``upstream`` step was made again and differs: start over with that.
            StorageError: the disk refuses, or the budget cannot be kept.
        """
        if self.budget is not None:
            self.budget.own.update(steps, self.upstream)
        lost: dict[str, str] | None = None
        while True:
            try:
                return _Once(self, steps, done, lost or {}).run()
            except DamagedObject as damage:
                if lost is not None:
                    raise
                lost = dict.fromkeys(self.store.discard(damage.content), damage.content)
            except Remade as change:
                if change.key not in steps:
                    raise

    def finished(self, step: Step) -> bool:
        """Return whether a step would not run if all it needs stayed as it is."""
        needs = {name: self.store.get(key) for name, key in step.inputs.items()}
        there = {name: record for name, record in needs.items() if record is not None}
        return len(there) == len(needs) and self.settled(step, there) is not None

    def settled(
        self, step: Step, needs: Needs, files: bool = False, ask: bool = True
    ) -> StepRecord | None:
        """Return what became of a step, None: it has to run; ``files``: they must be there.

        ``ask``: whether the step may have been done at all.
        """
        for record in needs.values():
            if record.status is not Status.COMPLETE:
                return replace(record, key=step.key)  # the failure of what it needs
        known = self.store.get(step.key) if ask else None
        if known is None or not self._finished(step, known, _contents(needs)):
            return None
        gone = files and known.content is not None and not self.store.has(known.content)
        return None if gone else known

    def make(self, step: Step, needs: Needs, files: bool) -> tuple[StepRecord, bool]:
        """Run a step unless another process has done so; say whether it had.

        Where another commits first all the same, since we were stopped for longer than a lease,
        what it found is judged like any other record, and ours is gone.
        """
        while True:
            # before its lease: while somebody measures here, another machine may do the step
            with nullcontext() if step.alone else self.beside(), self.store.lock(step.key):
                base = self.store.generation(step.key)
                if known := self.settled(step, needs, files):
                    return known, True
                with suppress(Overtaken):
                    return self._execute(step, needs, base), False

    def give_up(self, step: Step, needs: Needs, reason: str) -> tuple[StepRecord, bool]:
        """Record that a step failed, since what did it did not live to say so itself."""
        value = {"needs": _contents(needs)}
        failed = Outcome(Status.FAILED, value=value, reason=reason, transient=True)
        while True:
            base = self.store.generation(step.key)
            if known := self.settled(step, needs):
                return known, True  # by one of those that died, or by somebody else
            with suppress(Overtaken):
                return self.store.fail(step.key, step.stage, failed, 2, after=base), False

    def _finished(self, step: Step, known: StepRecord, contents: Contents) -> bool:
        again = known.status in self.retry and step.key not in self.tried
        if again or self.anew:
            return False
        if known.needs is not None and known.needs != contents:
            return False  # what it was made from has been made again, and differs
        if known.status is Status.COMPLETE and step.samples:
            return known.evaluated(step.samples)
        return True

    def _execute(self, step: Step, needs: Needs, base: int) -> StepRecord:
        """Do a step whose newest record is the generation ``base``, and commit the next one."""
        failpoints.reach("step-started")
        contents, known, attempts = _contents(needs), self.store.get(step.key), 1
        with machine_lock() if step.alone else nullcontext():
            outcome, folder = self._attempt(step, needs, known)
            if not outcome.ok and outcome.transient:
                outcome, folder = self._attempt(step, needs, known)
                attempts = 2
        failpoints.reach("step-done")
        info = {**outcome.value, "needs": contents}
        if outcome.ok:
            info[STORED_BYTES] = tree_bytes(folder)
            record = self.store.commit(
                step.key, step.stage, folder, info, outcome.seconds, after=base
            )
        else:
            remove_tree(folder)
            outcome = replace(outcome, value=info)
            record = self.store.fail(step.key, step.stage, outcome, attempts, after=base)
        failpoints.reach("step-committed")
        return record

    def _attempt(self, step: Step, needs: Needs, known: StepRecord | None) -> tuple[Outcome, Path]:
        folder = self.store.scratch()
        args: dict[str, Json] = {**step.args, "folder": str(folder)}
        for name, record in needs.items():
            args[name] = str(self._path(record))
        if step.samples:
            args["samples"] = step.samples
            if known is not None and self._goes_on(known, _contents(needs)):
                args["previous"] = str(self._path(known))
        job = Job(
            task=step.task, args=args, stage=step.stage, timeout_s=self.settings.step_timeout_s,
            memory_limit_mb=self.settings.memory_limit_mb, paths=self.paths,
            cpus=placement(step.placed)[0] if step.placed else None,
        )  # fmt: skip
        return self.pool.run(step.server, job, step.launch), folder

    def _goes_on(self, known: StepRecord, contents: Contents) -> bool:
        same = known.needs == contents and not self.anew
        there = known.content is not None and self.store.has(known.content)
        return same and there and known.status is Status.COMPLETE

    def _path(self, record: StepRecord) -> Path:
        assert record.content is not None
        return self.store.path(record.content)


@dataclass(frozen=True, slots=True)
class _Due:
    """A step that is due."""

    engine: LocalEngine
    step: Step
    needs: Needs
    files: bool

    @property
    def anew(self) -> bool:
        return self.engine.anew

    def here(self) -> Made:
        return self.engine.make(self.step, self.needs, self.files)

    def lost(self, reason: str) -> Made:
        return self.engine.give_up(self.step, self.needs, reason)


class _Once:
    """One pass over the steps: what is finished is taken, the rest run, what it needs recalled.

    ``lost`` are steps whose artefact was found damaged, with the content it had.
    """

    def __init__(
        self, engine: LocalEngine, steps: Mapping[str, Step], done: Done, lost: Mapping[str, str]
    ) -> None:
        self.engine = engine
        self.known_steps = {**engine.upstream, **steps}
        self.done = done
        self.lost = lost
        self.waiting = dict(steps)
        self.due: set[str] = set()
        """Waiting steps that have to run, all they need at hand."""
        self.running: dict[Future[Made], tuple[Step, Needs]] = {}
        self.doing: set[str] = set()
        """The keys of the steps that run."""
        self.records: dict[str, StepRecord] = {}
        self.outside: dict[str, StepRecord] = {}
        """Of steps done before."""
        self.recalled: dict[str, str | None] = {}
        """Steps made again for their files, with the content they had."""
        self.changed: str | None = None
        self.perhaps = engine.store.perhaps_done(steps)
        """The keys of the steps that may be done already."""

    def run(self) -> dict[str, StepRecord]:
        """Return the records of the given steps, and of those recalled."""
        hands = self.engine.hands or Threads(self.engine.workers)
        try:
            while True:
                if self.changed is None:
                    self._settle()
                    self._start(hands)
                if not self.running and not (self.due and self.changed is None and hands.wait()):
                    break
                finished, _ = wait(self.running, hands.look_s, FIRST_COMPLETED)
                for future in finished:
                    step, _ = self.running.pop(future)
                    self.doing.discard(step.key)
                    self._take(step, *future.result())
        finally:
            hands.drop(self.running)
        if self.changed is not None:
            raise Remade(self.changed)
        self._end()
        return self.records

    def _end(self) -> None:
        budget = self.engine.budget
        if budget is not None:
            if self.waiting:
                raise budget.refusal(len(self.waiting))
            budget.room((), self.engine.later, ())
        assert not self.waiting, f"nothing yields what {[*self.waiting]} need"

    # ------------------------------------------------------------ what is finished

    def _settle(self) -> None:
        """Judge every step whose needs are known, until there is nothing new to say."""
        again, asked = True, 0
        while again or asked < len(self.recalled):
            again, asked = False, len(self.recalled)
            for step in list(self.waiting.values()):
                if step.key in self.due or not self._needs_known(step):
                    continue
                again = True
                files = step.key in self.recalled
                ask = files or step.key in self.perhaps
                record = self.engine.settled(step, self._needs(step), files, ask)
                if record is not None:
                    del self.waiting[step.key]
                    self._take(step, record, True)
                elif not self._recall(step):
                    self.due.add(step.key)

    def _needs_known(self, step: Step) -> bool:
        read = step.inputs.values()
        return all(k in self.records or self._look_outside(k, step) for k in read)

    def _look_outside(self, key: str, reader: Step) -> bool:
        """Return whether a step of an earlier time is done; if it can be, have it done again."""
        if key in self.waiting or key in self.doing:
            return False
        if key not in self.outside and (record := self.engine.store.get(key)):
            self.outside[key] = record
        if key not in self.outside and key in self.engine.upstream:
            self._reopen(key, self.lost.get(key), reader)  # its record is gone
        return key in self.outside

    def _needs(self, step: Step) -> dict[str, StepRecord]:
        every = {**self.outside, **self.records}
        return {name: every[key] for name, key in step.inputs.items()}

    def _recall(self, step: Step) -> bool:
        """Put back to work what a step needs and is gone; return whether anything was."""
        has = self.engine.store.has
        needed = {step.inputs[name]: r.content for name, r in self._needs(step).items()}
        gone = {k: c for k, c in needed.items() if k in self.known_steps and not has(c or "")}
        for key, content in gone.items():
            self._reopen(key, content, step)
        return bool(gone)

    def _reopen(self, key: str, content: str | None, reader: Step) -> None:
        """Have a step done again, just before the one that reads what it yields."""
        self.records.pop(key, None)
        self.outside.pop(key, None)
        self.recalled[key] = content
        order: dict[str, Step] = {}
        for other in self.waiting.values():
            if other is reader:
                order[key] = self.known_steps[key]
            order[other.key] = other
        self.waiting = order

    def _take(self, step: Step, record: StepRecord, known: bool) -> None:
        self.records[step.key] = record
        self.due.discard(step.key)
        if not known:
            self.engine.tried.add(step.key)
        self.done(step, record, known)
        if step.key in self.recalled and self.recalled[step.key] != record.content:
            self.changed = step.key

    # ------------------------------------------------------------ what runs

    def _start(self, hands: Hands) -> None:
        """Start what may start, the first of the plan first: its inputs are then free early."""
        due = [step for step in self.waiting.values() if step.key in self.due]
        for step in hands.fitting(due, [step for step, _ in self.running.values()]):
            if step.key not in self.due or not self._room(step):
                break
            del self.waiting[step.key]
            needs = self._needs(step)
            task = _Due(self.engine, step, needs, step.key in self.recalled)
            self.running[hands.start(task)] = step, needs
            self.doing.add(step.key)

    def _room(self, step: Step) -> bool:
        """Return whether the budget lets a step start; if need be something is evicted.

        Beside others it starts only where an output of each stage to come would fit as well: near
        the limit steps run one by one in the plan's order, which holds the least. If even that
        does not fit, what is read last goes, to be made again then.
        """
        budget = self.engine.budget
        if budget is None:
            return True
        running = [other for other, _ in self.running.values()]
        later = set(self.engine.later)
        keys = {key for s in (*self.waiting.values(), *running) for key in s.inputs.values()}
        held = {r.content for _, needs in self.running.values() for r in needs.values()}
        if running:
            stages = [s.stage for s in (*running, step)]
            more = {s.stage for s in self.waiting.values() if s.key != step.key}
            return budget.room(stages, keys | later, held, more=more)
        if budget.room([step.stage], keys | later, held):
            return True
        self.due = {step.key}  # of the others some may now lose what they need
        own = set(step.inputs.values())
        budget.room([step.stage], own | later, held, last=self._read_last(step))
        return budget.fits()

    def _read_last(self, step: Step) -> list[str]:
        """Return whose artefacts others than ``step`` read, what is read last first.

        Not what was recalled: nothing is made more than twice for lack of room.
        """
        others = [s for s in self.waiting.values() if s.key != step.key]
        read = dict.fromkeys(key for s in others for key in s.inputs.values())
        kept = {*step.inputs.values(), *self.recalled, *self.engine.later}
        return [key for key in reversed(read) if key not in kept]


def _contents(needs: Needs) -> Contents:
    return {name: record.content for name, record in needs.items()}
