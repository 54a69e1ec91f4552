"""How long a run of a plan would take, data set by data set: by guesses, or as a pilot took.

A pilot is an output folder of an earlier run on the same machine, of the same study or of a few of
its stacks. A step is expected to take as long as those steps of the pilot did that are most like
it: of the same stage, and alike at the layers that decide how long it takes, the first of them
first. What the pilot has nothing of stays a guess.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlas.core.errors import UserError
from dlas.core.records import Stage, Status
from dlas.core.stack import LAYERS
from dlas.run.plan.plan import Plan, Runnable, measurement_count
from dlas.store.artifacts import ArtifactStore
from dlas.store.facts import Rests, Timed
from dlas.store.results import FILE_NAME, CellRow, FactRow, ResultStore, RoundRow, SessionRow

GUESS_S = {
    Stage.INPUTS: 0.5, Stage.PREPARE: 1.5, Stage.OPTIMIZE: 6.0, Stage.LOWER: 4.0,
    Stage.REFERENCE: 1.0, Stage.BUILD: 3.0, Stage.EVALUATE: 1.5, Stage.MEMORY: 2.0,
}  # fmt: skip
"""Seconds a step takes where no run has told better: guesses, shown as such."""
OVERHEAD_S = 0.5
"""Seconds of a measurement beside its child's, as a guess."""
SIDE_BY_SIDE = 2
"""Steps that run at the same time, but those that measure."""
DECIDE: Mapping[Stage, tuple[str, ...]] = {
    Stage.INPUTS: ("dataset",),
    Stage.PREPARE: ("model", "dataset"),
    Stage.OPTIMIZE: ("optimization", "model", "dataset"),
    Stage.LOWER: ("model", "dataset", "optimization"),
    Stage.REFERENCE: ("model", "dataset", "optimization"),
    Stage.BUILD: ("software", "model", "dataset", "algorithm", "optimization"),
    Stage.EVALUATE: ("model", "dataset", "software", "algorithm", "optimization"),
    Stage.MEMORY: ("software", "model", "dataset", "algorithm", "optimization"),
    Stage.MEASURE: ("model", "dataset", "software", "algorithm", "optimization", "hardware"),
}
"""The layers that decide how long a step of a stage takes, the weightiest first."""
Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Took:
    """How long one step or measurement took, and of which stack it was."""

    layers: Texts
    seconds: float


@dataclass(frozen=True)
class Pilot:
    """What steps took in an earlier run; empty: none was given."""

    took: Mapping[Stage, Sequence[Took]] = field(default_factory=dict)

    def expected(self, stage: Stage, layers: Texts) -> float | None:
        """Return the mean of what the most similar steps of a stage took; None: there is none."""
        known = self.took.get(stage, ())
        if not known:
            return None
        order = DECIDE[stage]
        alike = [tuple(_alike(each.layers[x], layers[x]) for x in order) for each in known]
        best = max(alike)
        found = [t.seconds for t, how in zip(known, alike, strict=True) if how == best]
        return sum(found) / len(found)


def _alike(one: str, other: str) -> int:
    """Return 2 for the same choice, 1 for another one of the same technique, else 0."""
    return 2 if one == other else int(one.partition("(")[0] == other.partition("(")[0])


