"""What a run writes down of each cell before its rounds, and its verdict after them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from dlas.core.clock import now
from dlas.core.protocols import Techniques
from dlas.core.records import Stage, Status
from dlas.core.stack import LAYERS, Stack
from dlas.run.bench import Bench
from dlas.run.making import Maker
from dlas.run.measure.verdict import output_problem
from dlas.run.plan.after_build import baseline_step, evaluate_step, memory_step
from dlas.run.plan.identities import built_by, versions_of
from dlas.run.plan.plan import CellPlan, Plan, Refused, Runnable
from dlas.store.facts import Built, Evaluated, Fact, Memory, Rests
from dlas.store.results import CellRow, FactRow, RoundRow
from dlas.store.step_record import StepRecord

LABELS = "labels of the data set"
AGREEMENT = "labels of the unoptimized network"
UNTRAINED = "not measured: the weights are random"
"""What a table says of where accuracy is from."""


def versions(plan: Plan, description: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of Python, the runtimes, and all libraries that do a plan's work.

    Those of another interpreter stand beside its path.
    """
    found = {name: v for name, v in description["libraries"].items() if v}
    found["python"] = description["python"]
    for cell in plan.runnable:
        for technique in cell.techniques.all():
            if technique is not cell.techniques.software:
                found |= versions_of(technique, None)
        where = f" ({cell.techniques.software.python})" if cell.interpreter else ""
        built = built_by(cell.techniques, cell.interpreter)
        found |= {f"{name}{where}": version for name, version in built.items()}
    return dict(sorted(found.items()))


class Verdict(TypedDict):
    """What became of a cell, as its row says it."""

    status: Status
    stage: str
    reason: str
    log: str


def cell_row(study: str, cell: CellPlan, position: int) -> CellRow:
    """Return the row of a cell as it was planned."""
    texts = {layer: cell.stack.text(layer) for layer in LAYERS}
    refusal = cell.refusal if isinstance(cell, Refused) else None
    return CellRow(
        study=study,
        cell=cell.cell,
        position=position,
        stack=cell.stack.to_json(),
        **texts,
        status=Status(refusal.status) if refusal else Status.PENDING,
        stage="",
        reason=refusal.reason if refusal else "",
        log="",
    )


def moved(row: CellRow, position: int | None) -> CellRow:
    """Return a known row where the study has it now; None: it has it no longer."""
    if position is None:
        return row if row.dropped else replace(row, dropped=now())
    return replace(row, position=position, dropped="")


_REFUSED = (Status.IMPOSSIBLE, Status.UNAVAILABLE)


def as_planned(
    study: str,
    cells: Iterable[CellPlan],
    positions: Mapping[str, int],
    known: Mapping[str, CellRow],
) -> dict[str, CellRow]:
    """Return the rows of cells that are new, and of those that are refused now or were."""
    rows = {}
    for cell in cells:
        row, before = cell_row(study, cell, positions[cell.cell]), known.get(cell.cell)
        if before is None or row.status in _REFUSED or before.status in _REFUSED:
            rows[cell.cell] = row
    return rows


def lost(planned: Mapping[str, CellRow], known: Mapping[str, CellRow]) -> dict[str, CellRow]:
    """Return the rows of cells that were run, or were to be, and are unavailable now."""
    return {
        cell: row
        for cell, row in planned.items()
        if row.status is Status.UNAVAILABLE
        and cell in known
        and known[cell].status not in _REFUSED
    }


def of_others(
    cells: Mapping[str, CellRow], rests: Iterable[FactRow], host: str, labels: Collection[str]
) -> set[str]:
    """Return those of some cells that another host has made: what it knows of them holds.

    ``rests``: the facts of what cells rest on. Also of a host of the same class as this one, where
    a cell names a label that this machine does not carry.
    """
    made: dict[str, set[str]] = defaultdict(set)
    for fact in rests:
        made[fact.cell].add(fact.host)
    found = set()
    for cell, row in cells.items():
        label = Stack.from_json(row.stack).label
        if made[cell] - {host} or (made[cell] and label and label not in labels):
            found.add(cell)
    return found


def left_over(study: str, mine: Iterable[CellRow], every: Iterable[CellRow]) -> list[str]:
    """Return what to say of rows in a folder that are not, or not only, of this study."""
    rows = list(mine)
    cells = {row.cell for row in rows if not row.dropped}
    said = []
    if gone := sum(bool(row.dropped) for row in rows):
        said.append(
            f"{gone} cells are no longer in the study {study!r}: their results stay, marked as "
            "stale and left out of analysis"
        )
    others: dict[str, list[str]] = {}
    for row in every:
        if row.study != study:
            others.setdefault(row.study, []).append(row.cell)
    for name, theirs in sorted(others.items()):
        both = len(cells & {*theirs})
        said.append(
            f"there are results of the study {name!r}, too: {both} of its {len(theirs)} cells are "
            f"also of {study!r} and used as they are, the others are left out of analysis"
        )
    return said


