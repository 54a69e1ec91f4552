"""An engine over a store, its pool a fake that runs jobs in this process and counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlas.core.records import MeasureSettings, Outcome, Stage, Status
from dlas.run.engines.local import LocalEngine
from dlas.run.plan.plan import Step
from dlas.run.process.tasks import Job, Server
from dlas.store.artifacts import ArtifactStore, StepRecord

Work = Callable[[dict[str, Any]], dict[str, Any]]


class FakePool:
    """Runs jobs in this process; counts them."""

    def __init__(self, work: dict[str, Work]) -> None:
        self.work = work
        self.ran: Counter[str] = Counter()

    def run(self, server: Server, job: Job, launch: str = "fork") -> Outcome:
        self.ran[job.task] += 1
        try:
            return Outcome(Status.COMPLETE, self.work[job.task](dict(job.args)), seconds=0.1)
        except TimeoutError as error:
            return Outcome(Status.FAILED, reason=str(error), transient=True)
        except ValueError as error:
            return Outcome(Status.FAILED, reason=str(error))


def step(name: str, stage: Stage = Stage.OPTIMIZE, **inputs: str) -> Step:
    return Step(name, stage, name, {}, inputs, Server(), name)


def write(text: str) -> Work:
    def work(args: dict[str, Any]) -> dict[str, Any]:
        (Path(args["folder"]) / "out.txt").write_text(text)
        return {"text": text}

    return work


def append(args: dict[str, Any]) -> dict[str, Any]:
    before = (Path(args["before"]) / "out.txt").read_text()
    return write(before + "b")(args)


class Bench:
    """An engine over a store, with the steps a -> b."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.store = ArtifactStore(root / "store")
        self.pool = FakePool({"a": write("a"), "b": append})
        self.settings = settings

    def run(self, *steps: Step) -> dict[str, StepRecord]:
        engine = LocalEngine(
            self.store,
            self.pool,  # type: ignore[arg-type]
            MeasureSettings(),
            **{"workers": 2, **self.settings},
        )
        return engine.run({s.key: s for s in steps}, lambda *_: None)

    def text(self, record: StepRecord) -> str:
        assert record.content is not None
        return (self.store.path(record.content) / "out.txt").read_text()


A, B = step("a"), step("b", before="a")
