"""plan + engine + store -> records: where effects meet."""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dlas import __version__
from dlas.core import failpoints, registry
from dlas.core.clock import now
from dlas.core.records import MeasureSettings, Status
from dlas.core.stack import Stack
from dlas.run import twins
from dlas.run.asked import chosen, made, parted, planned, statuses
from dlas.run.bench import Bench
from dlas.run.ceilings import Ceilings
from dlas.run.company import Alone, Company, Form, Occasion, nobody
from dlas.run.making import Maker
from dlas.run.measurands import Entry
from dlas.run.measure import host as hosts
from dlas.run.measure.alone import folder_lock, machine_lock
from dlas.run.noting import Notes, as_planned, left_over, lost, moved, of_others, versions
from dlas.run.plan.after_build import measure_key
from dlas.run.plan.counts import measurement_count
from dlas.run.plan.plan import Plan, Runnable, Step
from dlas.run.process.isolate import Pool
from dlas.run.progress import Progress, Silent
from dlas.run.rounds import Rounds
from dlas.store.address import place_of, point
from dlas.store.artifacts import StepRecord
from dlas.store.budget import Budget, checked_size
from dlas.store.facts import Observed, Rests
from dlas.store.results import (
    CellRow,
    FactRow,
    HostRow,
    ResultStore,
    RoundRow,
    SessionRow,
)
from dlas.store.shared_store import artifact_store, shared_place
from dlas.study.study import Study

STORE = "store"


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
    stale: int = 0
    """Cells that the study had before and has no longer."""


def run(
    study: Study,
    out: Path | str,
    *,
    store: Path | str | None = None,
    only: str | None = None,
    retry: Collection[str] = (),
    remeasure: bool = False,
    max_disk: int | None = None,
    results: str | None = None,
    progress: Progress | None = None,
    then: Callable[[Campaign, Sequence[Runnable]], object] | None = None,
    form: Form = nobody,
) -> Summary:
    """Run whatever a study lacks in a folder, and return what it came to.

    Finished cells are left as they are. ``store`` is a folder of artefacts to share with other
    studies, or ``s3://bucket/prefix``; ``results`` a PostgreSQL database for the rows; ``only``
    the beginning of a cell's hash; ``retry`` statuses to try again (``failed``); ``remeasure``
    evaluates and measures again what is there. ``max_disk``: the bytes that the artefacts may
    take; intermediate ones that nothing reads any more are then removed. ``then`` is given what
    was measured before the folder is closed, and may have more measured. ``form`` brings in other
    machines (:func:`dlas.run.team.dask`).

    Raises:
        UserError: no cell matches ``only``, a status to retry is unknown, ``max_disk`` is no size.
        StorageError: the disk is full, read-only or damaged; ``max_disk`` is too little.
    """
    stacks = chosen(study, only)
    again = statuses(retry)
    with campaign(
        study, out, stacks=stacks, store=store, retry=again, remeasure=remeasure,
        max_disk=max_disk, results=results, progress=progress, form=form,
    ) as begun:  # fmt: skip
        measured = begun.run()
        if then is not None:
            then(begun, measured)
        return begun.close()


@contextmanager
def campaign(
    study: Study,
    out: Path | str,
    *,
    stacks: Sequence[Stack] | None = None,
    store: Path | str | None = None,
    retry: tuple[Status, ...] = (),
    remeasure: bool = False,
    max_disk: int | None = None,
    results: str | None = None,
    progress: Progress | None = None,
    form: Form = nobody,
    tried: Collection[str] = (),
    beside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Campaign]:
    """Open a folder for work on a study (on some of its stacks): planned, nothing done yet.

    The arguments are those of :func:`run`; ``tried`` are steps that are not to be retried, since
    they just were; ``beside`` is a block for each step that works while others may measure here.
    """
    limit = checked_size(max_disk)
    folder = made(Path(out).absolute())
    place = shared_place(store, folder / STORE, limit)
    progress = progress or Silent()
    with folder_lock(folder, progress.note), study.inside():
        artifacts = artifact_store(place, folder / STORE)
        rows = ResultStore(place_of(folder, results))
        with artifacts.use(), rows, Pool(artifacts.scratch()) as pool:
            point(folder, rows.path)
            paths = (str(study.folder.absolute()),)
            wanted = study.stacks if stacks is None else stacks
            own, elsewhere = (wanted, []) if form is nobody else parted(wanted)
            plan = planned(study, own, paths, progress)
            description = hosts.describe()
            host, session = hosts.host_class(description), uuid.uuid4().hex[:12]
            bench = Bench(pool, rows, study.measure, host, session, paths)
            budget = Budget(artifacts, limit, progress.note) if limit else None
            maker = Maker(
                bench, artifacts, retry, remeasure, progress, budget, tried={*tried}, beside=beside
            )
            occasion = Occasion(
                study, elsewhere, plan, artifacts, str(place), bench, description["libraries"],
                retry, remeasure, progress,
            )  # fmt: skip
            with form(occasion) as company:
                maker.hands = company.hands
                yield Campaign(study, plan, bench, maker, folder, description, company)


