"""Who works for a run beside this machine: nobody, or what a cluster makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from dlas.core.records import Status
from dlas.core.stack import Stack
from dlas.run.bench import Bench
from dlas.run.engines.hands import Hands
from dlas.run.plan.plan import CellPlan, Plan, Step
from dlas.run.progress import Progress
from dlas.store.artifacts import ArtifactStore
from dlas.study.study import Study


class Company(Protocol):
    """What other machines do for a run."""

    @property
    def hands(self) -> Hands | None:
        """Who does the steps; None: this machine alone."""

    @property
    def cells(self) -> Sequence[CellPlan]:
        """The cells that are measured elsewhere, as they are planned there."""

    @property
    def steps(self) -> Mapping[str, Step]:
        """The steps of those cells."""

    def measuring(self) -> AbstractContextManager[None]:
        """Return a block beside which those cells are measured; it ends when they are."""


@dataclass(frozen=True, slots=True)
class Alone:
    """No other machine."""

    hands: Hands | None = None
    cells: tuple[CellPlan, ...] = ()
    steps: Mapping[str, Step] = field(default_factory=dict)

    def measuring(self) -> AbstractContextManager[None]:
        """Return a block that does nothing."""
        return nullcontext()


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a company is formed for."""

    study: Study
    elsewhere: Sequence[Stack]
    """The stacks that name a label which this machine does not carry."""
    plan: Plan
    """Of the others."""
    artifacts: ArtifactStore
    store: str
    """Where the artefacts are, as other machines have to be told."""
    bench: Bench
    libraries: Mapping[str, str | None]
    """The runtimes' versions here."""
    retry: tuple[Status, ...]
    remeasure: bool
    progress: Progress


Form = Callable[[Occasion], AbstractContextManager[Company]]
"""Forms a company for the time of a run."""


def nobody(occasion: Occasion) -> AbstractContextManager[Company]:
    """Form a company of one."""
    return nullcontext(Alone())