@dataclass(frozen=True, slots=True)
class Notes:
    """Tells what became of the cells whose steps a maker had done."""

    bench: Bench
    maker: Maker

    @property
    def records(self) -> Mapping[str, StepRecord]:
        """What became of each step."""
        return self.maker.records

    # ------------------------------------------------------------ facts

    def facts(self, cell: Runnable) -> list[FactRow]:
        """Return what is known of a cell that was built."""
        built = self.records[cell.build]
        rows = [self._row(cell, built, self._built(cell, built))]
        evaluated = self._evaluation(cell)
        row = self._row(cell, evaluated, self._evaluated(cell, evaluated))
        if problem := self._problem(cell, evaluated):
            row = replace(row, status=Status.FAILED, stage=Stage.EVALUATE, reason=problem)
        rows.append(row)
        if self.bench.settings.memory:
            memory = self.records[memory_step(cell, built, self.bench.host).key]
            rows.append(self._row(cell, memory, Memory.from_json(memory.info)))
        return rows

    def rests(self, cell: Runnable) -> FactRow:
        """Return the keys of all steps that a cell rests on, as a fact."""
        keys = [*cell.steps]
        if self.maker.ok(cell.build):
            keys += [step.key for step in self.maker.after(cell)]
        return self._row(cell, self.records[cell.build], Rests(keys))

    def right(self, cell: Runnable) -> bool:
        """Return whether a cell's artefact was evaluated, and is right."""
        evaluated = self._evaluation(cell)
        return evaluated.status is Status.COMPLETE and not self._problem(cell, evaluated)

    def _row(self, cell: Runnable, record: StepRecord, fact: Fact) -> FactRow:
        failed = record.status is not Status.COMPLETE
        unknown = failed and isinstance(fact, Evaluated)
        return FactRow(
            cell=cell.cell,
            host=self.bench.host,
            kind=fact.KIND,
            key=record.key,
            content=self.records[cell.build].content,
            status=record.status,
            stage=record.stage if failed else "",
            reason=record.reason,
            log=record.log,
            value={} if unknown else fact.to_json(),
            session=self.bench.session,
            created_at=record.created_at,
            attempts=record.attempts,
        )

    def _built(self, cell: Runnable, built: StepRecord) -> Built:
        network = Built.from_json(self.records[cell.network].info)
        infos = [self.records[key].info for key in cell.steps]
        return replace(
            network,
            uncounted=network.uncounted or None,
            build_s=built.info["build_s"],
            artifact_mb=built.info["artifact_mb"],
            facts=built.info["facts"],
            achieved=[info["achieved"] for info in infos if "achieved" in info],
            weights=self.records[cell.prepared].info.get("weights"),
            versions=built_by(cell.techniques, cell.interpreter),
        )

    def _evaluation(self, cell: Runnable) -> StepRecord:
        built = self.records[cell.build]
        return self.records[evaluate_step(cell, built, self.bench.settings, self.bench.host).key]

    def _evaluated(self, cell: Runnable, evaluated: StepRecord) -> Evaluated:
        if evaluated.status is not Status.COMPLETE:
            return Evaluated()
        source = _source(cell.techniques)
        labels, correct = self._labels(evaluated)
        found = replace(
            Evaluated.from_json(evaluated.info["comparison"]),
            labels=labels,
            correct=() if source == UNTRAINED else correct,
            n=len(labels),
            ids_hash=evaluated.info["content"],
            accuracy_source=source,
        )
        baseline = self.records[baseline_step(cell, self.bench.settings, self.bench.host).key]
        if baseline.status is not Status.COMPLETE:
            return found if source == LABELS else replace(found, correct=())
        labels, correct = self._labels(baseline)
        if source == UNTRAINED:
            return replace(found, baseline_labels=labels)
        if source == AGREEMENT:
            both = zip(found.labels, labels, strict=False)
            found = replace(found, correct=[int(own == other) for own, other in both])
            correct = [1] * len(labels)
        return replace(found, baseline_labels=labels, baseline_correct=correct)

    def _labels(self, record: StepRecord) -> tuple[list[int], list[int]]:
        """Return the labels of the samples that are asked for, and whether each is correct."""
        assert record.content is not None
        file = self.maker.artifacts.path(record.content) / "evaluation.json"
        found: dict[str, list[int]] = json.loads(file.read_text())
        wanted = self.bench.settings.accuracy_samples
        return found["labels"][:wanted], found["correct"][:wanted]

    def _problem(self, cell: Runnable, evaluated: StepRecord) -> str:
        """Return why the artefact's outputs are wrong, or ``""``."""
        if evaluated.status is not Status.COMPLETE:
            return ""
        stack = cell.techniques
        problem = output_problem(evaluated.info["comparison"], stack.precision)
        if problem is None:
            return ""
        suspected = stack.software.suspected(stack, stack.hardware.describe().get("flags", ()))
        return f"{problem}; {suspected}" if suspected else problem

    # ------------------------------------------------------------ the end

    def verdict(self, cell: Runnable, wanted: int | None = None) -> Verdict:
        """Return a cell's status; stage, reason and log end are those of its first failure.

        It is complete with ``wanted`` rounds: as many as the study asks for by default.
        """
        for key in cell.steps:
            record = self.records[key]
            if record.status is not Status.COMPLETE:
                return _failed(record)
        facts = self.bench.results.rows(FactRow, cell=cell.cell, host=self.bench.host)
        rounds = self.bench.results.rows(RoundRow, cell=cell.cell, host=self.bench.host)
        seen: list[FactRow | RoundRow] = [*sorted(facts, key=lambda f: f.kind != Evaluated.KIND)]
        for row in [*seen, *rounds]:
            if row.status is Status.FAILED:
                return _failed(row)
        done = sum(r.control == 0 and r.status is Status.COMPLETE for r in rounds)
        enough = done >= (wanted or self.bench.settings.rounds.min)
        status = Status.COMPLETE if enough else Status.PENDING
        return Verdict(status=status, stage="", reason="", log="")


def _source(techniques: Techniques) -> str:
    """Say what counts as correct of a stack's outputs."""
    if techniques.model.untrained(techniques.dataset):
        return UNTRAINED
    return LABELS if techniques.dataset.labelled else AGREEMENT


def _failed(said: StepRecord | FactRow | RoundRow) -> Verdict:
    return Verdict(status=Status.FAILED, stage=said.stage, reason=said.reason, log=said.log)
