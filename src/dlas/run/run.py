"""plan + engine + store -> records: where effects meet."""

from __future__ import annotations

import json
import sys
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dlas import __version__
from dlas.core import failpoints
from dlas.core.errors import StorageError, UserError
from dlas.core.records import Stage, Status
from dlas.core.stack import LAYERS, Stack
from dlas.run.ceilings import Ceilings
from dlas.run.executed import Answers
from dlas.run.making import Maker
from dlas.run.measure import host as hosts
from dlas.run.measure.alone import folder_lock, machine_lock
from dlas.run.measure.verdict import output_problem
from dlas.run.plan import plan as planning
from dlas.run.plan.after_build import baseline_step, evaluate_step, measure_key, memory_step
from dlas.run.plan.plan import CellPlan, Plan, Refused, Runnable
from dlas.run.process.interpreters import ask
from dlas.run.process.isolate import Pool
from dlas.run.progress import Progress, Silent
from dlas.run.rounds import Entry, Rounds, now
from dlas.store.artifacts import ArtifactStore, StepRecord
from dlas.store.budget import Budget, checked_size
from dlas.store.results import (
    FILE_NAME,
    CellRow,
    FactRow,
    HostRow,
    ResultStore,
    RoundRow,
    SessionRow,
)
from dlas.study.study import Study

STORE = "store"
STEPS_FACT = "steps"
"""The kind of fact that lists the keys of all steps a cell rests on: what ``clean`` keeps."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to: cells by status, and where it all is."""

    study: str
    out: Path
    cells: Mapping[str, int]
    session: str
    failures: tuple[tuple[str, str, int], ...] = field(default=())
    """Stage, reason and number of cells of what failed."""
    evicted: int = 0
    """Artefacts removed on the way, to keep to the disk budget."""
    evicted_bytes: int = 0


