"""Machines of one kind are one host (measure/host.py): which of them ran, whose rounds are whose.

What a database holds of a host says which machines ran under it, and in which sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dlas.core.errors import UserError, listed
from dlas.run.measure.host import MACHINE, machine_id
from dlas.store.facts import Machine, machines_of, with_machines
from dlas.store.rows import HostRow, RoundRow

Others = Mapping[str, str]
"""The sessions of other machines of this kind, with the name of the machine of each."""


def described(
    host: str, description: Mapping[str, Any], before: Iterable[HostRow], session: str
) -> HostRow:
    """Return the row of a host on which another session begins; ``before``: its row so far."""
    me = machine_id()
    known: dict[str, Machine] = {}
    for row in before:
        known |= machines_of(row)
    if me:
        sessions = known[me].sessions if me in known else ()
        known[me] = Machine(str(description["name"]), [*sessions, session])
    return with_machines(HostRow(host=host, description=dict(description)), known)


def others(row: HostRow) -> Others:
    """Return the sessions of other machines than this one."""
    me = machine_id()
    theirs = [each for name, each in machines_of(row).items() if me and name != me]
    return {session: machine.name for machine in theirs for session in machine.sessions}


def warning(theirs: Others) -> str | None:
    """Return what to say of other machines of this kind; None: there are none."""
    if not theirs:
        return None
    names = listed(sorted(set(theirs.values())))
    return (
        f"{names} of the same kind ran into these results: its rounds and those measured here "
        f"count as one host's. {MACHINE}=NAME makes this machine a host of its own"
    )


def require_mine(stale: Iterable[RoundRow], theirs: Others) -> None:
    """Refuse to drop what another machine measured, since that was of other artefacts.

    Raises:
        UserError: names the machines and a cell.
    """
    lost = [row for row in stale if row.session in theirs]
    if lost:
        names = listed(sorted({theirs[row.session] for row in lost}))
        raise UserError(
            f"{len(lost)} rounds, of cell {lost[0].cell} for one, were measured on {names}, of "
            "the same kind as this machine, with other artefacts or settings than here, and would "
            f"be lost: give --store that both share, {MACHINE}=NAME to keep them apart, or "
            "--remeasure to have all measured here."
        )
