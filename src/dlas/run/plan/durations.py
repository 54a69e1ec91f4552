"""How long a run of a plan would take, data set by data set: by guesses, or as a pilot took.

A step is expected to take as long as those steps of a pilot did that are most like it. What the
pilot has nothing of stays a guess.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dlas.core.records import Stage
from dlas.run.plan.counts import measurement_count
from dlas.run.plan.pilot import Named, Pilot
from dlas.run.plan.plan import Plan, Runnable

GUESS_S = {
    Stage.INPUTS: 0.5, Stage.PREPARE: 1.5, Stage.OPTIMIZE: 6.0, Stage.LOWER: 4.0,
    Stage.REFERENCE: 1.0, Stage.BUILD: 3.0, Stage.EVALUATE: 1.5, Stage.MEMORY: 2.0,
}  # fmt: skip
"""Seconds a step takes where no run has told better: guesses, shown as such."""
OVERHEAD_S = 0.5
"""Seconds of a measurement beside its child's, as a guess."""
SIDE_BY_SIDE = 2
"""Steps that run at the same time, but those that measure."""


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
        part, of = parts[cell.text("dataset")], Named(cell.stack)
        part.cells += 1
        for name, stage, share in _steps(plan, cell):
            if name in done:
                continue
            done.add(name)
            part.steps += stage is not Stage.MEMORY
            part.add(stage, pilot.seconds(stage, of), GUESS_S[stage], share)
    _measurements(plan, pilot, parts)
    return [
        {
            "dataset": name, "cells": part.cells, "steps": part.steps,
            "measurements": round(part.measurements), "expected_s": round(part.seconds),
            "guessed": part.guessed,
        }
        for name, part in parts.items()
    ]  # fmt: skip


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
    for cell in runnable:
        part = parts[cell.text("dataset")]
        part.measurements += of_each
        part.add(Stage.MEASURE, pilot.seconds(Stage.MEASURE, Named(cell.stack)), guess, of_each)
