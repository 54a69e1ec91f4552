"""The rows of output folders, arranged for tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from dlas.core.errors import UserError
from dlas.core.records import Status
from dlas.core.stack import LAYERS, Choice, Stack
from dlas.store.address import address_of
from dlas.store.bundle import home
from dlas.store.facts import Built
from dlas.store.results import (
    CeilingRow,
    CellRow,
    FactRow,
    HostRow,
    ResultStore,
    RoundRow,
    Row,
    SentinelRow,
    SessionRow,
)

R = TypeVar("R", bound=Row)
Place = tuple[str, str]
"""A cell on a host."""


@dataclass(frozen=True)
class Results:
    """All rows of one output folder, as they were at one moment."""

    folder: Path
    cells: Sequence[CellRow]
    facts: Sequence[FactRow]
    rounds: Sequence[RoundRow]
    sessions: Sequence[SessionRow]
    sentinels: Sequence[SentinelRow]
    ceilings: Sequence[CeilingRow] = ()
    hosts: Sequence[HostRow] = ()
    remembered: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was computed of these rows and is asked for by several tables."""

    @cached_property
    def facts_of(self) -> Mapping[Place, Mapping[str, FactRow]]:
        """What is known of a cell on a host, by kind; facts of an earlier artefact left out."""
        found: dict[Place, dict[str, FactRow]] = defaultdict(dict)
        for fact in self.facts:
            if self._current(fact):
                found[fact.cell, fact.host][fact.kind] = fact
        return found

    @cached_property
    def rounds_of(self) -> Mapping[Place, Sequence[RoundRow]]:
        """The rounds of a cell on a host, its controls' too; those of an earlier artefact out."""
        found: dict[Place, list[RoundRow]] = defaultdict(list)
        for row in self.rounds:
            if self._current(row):
                found[row.cell, row.host].append(row)
        return found

    @cached_property
    def hosts_of(self) -> Mapping[str, Sequence[str]]:
        """The hosts that know something of a cell, sorted."""
        found: dict[str, list[str]] = defaultdict(list)
        for cell, host in sorted({*self.facts_of, *self.rounds_of}):
            found[cell].append(host)
        return found

    @cached_property
    def study(self) -> str | None:
        """The study that ran last, of those with cells; None: none ran."""
        known = {row.study for row in self.cells}
        ran = (s for s in self.sessions if s.study in known)
        latest = max(ran, key=lambda s: s.started_at, default=None)
        return latest.study if latest else None

    @cached_property
    def rows_of_cells(self) -> Sequence[CellRow]:
        """A row for each cell, of the study that ran it last, in the order of the studies.

        Studies of other names that have the same cell share what was measured of it.
        """
        last = {s.study: s.started_at for s in sorted(self.sessions, key=lambda s: s.started_at)}
        chosen: dict[str, CellRow] = {}
        for row in self.cells:
            known = chosen.get(row.cell)
            if known is None or last.get(known.study, "") < last.get(row.study, ""):
                chosen[row.cell] = row
        return sorted(chosen.values(), key=lambda c: (c.study, c.position, c.cell))

    def stale(self, row: CellRow) -> str:
        """Return why a cell is none of the study that ran last, ``""``: it is one."""
        if self.study is not None and row.study != self.study:
            return f"of the study {row.study!r}, since which {self.study!r} ran"
        return f"taken out of the study (seen {row.dropped[:10]})" if row.dropped else ""

    @cached_property
    def stacks(self) -> Mapping[str, Stack]:
        """The stack of each cell."""
        return {row.cell: Stack.from_json(row.stack) for row in self.cells}

    @cached_property
    def texts(self) -> Mapping[str, CellRow]:
        """A row of each cell, whichever study it is of: its layers are the same in all."""
        return {row.cell: row for row in self.cells}

    @cached_property
    def _built(self) -> Mapping[Place, str | None]:
        """The artefact that a cell has now: of its build, else of its latest round."""
        latest = sorted(self.rounds, key=lambda r: r.created_at)
        found = {(r.cell, r.host): r.content for r in latest}
        return found | {(f.cell, f.host): f.content for f in self.facts if f.kind == Built.KIND}

    def _current(self, row: FactRow | RoundRow) -> bool:
        """Whether a row is about the artefact that the cell has now: never mix two artefacts."""
        built = self._built.get((row.cell, row.host))
        return built is None or row.content is None or row.content == built


Folders = Path | str | Sequence[Path | str] | Sequence[Results]
"""Output folders, or what was read from them before."""


def complete(rows: Sequence[RoundRow], control: int = 0) -> list[RoundRow]:
    """Return the rounds that were measured, of a cell or of one of its controls."""
    return [r for r in rows if r.control == control and r.status is Status.COMPLETE and r.samples]


def read(folders: Folders) -> list[Results]:
    """Read output folders (result files, bundles), one after another; what was read stays.

    Raises:
        UserError: some hold no results: all of them are named.
        StorageError: a file is damaged.
    """
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    known = [each for each in given if isinstance(each, Results)]
    if known:
        return known
    places = {address_of(Path(f)): Path(f) for f in given if not isinstance(f, Results)}
    absent = [at for at in places if isinstance(at, Path) and not at.is_file()]
    if absent:
        raise UserError(
            [
                f"{file.parent} holds no results (no {file.name}): give a folder that "
                "'dlas run' wrote."
                for file in absent
            ]
        )
    return [_read(folder, address) for address, folder in places.items()]


def _read(folder: Path, address: Path | str) -> Results:
    with ResultStore(address, read_only=True) as store:
        snapshot = store.snapshot()

    def rows(kind: type[R]) -> list[R]:
        return [row for row in snapshot[kind] if isinstance(row, kind)]

    return Results(
        folder=home(folder),
        cells=rows(CellRow),
        facts=rows(FactRow),
        rounds=rows(RoundRow),
        sessions=rows(SessionRow),
        sentinels=rows(SentinelRow),
        ceilings=rows(CeilingRow),
        hosts=rows(HostRow),
    )


def current(every: Sequence[Results]) -> list[Results]:
    """Return results without the cells that the study of their folder no longer has."""
    return [_current(each) for each in every]


def _current(results: Results) -> Results:
    kept = [row for row in results.rows_of_cells if not results.stale(row)]
    if len(kept) == len(results.cells):
        return results
    cells = {row.cell for row in kept}
    return replace(
        results,
        cells=kept,
        facts=[fact for fact in results.facts if fact.cell in cells],
        rounds=[row for row in results.rounds if row.cell in cells],
        remembered={},
    )


def choices_of(every: Sequence[Results]) -> dict[str, dict[str, tuple[Choice, ...]]]:
    """Return for each layer what its texts in the tables stand for."""
    return {
        layer: {
            stack.text(layer): stack.layer(layer)
            for results in every
            for stack in results.stacks.values()
        }
        for layer in LAYERS
    }
