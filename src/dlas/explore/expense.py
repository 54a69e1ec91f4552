"""What measuring a stack is expected to cost: the steps that no stack before it has needed.

A function of the plan and of what was named before alone, so that a sampler which is taken up
weighs as it did. Seconds are typical ones, as ``dlas plan`` guesses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dlas.core.records import Stage
from dlas.run.plan.durations import GUESS_S, OVERHEAD_S
from dlas.run.plan.plan import Plan, Runnable

TRAINING_S = 60.0
"""A step that is given the training images fine-tunes, or calibrates."""
TUNING_S = 300.0
"""A build that measures tunes."""


@dataclass
class Expense:
    """Adds up what stacks cost, given those that were named before."""

    plan: Plan
    cells: Sequence[Runnable]
    _done: set[str] = field(default_factory=set)
    _seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.plan.study.measure
        self._region = settings.min_seconds + 4 * settings.warmup_seconds + OVERHEAD_S
        for cell in self.cells:
            self._add(cell)

    def _add(self, cell: Runnable) -> None:
        """Guess the seconds of the steps of one cell, and of what looks at its artefact."""
        training = any(o.data == "train" for o in cell.techniques.optimization)
        for key in cell.steps:
            stage = self.plan.steps[key].stage
            seconds = GUESS_S[stage]
            if stage is Stage.OPTIMIZE and training:
                seconds = TRAINING_S
            if self.plan.steps[key].alone:
                seconds = TUNING_S
            self._seconds[key] = seconds
        for name, stage in ((_evaluation(cell), Stage.EVALUATE), (_memory(cell), Stage.MEMORY)):
            self._seconds[name] = GUESS_S[stage]

    def named(self, cell: Runnable) -> None:
        """Take note that a cell is measured: what it needed costs nothing any more."""
        self._done.update(_needs(cell))

    def seconds(self) -> list[float]:
        """Return what each cell would cost now."""
        return [
            self._region + sum(self._seconds[n] for n in _needs(cell) if n not in self._done)
            for cell in self.cells
        ]


def _needs(cell: Runnable) -> tuple[str, ...]:
    return (*cell.steps, _evaluation(cell), _memory(cell))


def _evaluation(cell: Runnable) -> str:
    return f"evaluate {cell.build}"


def _memory(cell: Runnable) -> str:
    return f"memory {cell.build} {cell.text('hardware')}"
