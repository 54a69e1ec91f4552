"""Undisturbed rounds: without those of disturbed times, without drift, sessions linked."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dlas.analyze.estimate.levels import Floats, codes
from dlas.analyze.estimate.rounds import Units, units_of
from dlas.analyze.estimate.sessions import Linked, linked
from dlas.analyze.estimate.steady import Steady, steadied
from dlas.analyze.estimate.strata import joined
from dlas.analyze.estimate.table import Table
from dlas.core.disturbed import ENOUGH, Disturbed, disturbed
from dlas.core.quieted import doubt


@dataclass(frozen=True)
class Spared:
    """The rounds that stand."""

    samples: pd.DataFrame
    more: dict[tuple[int, int], float] = field(default_factory=dict)
    """By row and control the variance that it has more, where too few rounds were undisturbed."""
    left_out: int = 0
    """Rounds that do not count."""

    @property
    def share(self) -> float | None:
        """Share of the rounds that do not count; None where all do."""
        return self.left_out / (self.left_out + len(self.samples)) if self.left_out else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it."""
        told = []
        if self.left_out:
            told.append(
                f"{self.left_out} of {self.left_out + len(self.samples)} rounds were measured "
                "while the machine was disturbed, as what was measured around them tells: they do "
                "not count in the undisturbed latency."
            )
        if self.more:
            n = len(self.more)
            who = f"{n} cells and A/A controls have" if n > 1 else "One cell or A/A control has"
            told.append(
                f"{who} fewer than {ENOUGH} undisturbed rounds: all of those rounds count, and "
                "the interval holds what a disturbed round reads too much."
            )
        return tuple(told)


@dataclass(frozen=True)
class Calm:
    """What is left of the rounds."""

    spared: Spared
    linked: Linked
    steady: Steady

    @property
    def units(self) -> Units:
        """The rounds."""
        return self.steady.units

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it."""
        return (*self.spared.notes, *self.steady.notes, *self.linked.notes)

    def var(self) -> Floats:
        """Return by unit what its session and disturbed rounds add to its variance."""
        more = self.spared.more
        return np.array([self.linked.each(u) + more.get(u, 0.0) for u in self.keys()])

    def doubt(self, apart: Container[tuple[int, int]]) -> float:
        """Return the sum of what their rounds leave unknown of the units, as variances.

        Args:
            apart: units, by row and control, that have no say.
        """
        own = np.array([key not in apart for key in self.keys()])[self.units.unit]
        return doubt(self.units.log[own], self.units.unit[own])

    def keys(self) -> Iterator[tuple[int, int]]:
        """Give the row and control of each unit."""
        return zip(self.units.row.tolist(), self.units.control.tolist(), strict=True)


def calmed(table: Table, samples: pd.DataFrame) -> Calm:
    """Return the rounds as the undisturbed latency takes them.

    Disturbed ones are left out where less is in doubt without them: a slow drift that all feel
    alike is taken off rather. Cells that have too few undisturbed rounds have no say in that, nor
    have those that nothing undisturbed links with the other sessions.
    """
    every, fewer = _calm(table, Spared(samples)), spared(table, samples)
    if not fewer.left_out and not fewer.more:
        return every
    some = _calm(table, fewer)
    apart = fewer.more.keys() | (set(every.keys()) - set(some.keys()))
    return some if some.doubt(apart) <= every.doubt(apart) else every


def _calm(table: Table, spared: Spared) -> Calm:
    together = linked(spared.samples)
    return Calm(spared, together, steadied(table, units_of(together.samples)))


def spared(table: Table, samples: pd.DataFrame) -> Spared:
    """Leave out the rounds that were disturbed (:mod:`dlas.core.disturbed`).

    What may be disturbed together is found out: all, what has a column of the strata in common
    (its threads, say), or a stratum. Latency as seen keeps all, and so does what was measured in
    an order that is not known.
    """
    units = units_of(samples)
    if units.order is None or not table.least:
        return Spared(samples)
    columns = [
        codes([np.asarray(joined(table, units, [each]), dtype=object)], len(units.row))[units.unit]
        for each in table.strata or ()
    ]
    found = disturbed(units.log, units.unit, units.order, columns, units.session)
    if not found.told.any():
        return Spared(samples)
    stand = samples.assign(links=found.links)[found.kept]
    return Spared(stand, _more(units, found), int(np.sum(~found.kept)))


def _more(units: Units, found: Disturbed) -> dict[tuple[int, int], float]:
    """Return the square of what disturbed rounds that stand read too much, where there are any."""
    more = np.zeros(len(units.row))
    np.maximum.at(more, units.unit, np.where(found.told & found.kept, found.more, 0.0))
    own = np.flatnonzero(more > 0)
    keys = zip(units.row[own].tolist(), units.control[own].tolist(), strict=True)
    return dict(zip(keys, (more[own] ** 2).tolist(), strict=True))
