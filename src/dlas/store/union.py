"""The rows of several output folders as those of one, or what keeps them from being that.

What a host knows of a cell, its facts and rounds, is taken whole from one source: rounds of two
campaigns under the same numbers are not one sample. Where two sources have the same cell of one
host and neither holds all that the other does, that is a conflict, which a person has to decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TypeVar

from dlas.core.errors import UserError, listed
from dlas.core.records import Status
from dlas.core.stack import Stack
from dlas.store.facts import Rests, machines_of, with_machines
from dlas.store.rows import (
    CeilingRow,
    CellRow,
    FactRow,
    HostRow,
    RoundRow,
    Row,
    SentinelRow,
    SessionRow,
)

R = TypeVar("R", bound=Row)
Place = tuple[str, str]
"""A cell on a host."""
Known = Mapping[tuple[str, ...], FactRow | RoundRow]
"""What is known of one, by what makes two rows the same."""
_SHOWN = 5
"""Conflicts named one by one."""
_BETTER = (
    Status.COMPLETE, Status.FAILED, Status.PENDING, Status.UNAVAILABLE, Status.IMPOSSIBLE,
)  # fmt: skip
"""Of what two sources say of a cell, what is said of it in the end: the first of these."""


@dataclass(frozen=True)
class Origin:
    """All rows of one output folder, by table, and what a person calls it."""

    name: str
    rows: Mapping[type[Row], Sequence[Row]]

    def of(self, kind: type[R]) -> list[R]:
        """Return the rows of one table."""
        return [row for row in self.rows.get(kind, ()) if isinstance(row, kind)]

    @cached_property
    def places(self) -> Mapping[Place, Known]:
        """What is known of each cell on each host."""
        found: dict[Place, dict[tuple[str, ...], FactRow | RoundRow]] = defaultdict(dict)
        for fact in self.of(FactRow):
            found[fact.cell, fact.host]["fact", fact.kind] = fact
        for row in self.of(RoundRow):
            found[row.cell, row.host]["round", str(row.control), str(row.round)] = row
        return found

    @cached_property
    def latest(self) -> str:
        """When its last session began."""
        return max((session.started_at for session in self.of(SessionRow)), default="")


def union(sources: Sequence[Origin], prefer: str | None = None) -> list[Row]:
    """Return the rows of all sources; in conflicts those of the source called ``prefer``.

    Where one source holds all that the others do of a cell on a host, there is no conflict.

    Raises:
        UserError: there are conflicts, each named; or rows that say what cannot be.
    """
    problems = [*chain(*(_lies(source) for source in sources))]
    made = [*_hosts(sources), *_of_sessions(sources, problems)]
    conflicts = []
    decided: dict[str, Origin] = {}
    for place in sorted({place for source in sources for place in source.places}):
        chosen = _largest(place, sources)
        if chosen is None:
            chosen = _preferred(place, sources, prefer)
            if chosen is None:
                conflicts.append(_conflict(place, sources))
                continue
            decided[place[0]] = chosen
        made += chosen.places[place].values()
    made += _cells(sources, decided)
    if conflicts:
        names = " or ".join(f"--prefer {source.name}" for source in sources)
        more = len(conflicts) - _SHOWN
        problems += conflicts[:_SHOWN]
        problems += [f"... and {more} more cells"] if more > 0 else []
        problems.append(
            "Numbers of one host are taken from one source, never pooled: say whose with "
            f"{names}, or leave one out."
        )
    if problems:
        raise UserError(problems)
    return made


# ------------------------------------------------------------ cells on hosts


def _largest(place: Place, sources: Sequence[Origin]) -> Origin | None:
    """Return the source that holds all that is known of a cell on a host, None: none does."""
    known = [source for source in sources if place in source.places]
    ranked = sorted(known, key=lambda source: -len(source.places[place]))
    first = ranked[0].places[place]
    within = all(
        name in first and _same(first[name], row)
        for source in ranked[1:]
        for name, row in source.places[place].items()
    )
    return ranked[0] if within else None


def _preferred(place: Place, sources: Sequence[Origin], prefer: str | None) -> Origin | None:
    """Return the source that counts in conflicts, where it knows of the cell on the host."""
    wanted = (each for each in sources if each.name == prefer and place in each.places)
    return next(wanted, None)


def _same(one: Row, two: Row) -> bool:
    """Return whether two rows say the same; a later run writes facts down again as they are."""
    if isinstance(one, FactRow) and isinstance(two, FactRow):
        if one.kind == Rests.KIND:
            return True  # what clean keeps, not what was seen
        two = replace(two, session=one.session, created_at=one.created_at)
    return one == two


def _conflict(place: Place, sources: Sequence[Origin]) -> str:
    cell, host = place
    told = []
    for source in sources:
        rows = source.places.get(place, {}).values()
        rounds = [row for row in rows if isinstance(row, RoundRow)]
        if rows:
            when = min(row.created_at for row in rows)[:10] or "some day"
            told.append(f"{source.name} ({len(rounds)} rounds, {when})")
    return f"cell {cell} of host {host} is in {listed(told)}, and they differ."


# ------------------------------------------------------------ the other tables


def _lies(source: Origin) -> Iterable[str]:
    """Say which rows cannot have been written by a run."""
    for row in source.of(CellRow):
        try:
            real = Stack.from_json(row.stack).cell
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield f"{source.name}: the stack of cell {row.cell} cannot be read ({error})."
            continue
        if real != row.cell:
            yield f"{source.name}: a row is called cell {row.cell}, its stack is cell {real}."
    known = {row.cell for row in source.of(CellRow)}
    strange = {cell for cell, _ in source.places} - known
    if strange:
        yield f"{source.name}: rows of cells that no study has: {listed(sorted(strange))}."


def _hosts(sources: Sequence[Origin]) -> list[Row]:
    """Return each host as the source that ran last describes it, with the machines of all."""
    found: dict[str, HostRow] = {}
    for source in sorted(sources, key=lambda each: each.latest):
        for row in source.of(HostRow):
            before = found.get(row.host)
            found[row.host] = row if before is None else _with_both(row, before)
    return [*found.values()]


def _with_both(row: HostRow, before: HostRow) -> HostRow:
    """Return a host's row with the machines of another one beside its own, and their sessions."""
    known = machines_of(before)
    for name, machine in machines_of(row).items():
        earlier = known[name].sessions if name in known else ()
        known[name] = replace(machine, sessions=[*dict.fromkeys([*earlier, *machine.sessions])])
    return with_machines(row, known)