def read_pilot(folder: Path, min_seconds: float) -> Pilot:
    """Return what steps took in an output folder; ``min_seconds`` is what the plan measures for.

    Raises:
        UserError: there are no results in it.
        StorageError: they are damaged.
    """
    if not (folder / FILE_NAME).is_file():
        raise UserError(
            f"--pilot {str(folder)!r} holds no {FILE_NAME}: give the output folder of a run on "
            "this machine, of the same study or of some of its stacks."
        )
    with ResultStore(folder / FILE_NAME, read_only=True) as results:
        layers = {c.cell: {x: getattr(c, x) for x in LAYERS} for c in results.rows(CellRow)}
        facts = results.rows(FactRow, kind=Rests.KIND)
        rounds = results.rows(RoundRow, status=Status.COMPLETE)
        settings = {s.session: s.settings for s in results.rows(SessionRow)}
    took: dict[Stage, list[Took]] = defaultdict(list)
    keys = {k: layers[f.cell] for f in facts for k in Rests.from_json(f.value).keys}
    store = folder / "store"
    steps = ArtifactStore(store, create=False) if keys and store.is_dir() else None
    for key, of in keys.items():
        record = steps.get(key) if steps else None
        if record is not None and record.status is Status.COMPLETE:
            took[Stage(record.stage)].append(Took(of, record.seconds))
    for row in rounds:
        seen, here = Timed.from_json(row.value), settings.get(row.session, {})
        if seen.child_s is not None:
            longer = min_seconds - float(here.get("min_seconds", min_seconds))
            seconds = seen.child_s + (row.overhead_s or 0.0) + longer
            took[Stage.MEASURE].append(Took(layers[row.cell], max(0.0, seconds)))
    return Pilot(took)


# ---------------------------------------------------------------- a plan


@dataclass
class _Tally:
    """What the stacks of one data set come to."""

    cells: int = 0
    steps: int = 0
    guessed: int = 0
    """Steps and measurements of which the pilot knows nothing."""
    measurements: float = 0.0
    seconds: float = 0.0

    def add(self, stage: Stage, known: float | None, guess: float, times: float = 1.0) -> None:
        self.guessed += known is None
        self.seconds += times * (guess if known is None else known)


def by_dataset(plan: Plan, pilot: Pilot) -> list[dict[str, Any]]:
    """Return for each data set of a plan its cells, steps, measurements and seconds.

    ``guessed`` counts those steps and stacks whose time is a guess.
    """
    runnable, parts = plan.runnable, defaultdict[str, _Tally](_Tally)
    done = set[str]()
    for cell in runnable:
        part, layers = parts[cell.text("dataset")], _layers(cell)
        part.cells += 1
        for name, stage, share in _steps(plan, cell):
            if name in done:
                continue
            done.add(name)
            part.steps += stage is not Stage.MEMORY
            part.add(stage, pilot.expected(stage, layers), GUESS_S[stage], share)
    _measurements(plan, pilot, parts)
    return [
        {
            "dataset": name, "cells": part.cells, "steps": part.steps,
            "measurements": round(part.measurements), "expected_s": round(part.seconds),
            "guessed": part.guessed,
        }
        for name, part in parts.items()
    ]  # fmt: skip


def _layers(cell: Runnable) -> Texts:
    return {x: cell.stack.text(x) for x in LAYERS}


def _steps(plan: Plan, cell: Runnable) -> Iterable[tuple[str, Stage, float]]:
    """Give the steps of a cell before its rounds: a name, the stage, its share of the time."""
    apart = 1 / SIDE_BY_SIDE
    for key in cell.steps:
        step = plan.steps[key]
        yield key, step.stage, 1.0 if step.alone else apart
    yield f"evaluate {cell.build}", Stage.EVALUATE, apart
    if plan.study.measure.memory:
        yield f"memory {cell.build} {cell.threads}", Stage.MEMORY, apart


def _measurements(plan: Plan, pilot: Pilot, parts: Mapping[str, _Tally]) -> None:
    """Add the rounds; A/A controls are spread over all cells alike."""
    runnable, settings = plan.runnable, plan.study.measure
    if not runnable:
        return
    of_each = measurement_count(runnable, settings) / len(runnable)
    guess = settings.min_seconds + 4 * settings.warmup_seconds + OVERHEAD_S
    alike = Counter((c.text("dataset"), json.dumps(_layers(c))) for c in runnable)
    for (dataset, text), cells in alike.items():
        known = pilot.expected(Stage.MEASURE, json.loads(text))
        parts[dataset].measurements += cells * of_each
        parts[dataset].add(Stage.MEASURE, known, guess, cells * of_each)