@dataclass
class Campaign:
    """Work on a study in a folder: the whole of it (``run``), or some cells at a time.

    ``open``, then ``make`` and ``measure`` as often as wanted, then ``close``.
    """

    study: Study
    plan: Plan
    bench: Bench
    maker: Maker
    out: Path
    description: Mapping[str, Any]
    """Of the host, as JSON."""
    company: Company = field(default_factory=Alone)
    made: list[Runnable] = field(default_factory=list)
    """The cells whose steps were done, in that order."""
    others: twins.Others = field(default_factory=dict)

    @property
    def notes(self) -> Notes:
        """What tells of the cells that were made."""
        return Notes(self.bench, self.maker)

    @property
    def results(self) -> ResultStore:
        """The rows."""
        return self.bench.results

    @property
    def host(self) -> str:
        """The class of the host."""
        return self.bench.host

    @property
    def records(self) -> Mapping[str, StepRecord]:
        """What became of each step."""
        return self.maker.records

    # ------------------------------------------------------------ the whole

    def run(self) -> list[Runnable]:
        """Open, make and measure whatever the plan lacks; return the cells that were measured."""
        runnable = self.plan.runnable
        self.open()
        measurements = measurement_count(runnable, self.bench.settings)
        beside = self.company.steps
        self.maker.total = len({**self.plan.steps, **beside})
        self.maker.progress.start(self.maker.total, measurements)
        right = self.make(runnable, beside)
        with self.company.measuring():
            self.measure(right)
        return right

    def make(
        self, cells: Sequence[Runnable], beside: Mapping[str, Step] = MappingProxyType({})
    ) -> list[Runnable]:
        """Build and evaluate cells; return those whose artefacts are right.

        Facts of all that were built are stored. ``beside``: other steps that are done with theirs.
        """
        wanted = {key for cell in cells for key in cell.steps}
        steps = {key: step for key, step in self.plan.steps.items() if key in wanted}
        built = self.maker.make(Plan(self.study, tuple(cells), steps), beside)
        known = {cell.cell for cell in self.made}
        self.made += [cell for cell in cells if cell.cell not in known]
        notes = self.notes
        for cell in built:
            self.results.put(*notes.facts(cell))
            failpoints.reach("fact-stored")
        self.results.put(*(notes.rests(cell) for cell in cells))
        failpoints.reach("evaluated")
        return [cell for cell in built if notes.right(cell)]

    def open(self) -> None:
        """Write down the host, the session, the study and its cells as planned."""
        before = self.results.rows(HostRow, host=self.host)
        here = twins.described(self.host, self.description, before, self.bench.session)
        self.results.put(here)
        self.others = twins.others(here)
        if warning := twins.warning(self.others):
            self.maker.progress.note(warning)
        self.results.put(
            SessionRow(
                session=self.bench.session,
                study=self.study.name,
                host=self.host,
                started_at=now(),
                ended_at=None,
                command=" ".join(sys.argv),
                dlas_version=__version__,
                settings=self.bench.settings.model_dump(),
                versions=versions(self.plan, self.description),
                note="",
            )
        )
        (self.out / "study.yaml").write_text(self.study.copy(), encoding="utf-8")
        every = self.results.rows(CellRow)
        known = {row.cell: row for row in every if row.study == self.study.name}
        positions = {stack.cell: at for at, stack in enumerate(self.study.stacks)}
        kept = {cell: moved(row, positions.get(cell)) for cell, row in known.items()}
        cells = (*self.plan.cells, *self.company.cells)
        planned_now = as_planned(self.study.name, cells, positions, known)
        theirs = self._of_others(lost(planned_now, known))
        kept |= {cell: row for cell, row in planned_now.items() if cell not in theirs}
        self.results.put(*(row for cell, row in kept.items() if row != known.get(cell)))
        for sentence in left_over(self.study.name, kept.values(), every):
            self.maker.progress.note(f"{self.out}: {sentence}")
        failpoints.reach("planned")

    def _of_others(self, cells: Mapping[str, CellRow]) -> set[str]:
        """Return which of the cells that cannot run here other machines have; say so."""
        rests = self.results.rows(FactRow, kind=Rests.KIND) if cells else ()
        theirs = of_others(cells, rests, self.host, registry.labels())
        if theirs:
            self.maker.progress.note(
                f"{len(theirs)} cells cannot run here ({cells[min(theirs)].reason}); what other "
                "machines have of them stays"
            )
        return theirs

    # ------------------------------------------------------------ measuring

    def measure(
        self,
        cells: Sequence[Runnable],
        settings: MeasureSettings | None = None,
        first: int = 0,
    ) -> None:
        """Measure cells that were made, what is missing.

        ``settings``: other than the study's. ``first``: the number of the first round that counts
        (:class:`dlas.run.rounds.Rounds`); what is measured again has then been forgotten before.
        """
        bench = self.bench if settings is None else replace(self.bench, settings=settings)
        entries = [self._entry(cell) for cell in cells]
        if not first:
            self._forget(entries)
        ceilings = self._ceilings(entries) if bench.settings.ceilings else None
        self.maker.require_room()
        beside = ceilings.read if ceilings else lambda _moment: None
        rounds = Rounds(bench, self.maker.progress, beside, first)
        with machine_lock(self.maker.progress.note):
            rounds.run(entries)

    def _ceilings(self, entries: Sequence[Entry]) -> Ceilings | None:
        """Return what reads the machine's ceilings, all that it needs built; None: not asked."""
        if not entries:
            return None
        found = Ceilings(
            self.bench,
            cells=[entry.plan for entry in entries],
            caches=self.description["caches"],
            inputs={entry.plan.cell: entry.inputs for entry in entries},
        )
        steps = found.steps()
        self.maker.total += len(steps)
        self.maker.execute(steps)
        for key in steps:
            record = self.records[key]
            folder = self.maker.artifacts.path(record.content) if record.content else None
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
            key=measure_key(cell, built, self.bench.settings, self.host),
            content=built.content,
            artifact=self.maker.artifacts.path(built.content),
            inputs=self.maker.artifacts.path(inputs.content),
        )

    def _forget(self, entries: Sequence[Entry]) -> None:
        """Drop rows that are to be measured again: stale ones, and all with ``remeasure``.

        A row is stale when the artefact it timed, or how it was timed, is not what the plan says.
        """
        for entry in entries:
            cell = entry.plan.cell
            rows = self.results.rows(RoundRow, cell=cell, host=self.host)
            if not self.maker.remeasure:
                twins.require_mine([r for r in rows if r.key != entry.key], self.others)
            for row in rows:
                stale = row.key != entry.key
                again = row.status is Status.FAILED and Status.FAILED in self.maker.retry
                if self.maker.remeasure or stale or again:
                    self.results.delete(
                        RoundRow,
                        cell=cell,
                        host=self.host,
                        control=row.control,
                        round=row.round,
                    )
            for fact in self.results.rows(FactRow, cell=cell, host=self.host, kind=Observed.KIND):
                if (
                    self.maker.remeasure
                    or fact.key != entry.key
                    or fact.status in self.maker.retry
                ):
                    self.results.delete(FactRow, cell=cell, host=self.host, kind=Observed.KIND)

    # ------------------------------------------------------------ the end

    def close(self, rounds: int | None = None) -> Summary:
        """Write down what became of the cells made, and of the session.

        ``rounds``: how many make a cell complete; as many as the study asks for by default.
        """
        known = {row.cell: row for row in self.results.rows(CellRow, study=self.study.name)}
        changed = []
        for cell in self.made:
            row = replace(known[cell.cell], **self.notes.verdict(cell, rounds))
            if row != known[cell.cell]:
                changed.append(row)
        self.results.put(*changed)
        failpoints.reach("cells-stored")
        session = self.results.rows(SessionRow, session=self.bench.session)[0]
        self.results.put(replace(session, ended_at=now()))
        every_row = self.results.rows(CellRow, study=self.study.name)
        rows = [row for row in every_row if not row.dropped]
        failures = Counter((r.stage, r.reason) for r in rows if r.status is Status.FAILED)
        summary = Summary(
            study=self.study.name,
            out=self.out,
            cells=dict(Counter(str(r.status) for r in rows)),
            session=self.bench.session,
            stale=len(every_row) - len(rows),
            failures=tuple((stage, reason, n) for (stage, reason), n in failures.most_common()),
            evicted=self.maker.budget.evicted if self.maker.budget else 0,
            evicted_bytes=self.maker.budget.evicted_bytes if self.maker.budget else 0,
        )
        self.maker.progress.finish(summary)
        return summary