def _of_sessions(sources: Sequence[Origin], problems: list[str]) -> list[Row]:
    """Return the sessions, with their sentinels and ceilings; note what two tell differently."""
    found: dict[tuple[str, ...], tuple[str, Row]] = {}
    for source in sources:
        of = (*source.of(SessionRow), *source.of(SentinelRow), *source.of(CeilingRow))
        for row in of:
            name = (row.TABLE, *(str(getattr(row, field)) for field in row.PRIMARY))
            before = found.get(name)
            if before is None or _longer(before[1], row):
                found[name] = source.name, row
            elif row != before[1] and not _longer(row, before[1]):
                problems.append(
                    f"{row.TABLE[:-1]} {' '.join(name[1:])} is in {before[0]} and {source.name}, "
                    "and they differ: one is damaged, or was changed."
                )
    return [row for _, row in found.values()]


def _longer(before: Row, after: Row) -> bool:
    """Return whether the second is the first, seen later: a session that had not ended."""
    if not (isinstance(before, SessionRow) and isinstance(after, SessionRow)):
        return False
    return before.ended_at is None and replace(after, ended_at=None) == before


def _cells(sources: Sequence[Origin], decided: Mapping[str, Origin]) -> list[Row]:
    """Return each study's cells; ``decided``: whose word counts of a cell that is in conflict."""
    found: dict[tuple[str, str], dict[str, CellRow]] = defaultdict(dict)
    for source in sources:
        for row in source.of(CellRow):
            found[row.study, row.cell][source.name] = row
    return [_one(said, decided.get(cell)) for (_, cell), said in found.items()]


def _one(said: Mapping[str, CellRow], preferred: Origin | None) -> CellRow:
    """Return what sources say of a cell of one study; dropped only where all dropped it."""
    rows = [*said.values()]
    best = min(rows, key=lambda row: _BETTER.index(row.status))
    if preferred is not None:
        best = said.get(preferred.name, best)
    position, dropped = min(row.position for row in rows), min(row.dropped for row in rows)
    return replace(best, position=position, dropped=dropped)
