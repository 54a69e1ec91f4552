"""Runs keyed steps on this machine: each once, in parallel, never twice at the same time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dlas import failpoints
from dlas.isolate import Job, Pool
from dlas.measure.host import AVAILABLE
from dlas.measure.lock import machine_lock
from dlas.plan import Step
from dlas.records import MeasureSettings, Outcome, Status
from dlas.store.artifacts import ArtifactStore, StepRecord
from dlas.store.objects import DamagedObject

Done = Callable[[Step, StepRecord, bool], None]
"""Called after each step: the step, its record, and whether it was there already."""


def default_workers() -> int:
    """Return how many steps run side by side: a core each, at most four."""
    return min(4, len(AVAILABLE))


@dataclass
class LocalEngine:
    """Runs steps in children of this process.

    ``paths`` are put first on the children's ``sys.path`` (the study's folder); ``retry`` names
    the statuses that are not taken as finished; with ``anew`` nothing is.
    """

    store: ArtifactStore
    pool: Pool
    settings: MeasureSettings
    paths: tuple[str, ...] = ()
    retry: Collection[Status] = ()
    anew: bool = False
    workers: int = 0

    def run(self, steps: Mapping[str, Step], done: Done) -> dict[str, StepRecord]:
        """Return the record of every step; what is finished is not run again.

        A step whose artefact turns out damaged is forgotten and made again, once.
        """
        try:
            return self._run(steps, done)
        except DamagedObject as damage:
            self.store.discard(damage.content)
            return self._run(steps, done)

    def _run(self, steps: Mapping[str, Step], done: Done) -> dict[str, StepRecord]:
        records: dict[str, StepRecord] = {}
        waiting = dict(steps)
        running: dict[Future[tuple[StepRecord, bool]], Step] = {}
        executor = ThreadPoolExecutor(self.workers or default_workers())
        try:
            while waiting or running:
                for step in self._next(self._ready(waiting, records), running.values()):
                    del waiting[step.key]
                    running[executor.submit(self._step, step, dict(records))] = step
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    step = running.pop(future)
                    record, known = future.result()
                    records[step.key] = record
                    done(step, record, known)
        finally:
            for future in running:
                future.cancel()
            executor.shutdown(wait=False, cancel_futures=True)
        return records

    @staticmethod
    def _next(ready: list[Step], running: Collection[Step]) -> list[Step]:
        """Return the ready steps to start now; one that is alone waits for all others to end."""
        if any(step.alone for step in running):
            return []
        together = [step for step in ready if not step.alone]
        return together if together or running else ready[:1]

    def _ready(self, waiting: Mapping[str, Step], records: Mapping[str, StepRecord]) -> list[Step]:
        """Return the steps whose needs are met (needs outside of the given steps are done)."""
        return [
            step
            for step in waiting.values()
            if all(k in records or k not in waiting for k in step.inputs.values())
            and not any(k in waiting for k in step.inputs.values())
            and all(k in records or self.store.get(k) is not None for k in step.inputs.values())
        ]

    def _step(self, step: Step, records: Mapping[str, StepRecord]) -> tuple[StepRecord, bool]:
        needs: dict[str, StepRecord] = {}
        for name, needed in step.inputs.items():
            record = records.get(needed) or self.store.get(needed)
            assert record is not None, f"{step.stage} started before its need {name}"
            if record.status is not Status.COMPLETE:
                return replace(record, key=step.key), True  # the failure of what it needs
            needs[name] = record
        with self.store.lock(step.key):
            known = self.store.get(step.key)
            contents = {name: r.content for name, r in needs.items()}
            if known is not None and self._finished(step, known, contents):
                return known, True
            return self._execute(step, needs, known), False

    def _finished(self, step: Step, known: StepRecord, contents: Mapping[str, Any]) -> bool:
        if known.status in self.retry or self.anew:
            return False
        if known.info.get("needs", contents) != contents:
            return False  # what it was made from has been made again, and differs
        if known.status is Status.COMPLETE and step.samples:
            wanted = min(step.samples, known.info["of"])
            return bool(known.info["n"] >= wanted)
        return True

    def _execute(
        self, step: Step, needs: Mapping[str, StepRecord], known: StepRecord | None
    ) -> StepRecord:
        failpoints.reach("step-started")
        contents = {name: r.content for name, r in needs.items()}
        with machine_lock() if step.alone else nullcontext():
            outcome, folder = self._attempt(step, needs, known, contents)
            attempts = 1
            if not outcome.ok and outcome.transient:
                outcome, folder = self._attempt(step, needs, known, contents)
                attempts = 2
        failpoints.reach("step-done")
        info = {**outcome.value, "needs": contents}
        if outcome.ok:
            record = self.store.commit(step.key, step.stage, folder, info, outcome.seconds)
        else:
            failed = replace(outcome, value=info)
            record = self.store.fail(step.key, step.stage, failed, attempts)
        failpoints.reach("step-committed")
        return record

    def _attempt(
        self,
        step: Step,
        needs: Mapping[str, StepRecord],
        known: StepRecord | None,
        contents: Mapping[str, Any],
    ) -> tuple[Outcome, Path]:
        folder = self.store.scratch()
        args: dict[str, Any] = {**step.args, "folder": str(folder)}
        for name, record in needs.items():
            args[name] = str(self._path(record))
        if step.samples:
            args["samples"] = step.samples
            same = known is not None and known.info.get("needs") == contents and not self.anew
            if known is not None and same and known.status is Status.COMPLETE:
                args["previous"] = str(self._path(known))
        job = Job(
            task=step.task,
            args=args,
            stage=step.stage,
            timeout_s=self.settings.step_timeout_s,
            memory_limit_mb=self.settings.memory_limit_mb,
            cpus=step.cpus,
            paths=self.paths,
        )
        return self.pool.run(step.server, job, step.launch), folder

    def _path(self, record: StepRecord) -> Path:
        assert record.content is not None
        return self.store.path(record.content)
