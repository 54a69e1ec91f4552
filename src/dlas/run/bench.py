"""Where one run measures: what works, where rows go, how, on which host, in which session."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dlas.core.keys import Json
from dlas.core.records import MeasureSettings, Outcome, Round, Stage
from dlas.run.measure.host import placement
from dlas.run.plan.plan import Runnable
from dlas.run.process.isolate import Pool
from dlas.run.process.tasks import Job, Launch, Server
from dlas.store.facts import Observed
from dlas.store.results import ResultStore


@dataclass(frozen=True, slots=True)
class Bench:
    """What all parts of one run share."""

    pool: Pool
    results: ResultStore
    settings: MeasureSettings
    host: str
    """The class of the host."""
    session: str
    paths: tuple[str, ...]
    """Folders put first on the children's ``sys.path``: the study's."""

    def run_alone(
        self,
        task: str,
        args: Mapping[str, Json],
        server: Server,
        threads: int = 1,
        launch: Launch = "fork",
        most_s: float | None = None,
    ) -> Outcome:
        """Run a job on the processors of ``threads`` threads, this process on the others.

        The caller gives this process its processors back in the end.
        """
        cpus, parent = placement(threads)
        os.sched_setaffinity(0, parent)
        limit_s = self.settings.measure_timeout_s
        job = Job(
            task=task,
            args=args,
            stage=Stage.MEASURE,
            timeout_s=limit_s if most_s is None else min(most_s, limit_s),
            memory_limit_mb=self.settings.memory_limit_mb,
            cpus=tuple(cpus),
            paths=self.paths,
        )
        return self.pool.run(server, job, launch)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a child that measured has to say; None: it failed."""

    outcome: Outcome
    seen: Round | None
    ran: Observed | None
    """What ran, where that was asked."""


def measure(
    bench: Bench,
    cell: Runnable,
    artifact: Path,
    inputs: Path,
    settings: MeasureSettings,
    *,
    observe: bool = False,
    launch: Launch = "fork",
    most_s: float | None = None,
) -> Measured:
    """Measure an artefact as a cell is measured, on the images in the folder ``inputs``."""
    args: dict[str, Json] = {
        "artifact": str(artifact),
        "software": cell.stack.software[0].to_json(),
        "hardware": cell.stack.hardware[0].to_json(),
        "inputs": str(inputs / "samples.npy"),
        "batch": cell.techniques.dataset.batch,
        "settings": settings.model_dump(),
        "observe": observe,
    }
    task = "dlas.run.measure.latency:run"
    outcome = bench.run_alone(task, args, cell.server, cell.threads, launch, most_s)
    if not outcome.ok:
        return Measured(outcome, None, None)
    seen, ran = Round.from_json(outcome.value["round"]), outcome.value["ran"]
    observed = replace(Observed.from_json(ran), cpus=seen.cpus) if ran else None
    return Measured(outcome, seen, observed)
