"""A run with the machines of a Dask scheduler: who plans, who does steps, who measures what.

A cell that names a label (``hardware: {cpu: {on: big}}``) is planned by a machine that carries it,
since its processor and its libraries decide; its steps are done by whichever machine would give
them the same keys; one machine then evaluates and measures all cells of a label, as a run of its
own into the same database, under its own host and session. Cells without a label are measured
here, as ever.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty

from dlas.core import registry
from dlas.core.errors import StorageError, UserError, listed, near
from dlas.core.protocols import unavailable
from dlas.core.stack import Stack
from dlas.run.company import Company, Form, Occasion
from dlas.run.engines.dask import Crew, Errand
from dlas.run.engines.errands import Commission, Enrolled, Lost, MeasureErrand, Reply
from dlas.run.engines.spread import Spread
from dlas.run.engines.wire import Wire
from dlas.run.plan.plan import CellPlan, Refused, Runnable, Step
from dlas.store.remote import is_remote
from dlas.store.results import FactRow

VARIABLE = "DLAS_GATHER"
"""The environment's name for the seconds that workers which are not there are waited for."""
GATHER_S = 20.0
"""How long they are waited for otherwise."""
_SHOW_S = 0.2


@dataclass(frozen=True, slots=True)
class Posting:
    """The cells of one label, and the class of the hosts that measures them."""

    label: str
    host: str
    machine: str
    cells: tuple[CellPlan, ...]
    steps: Mapping[str, Step]

    @property
    def runnable(self) -> frozenset[str]:
        """The cells that can be measured."""
        return frozenset(cell.cell for cell in self.cells if isinstance(cell, Runnable))

    def able(self, machine: Enrolled) -> bool:
        """Return whether a machine can measure them: it would have planned the same."""
        same = machine.host == self.host and self.label in machine.labels
        return same and self.steps.keys() <= machine.keys


@dataclass
class Team:
    """The company of a run that has machines."""

    crew: Crew
    occasion: Occasion
    postings: Sequence[Posting] = ()
    cells: Sequence[CellPlan] = ()
    steps: Mapping[str, Step] = field(default_factory=dict)
    hands: Spread | None = None

    def measuring(self) -> _Measuring:
        """Return a block beside which the cells elsewhere are measured."""
        return _Measuring(self)

    def show(self) -> None:
        """Tell the person who watches what there is to tell."""
        progress = self.occasion.progress
        while True:
            try:
                said = self.crew.heard.get_nowait()
            except Empty:
                return
            if said.total:
                text = f"{said.machine}: {said.text}"
                progress.measurement(text, said.done, said.total, said.left_s)
            else:
                progress.note(f"{said.machine}: {said.text}" if said.machine else said.text)


def gathering() -> float:
    """Return for how many seconds workers are waited for that are not there when a run begins.

    Raises:
        UserError: the environment asks for what is no number of seconds.
    """
    said = os.environ.get(VARIABLE, "")
    try:
        seconds = float(said or GATHER_S)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise UserError(f"{VARIABLE}={said!r}: must be seconds from 0 to 86400")
    return seconds


def dask(wire: Wire) -> Form:
    """Return what forms a run's company of the machines of a scheduler.

    Raises:
        UserError: the environment asks for what is no time to wait. When it is called: no
            scheduler answers; or cells are to be measured elsewhere, and their rows would have to
            go into a file.
    """
    gather_s = gathering()

    @contextmanager
    def form(occasion: Occasion) -> Iterator[Company]:
        _require_database(occasion)
        mine = registry.source_version("dlas")
        crew = Crew(wire, _commission(occasion), lambda machine: machine.dlas == mine)
        try:
            yield _team(crew, occasion, gather_s)
        finally:
            crew.close()

    return form


def _require_database(occasion: Occasion) -> None:
    place = occasion.bench.results.path
    if occasion.elsewhere and not (isinstance(place, str) and "://" in place):
        labels = sorted({stack.label for stack in occasion.elsewhere})
        raise UserError(
            f"cells that run on other machines (on: {', '.join(labels)}) need results that those "
            "reach: give --results postgresql://USER@HOST:PORT/DATABASE"
        )