def run(
    study: Study,
    out: Path | str,
    *,
    store: Path | str | None = None,
    only: str | None = None,
    retry: Collection[str] = (),
    remeasure: bool = False,
    max_disk: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Run whatever a study lacks in a folder, and return what it came to.

    Finished cells are left as they are. ``store`` is a folder of artefacts to share with other
    studies; ``only`` the beginning of a cell's hash; ``retry`` statuses to try again
    (``failed``); ``remeasure`` evaluates and measures again what is there. ``max_disk``: the bytes
    that the artefacts may take; intermediate ones that nothing reads any more are then removed.

    Raises:
        UserError: no cell matches ``only``, a status to retry is unknown, ``max_disk`` is no size.
        StorageError: the disk is full, read-only or damaged; ``max_disk`` is too little.
    """
    stacks = _chosen(study, only)
    again = tuple(_status(name) for name in retry)
    limit = checked_size(max_disk)
    folder = Path(out).absolute()
    shared = Path(store).absolute() if store is not None else folder / STORE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error.strerror}") from error
    progress = progress or Silent()
    with folder_lock(folder, progress.note), study.inside():
        artifacts = ArtifactStore(shared)
        results = ResultStore(folder / FILE_NAME)
        with artifacts.use(), results, Pool(artifacts.scratch()) as pool:
            live = planning.live(stacks)
            interpreters = ask(planning.questions(live))
            answers = Answers(interpreters=interpreters)
            answers.look(live, progress.note, (str(study.folder.absolute()),))
            plan = planning.make(study, live, answers.seen, interpreters)
            budget = Budget(artifacts, limit, progress.note) if limit else None
            maker = Maker(study, artifacts, pool, again, remeasure, progress, budget)
            work = _Run(study, results, artifacts, pool, again, remeasure, progress, folder, maker)
            return work.run(plan)


def _chosen(study: Study, only: str | None) -> Sequence[Stack]:
    if only is None:
        return study.stacks
    found = [s for s in study.stacks if s.cell.startswith(only)]
    if not found:
        cells = ", ".join(s.cell for s in study.stacks[:3])
        raise UserError(f"no cell of {study.name!r} begins with {only!r}; cells are like {cells}")
    return found


def _status(name: str) -> Status:
    allowed = (Status.FAILED, Status.IMPOSSIBLE, Status.UNAVAILABLE)
    if name not in allowed:
        raise UserError(f"--retry {name!r}: allowed are {', '.join(allowed)}")
    return Status(name)


@dataclass
class _Run:
    study: Study
    results: ResultStore
    artifacts: ArtifactStore
    pool: Pool
    retry: tuple[Status, ...]
    remeasure: bool
    progress: Progress
    out: Path
    maker: Maker
    host: str = ""
    caches: Mapping[str, str] = field(default_factory=dict)
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def records(self) -> Mapping[str, StepRecord]:
        return self.maker.records

    # ------------------------------------------------------------ the whole

    def run(self, plan: Plan) -> Summary:
        settings = self.study.measure
        self._open(plan)
        runnable = plan.runnable
        measurements = planning.measurement_count(runnable, settings)
        self.maker.total = len(plan.steps)
        self.progress.start(self.maker.total, measurements)
        built = self.maker.make(plan)
        for cell in built:
            self.results.put(*self._facts(cell))
            failpoints.reach("fact-stored")
        self.results.put(*(self._steps_fact(cell) for cell in runnable))
        failpoints.reach("evaluated")
        self._measure([c for c in built if self._right(c)])
        return self._close(plan)

    def _open(self, plan: Plan) -> None:
        description = hosts.describe()
        self.host = self.maker.host = hosts.host_class(description)
        self.caches = description["caches"]
        self.results.put(HostRow(host=self.host, description=description))
        self.results.put(
            SessionRow(
                session=self.session,
                study=self.study.name,
                host=self.host,
                started_at=now(),
                ended_at=None,
                command=" ".join(sys.argv),
                dlas_version=__version__,
                settings=self.study.measure.model_dump(),
                versions=description.get("versions", {}),
                note="",
            )
        )
        (self.out / "study.yaml").write_text(self.study.copy(), encoding="utf-8")
        known = {row.cell: row for row in self.results.rows(CellRow, study=self.study.name)}
        rows = []
        for position, cell in enumerate(plan.cells):
            row = self._cell_row(cell, position)
            before = known.get(cell.cell)
            refused = (Status.IMPOSSIBLE, Status.UNAVAILABLE)
            if before is None or (row.status in refused) or (before.status in refused):
                rows.append(row)
        self.results.put(*rows)
        failpoints.reach("planned")

    def _cell_row(self, cell: CellPlan, position: int) -> CellRow:
        texts = {layer: cell.stack.text(layer) for layer in LAYERS}
        refusal = cell.refusal if isinstance(cell, Refused) else None
        return CellRow(
            study=self.study.name,
            cell=cell.cell,
            position=position,
            stack=cell.stack.to_json(),
            **texts,
            status=Status(refusal.status) if refusal else Status.PENDING,
            stage="",
            reason=refusal.reason if refusal else "",
            log="",
        )

    # ------------------------------------------------------------ facts

    def _facts(self, cell: Runnable) -> list[FactRow]:
        built = self.records[cell.build]
        network = self.records[cell.network].info
        rows = [self._fact(cell, "build", built, self._build_value(cell, built, network))]
        evaluated = self._evaluation(cell)
        value = self._evaluation_value(cell, evaluated)
        problem = self._problem(cell, evaluated)
        row = self._fact(cell, "evaluate", evaluated, value)
        if problem:
            row = replace(row, status=Status.FAILED, stage=Stage.EVALUATE, reason=problem)
        rows.append(row)
        if self.study.measure.memory:
            memory = self.records[memory_step(cell, built, self.host).key]
            rows.append(self._fact(cell, "memory", memory, memory.info))
        return rows

    def _fact(
        self, cell: Runnable, kind: str, record: StepRecord, value: Mapping[str, Any]
    ) -> FactRow:
        failed = record.status is not Status.COMPLETE
        return FactRow(
            cell=cell.cell,
            host=self.host,
            kind=kind,
            key=record.key,
            content=self.records[cell.build].content,
            status=record.status,
            stage=record.stage if failed else "",
            reason=record.reason,
            log=record.log,
            value=dict(value),
            session=self.session,
            created_at=record.created_at,
            attempts=record.attempts,
        )

    def _steps_fact(self, cell: Runnable) -> FactRow:
        keys = [*cell.steps]
        if self.maker.ok(cell.build):
            keys += [step.key for step in self.maker.after(cell)]
        return self._fact(cell, STEPS_FACT, self.records[cell.build], {"keys": keys})

    def _build_value(
        self, cell: Runnable, built: StepRecord, network: Mapping[str, Any]
    ) -> dict[str, Any]:
        names = ("params", "nonzero_params", "macs", "effective_macs", "weights_mb")
        value: dict[str, Any] = {name: network.get(name) for name in names}
        value["build_s"] = built.info["build_s"]
        value["artifact_mb"] = built.info["artifact_mb"]
        value["facts"] = built.info["facts"]
        infos = [self.records[key].info for key in cell.steps]
        value["achieved"] = [info["achieved"] for info in infos if "achieved" in info]
        value["weights"] = self.records[cell.prepared].info.get("weights")
        return value

    def _evaluation(self, cell: Runnable) -> StepRecord:
        built = self.records[cell.build]
        return self.records[evaluate_step(cell, built, self.study.measure, self.host).key]

    def _evaluation_value(self, cell: Runnable, evaluated: StepRecord) -> dict[str, Any]:
        if evaluated.status is not Status.COMPLETE:
            return {}
        value: dict[str, Any] = {**evaluated.info.get("comparison", {})}
        wanted = self.study.measure.accuracy_samples
        value |= {k: v[:wanted] for k, v in self._labels(evaluated).items()}
        value["n"] = len(value["labels"])
        value["ids_hash"] = evaluated.info["content"]
        baseline = self.records[baseline_step(cell, self.study.measure, self.host).key]
        if baseline.status is Status.COMPLETE:
            value |= {f"baseline_{k}": v[:wanted] for k, v in self._labels(baseline).items()}
        return value

    def _labels(self, record: StepRecord) -> dict[str, list[int]]:
        assert record.content is not None
        file = self.artifacts.path(record.content) / "evaluation.json"
        found: dict[str, list[int]] = json.loads(file.read_text())
        return found

    def _problem(self, cell: Runnable, evaluated: StepRecord) -> str:
        """Return why the artefact's outputs are wrong, or ``""``."""
        if evaluated.status is not Status.COMPLETE:
            return ""
        return output_problem(evaluated.info["comparison"], cell.techniques.precision) or ""

    def _right(self, cell: Runnable) -> bool:
        evaluated = self._evaluation(cell)
        return evaluated.status is Status.COMPLETE and not self._problem(cell, evaluated)

    # ------------------------------------------------------------ measuring

    def _measure(self, cells: Sequence[Runnable]) -> None:
        entries = [self._entry(cell) for cell in cells]
        self._forget(entries)
        ceilings = self._ceilings(entries)
        self.maker.require_room()
        rounds = Rounds(
            self.pool,
            self.results,
            self.study.measure,
            host=self.host,
            session=self.session,
            paths=(str(self.study.folder.absolute()),),
            progress=self.progress,
            beside=ceilings.read if ceilings else lambda _moment: None,
        )
        with machine_lock(self.progress.note):
            rounds.run(entries)

    def _ceilings(self, entries: Sequence[Entry]) -> Ceilings | None:
        """Return what reads the machine's ceilings, all that it needs built; None: not asked."""
        if not (self.study.measure.ceilings and entries):
            return None
        found = Ceilings(
            self.pool,
            self.results,
            self.study.measure,
            cells=[entry.plan for entry in entries],
            host=self.host,
            session=self.session,
            caches=self.caches,
            inputs={entry.plan.cell: entry.inputs for entry in entries},
            paths=(str(self.study.folder.absolute()),),
        )
        steps = found.steps()
        self.maker.total += len(steps)
        self.maker.execute(steps)
        for key in steps:
            record = self.records[key]
            folder = self.artifacts.path(record.content) if record.content else None
            found.made[key] = record, folder
        return found

    def _entry(self, cell: Runnable) -> Entry:
        built = self.records[cell.build]
        inputs = self.records[cell.inputs]
        assert built.content is not None
        assert inputs.content is not None
        return Entry(
            plan=cell,
            control=0,
            key=measure_key(cell, built, self.study.measure, self.host),
            content=built.content,
            artifact=self.artifacts.path(built.content),
            inputs=self.artifacts.path(inputs.content),
        )

    def _forget(self, entries: Sequence[Entry]) -> None:
        """Drop rows that are to be measured again: stale ones, and all with ``remeasure``.

        A row is stale when the artefact it timed, or how it was timed, is not what the plan says.
        """
        for entry in entries:
            cell = entry.plan.cell
            for row in self.results.rows(RoundRow, cell=cell, host=self.host):
                stale = row.key != entry.key
                again = row.status is Status.FAILED and Status.FAILED in self.retry
                if self.remeasure or stale or again:
                    self.results.delete(
                        RoundRow, cell=cell, host=self.host, control=row.control, round=row.round
                    )
            for fact in self.results.rows(FactRow, cell=cell, host=self.host, kind="observe"):
                if self.remeasure or fact.key != entry.key or fact.status in self.retry:
                    self.results.delete(FactRow, cell=cell, host=self.host, kind="observe")

    # ------------------------------------------------------------ the end

    def _close(self, plan: Plan) -> Summary:
        known = {row.cell: row for row in self.results.rows(CellRow, study=self.study.name)}
        changed = []
        for cell in plan.runnable:
            row = replace(known[cell.cell], **self._verdict(cell))
            if row != known[cell.cell]:
                changed.append(row)
        self.results.put(*changed)
        failpoints.reach("cells-stored")
        session = self.results.rows(SessionRow, session=self.session)[0]
        self.results.put(replace(session, ended_at=now()))
        rows = self.results.rows(CellRow, study=self.study.name)
        failures = Counter((r.stage, r.reason) for r in rows if r.status is Status.FAILED)
        summary = Summary(
            study=self.study.name,
            out=self.out,
            cells=dict(Counter(str(r.status) for r in rows)),
            session=self.session,
            failures=tuple((stage, reason, n) for (stage, reason), n in failures.most_common()),
            evicted=self.maker.budget.evicted if self.maker.budget else 0,
            evicted_bytes=self.maker.budget.evicted_bytes if self.maker.budget else 0,
        )
        self.progress.finish(summary)
        return summary

    def _verdict(self, cell: Runnable) -> dict[str, Any]:
        """Return a runnable cell's status, stage, reason and log end: of its first failure."""
        for key in cell.steps:
            record = self.records[key]
            if record.status is not Status.COMPLETE:
                return _failed(record.stage, record.reason, record.log)
        facts = self.results.rows(FactRow, cell=cell.cell, host=self.host)
        rounds = self.results.rows(RoundRow, cell=cell.cell, host=self.host)
        seen: list[FactRow | RoundRow] = [*sorted(facts, key=lambda f: f.kind != "evaluate")]
        for row in [*seen, *rounds]:
            if row.status is Status.FAILED:
                return _failed(row.stage, row.reason, row.log)
        wanted = self.study.measure.rounds
        if sum(r.control == 0 and r.status is Status.COMPLETE for r in rounds) < wanted:
            return {"status": Status.PENDING, "stage": "", "reason": "", "log": ""}
        return {"status": Status.COMPLETE, "stage": "", "reason": "", "log": ""}


def _failed(stage: str, reason: str, log: str) -> dict[str, Any]:
    return {"status": Status.FAILED, "stage": stage, "reason": reason, "log": log}
