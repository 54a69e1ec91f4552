"""What a run and the machines that work for it say to each other: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dlas.core.errors import DlasError
from dlas.core.keys import Json
from dlas.core.records import Status
from dlas.run.engines.hands import Needs
from dlas.run.plan.plan import CellPlan, Step
from dlas.store.step_record import StepRecord
from dlas.study.study import Study

Method = Literal["enrol", "step", "measure"]


class Lost(DlasError):
    """What did an errand for a run is not there any more; nothing is known about the errand.

    ``address`` is the worker's, where that is known; ``begun`` says whether the errand can have
    been what it died of.
    """

    def __init__(self, said: str, address: str = "", begun: bool = True) -> None:
        self.said = said
        self.address = address
        self.begun = begun
        super().__init__(said, address, begun)  # all: it is pickled by them

    def __str__(self) -> str:
        return self.said


@dataclass(frozen=True, slots=True)
class Commission:
    """What a machine has to know of a run before it can work for it."""

    session: str
    study: Study
    store: str
    proof: str | None
    """A folder in the store, which only who shares it can see; None: an object store."""
    results: str
    """The database of the rows; empty: they are in a file, which other machines never write."""
    retry: tuple[Status, ...]
    remeasure: bool


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a machine is, and what it can do for a run.

    Its own plan of the study tells: a step whose key it would have written itself would be the
    same there, whatever libraries, files and processor that rests on.
    """

    name: str
    host: str = ""
    """The class of the host."""
    labels: frozenset[str] = frozenset()
    slots: int = 0
    keys: frozenset[str] = frozenset()
    """Of the steps in its own plan."""
    cells: tuple[CellPlan, ...] = ()
    """Those that name a label of it, as it plans them."""
    steps: Mapping[str, Step] = field(default_factory=dict)
    """The steps of those cells."""
    dlas: str = ""
    """The hash of its dlas."""
    libraries: Mapping[str, str | None] = field(default_factory=dict)
    """Its runtimes' versions."""
    problem: str = ""
    """Why it cannot work for the run."""


@dataclass(frozen=True, slots=True)
class StepErrand:
    """One step to do; as :class:`dlas.run.engines.hands.Chore` has it."""

    step: Step
    needs: Needs
    files: bool
    anew: bool


@dataclass(frozen=True, slots=True)
class MeasureErrand:
    """Cells to evaluate and measure; their steps up to the build are done."""

    cells: frozenset[str]
    tried: frozenset[str]
    """The keys of those steps: what failed of them was tried by this run, and is not again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of an errand: a record, or why the run cannot go on like this."""

    record: StepRecord | None = None
    known: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    """Cells by status, where cells were measured."""
    damaged: str = ""
    """The content of an artefact that was found damaged."""
    problem: str = ""
    nobody: bool = False
    """No machine could do it."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What a machine says while it works: a note, or which measurement it is at."""

    machine: str
    text: str
    done: int = 0
    total: int = 0
    left_s: float = 0.0

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form that the constructor takes."""
        return {name: getattr(self, name) for name in self.__slots__}