def _commission(occasion: Occasion) -> Commission:
    place = occasion.bench.results.path
    return Commission(
        session=occasion.bench.session,
        study=occasion.study,
        store=occasion.store,
        proof=None if is_remote(occasion.store) else str(occasion.artifacts.scratch()),
        results=place if isinstance(place, str) else "",
        retry=occasion.retry,
        remeasure=occasion.remeasure,
    )


def _team(crew: Crew, occasion: Occasion, gather_s: float) -> Team:
    wanted = {stack.label for stack in occasion.elsewhere}
    team = Team(crew, occasion)
    machines = crew.gather(wanted, gather_s)
    team.show()
    if not machines:
        occasion.progress.note("no machine works for this run yet: its steps are done here")
    team.postings = [_posting(label, machines, occasion) for label in sorted(wanted)]
    team.cells = [cell for posting in team.postings for cell in posting.cells]
    team.steps = {key: step for p in team.postings for key, step in p.steps.items()}
    team.hands = Spread(
        crew=crew,
        libraries=occasion.libraries,
        elsewhere=team.steps.keys() - occasion.plan.steps.keys(),
        show=team.show,
    )
    return team


# ---------------------------------------------------------------- cells of other machines


def _posting(label: str, machines: Sequence[Enrolled], occasion: Occasion) -> Posting:
    """Return the cells of a label as a machine that carries it plans them."""
    stacks = [stack for stack in occasion.elsewhere if stack.label == label]
    carrying = [machine for machine in machines if label in machine.labels]
    if not carrying:
        return Posting(label, "", "", tuple(_refused(stacks, label, machines)), {})
    host = _host(stacks, carrying, occasion)
    planner = min((m for m in carrying if m.host == host), key=lambda m: m.name)
    wanted = {stack.cell for stack in stacks}
    cells = tuple(cell for cell in planner.cells if cell.cell in wanted)
    keys = {key for cell in cells if isinstance(cell, Runnable) for key in cell.steps}
    others = {m.host for m in carrying} - {host}
    if others:
        occasion.progress.note(
            f"on: {label} is carried by machines of {len(others) + 1} kinds: measured on those "
            f"like {planner.name} (host {host})"
        )
    steps = {key: step for key, step in planner.steps.items() if key in keys}
    return Posting(label, host, planner.name, cells, steps)


def _refused(
    stacks: Sequence[Stack], label: str, machines: Sequence[Enrolled]
) -> Iterator[Refused]:
    known = sorted({each for machine in machines for each in machine.labels})
    there = f"there are {listed(known, 8)}" if known else "no machine has a label"
    reason = (
        f"no machine with the label {label!r} works for the scheduler.{near(label, known)} "
        f"({there}): start `dlas workers --labels {label}` on it, then run again"
    )
    for stack in stacks:
        yield Refused(stack, unavailable(reason))


def _host(stacks: Sequence[Stack], carrying: Sequence[Enrolled], occasion: Occasion) -> str:
    """Return the class of hosts that measures: where there are results already, else the most."""
    cells = {stack.cell for stack in stacks}
    have = Counter(row.host for row in occasion.bench.results.rows(FactRow) if row.cell in cells)
    there = Counter(machine.host for machine in carrying)
    return max(there, key=lambda host: (have[host], there[host], host))


@dataclass
class _Measuring:
    """A block beside which the cells of each label are measured on a machine of it."""

    team: Team
    _given: list[tuple[Posting, Future[Reply]]] = field(default_factory=list)

    def __enter__(self) -> None:
        for posting in self.team.postings:
            if posting.runnable:
                errand = Errand(
                    method="measure",
                    given=MeasureErrand(posting.runnable, frozenset(posting.steps)),
                    text=f"measure-{posting.label}",
                    able=posting.able,
                    alone=True,
                )
                self._given.append((posting, self.team.crew.send(errand)))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.team.crew.recall_all("measure")
            return
        while not all(future.done() for _, future in self._given):
            self.team.show()
            time.sleep(_SHOW_S)
        self.team.show()
        for posting, future in self._given:
            try:
                answer = future.result()
            except Lost as error:
                raise StorageError(
                    f"on: {posting.label}: whatever measured died over it ({error}); the same "
                    "command goes on"
                ) from error
            if answer.problem:
                raise StorageError(f"on: {posting.label}: {answer.problem}")
