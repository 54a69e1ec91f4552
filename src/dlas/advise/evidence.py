"""Output folders -> what is known here and elsewhere, and the stack that all is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dlas.analyze import Analysis, analyze
from dlas.core.errors import UserError
from dlas.core.goals import Goals
from dlas.core.records import MeasureSettings
from dlas.core.stack import LAYERS, Stack
from dlas.run.measure import host as hosts
from dlas.store.address import address_of
from dlas.store.results import HostRow, ResultStore
from dlas.tables import intake
from dlas.tables.read import Results, read

METRIC = "quiet_ms"
"""What is analysed unless another is asked for, as in the report."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What one host measured in one folder."""

    folder: Path
    host: str
    cpu: str
    results: Results
    analysis: Analysis
    goals: Goals

    @property
    def metric(self) -> str:
        """What is analysed: the latency undisturbed, or as seen."""
        return self.analysis.table.metric

    @cached_property
    def rows(self) -> dict[str, Row]:
        """The rows of ``dlas table`` by cell."""
        return {str(row["cell"]): row for row in self.analysis.table.cells.to_dict("records")}

    @cached_property
    def best(self) -> str:
        """The best cell under the goals; where none meets them, the fastest."""
        if self.analysis.best.cell:
            return self.analysis.best.cell
        done = {c: r for c, r in self.rows.items() if _number(r, self.metric) is not None}
        return min(done, key=lambda cell: float(done[cell][self.metric]))

    @property
    def stack(self) -> Stack:
        """The stack of the best cell."""
        return self.results.stacks[self.best]

    def tried(self, layer: str) -> set[str]:
        """Return the choices of a layer that some complete stack has."""
        return set(self.analysis.table.levels[layer])

    def numbers(self, *cells: str, columns: Sequence[str] = ()) -> dict[str, dict[str, float]]:
        """Return what the table has of cells, as far as it was measured: else the metric."""
        columns = columns or (self.metric,)
        found = {}
        for cell in cells:
            values = {c: v for c in columns if (v := _number(self.rows[cell], c)) is not None}
            found[cell] = values
        return found

    def settings(self) -> dict[str, Any]:
        """Return how the study was measured, where it differs from the defaults."""
        sessions = sorted(self.results.sessions, key=lambda s: s.started_at)
        given = sessions[-1].settings if sessions else {}
        usual = MeasureSettings.model_validate({}).model_dump()
        return {n: v for n, v in given.items() if n in usual and v != usual[n]}


def _number(row: Row, column: str) -> float | None:
    value = row.get(column)
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def gather(
    folders: Sequence[Path], analysed: Analysis | None = None, metric: str = METRIC
) -> tuple[Evidence, list[Evidence], list[str]]:
    """Return what is known here, what elsewhere, and what a reader must know of that.

    Here is this machine where some folder holds measurements of it, else the first folder's
    first host: rules and next experiments are of this machine all the same. ``analysed``: what
    the analysis of the only folder found, where that is known.

    Raises:
        UserError: a folder holds no results, or none has a complete stack.
    """
    known = [each for folder in folders for each in _of_folder(folder, analysed, metric)]
    if not known:
        raise UserError(
            f"{', '.join(map(str, folders))}: no stack is complete, so nothing can be advised; "
            "`dlas run` completes them"
        )
    this = hosts.this_class()
    mine = next((each for each in known if each.host == this), None)
    here = mine or known[0]
    notes = []
    if mine is None:
        notes.append(
            f"no folder holds measurements of this machine: `here` is {here.cpu} of "
            f"{here.folder}, while rules and commands are for this machine"
        )
    elsewhere = [each for each in known if each is not here]
    notes += [f"elsewhere: {each.folder}, {alike(here, each)}" for each in elsewhere]
    return here, elsewhere, notes


def _of_folder(folder: Path, analysed: Analysis | None, metric: str) -> list[Evidence]:
    (results,) = read([folder])
    with ResultStore(address_of(results.folder), read_only=True) as store:
        names = {
            row.host: str(row.description.get("cpu", row.host)) for row in store.rows(HostRow)
        }
    found = []
    every = sorted({row.host for row in results.rounds})
    if {fact.host for fact in results.facts} - {*every} or len(every) > 1:
        analysed = None  # it is of several hosts
    if analysed is not None and not analysed.table.complete.any():
        return []
    for host in every:
        own = replace(
            results,
            facts=[fact for fact in results.facts if fact.host == host],
            rounds=[row for row in results.rounds if row.host == host],
            remembered={},
        )
        made = analysed or _analysed(own, folder, metric)
        if made is not None:
            goals = made.table.goals
            found.append(Evidence(folder, host, names.get(host, host), own, made, goals))
    return found


def _analysed(own: Results, folder: Path, metric: str) -> Analysis | None:
    """Return what the analysis of one host's rows finds, None where nothing is complete."""
    try:
        table = intake.of_results([own], [folder], intake.Asked(metric))
    except UserError:
        return None
    return analyze(table) if table.complete.any() else None


def alike(here: Evidence, other: Evidence) -> str:
    """Say in what another folder is like this one, and in what not."""
    words = ["the same machine" if other.host == here.host else f"another machine ({other.cpu})"]
    for layer in LAYERS[:2]:
        both = here.tried(layer) & other.tried(layer)
        words.append(f"the same {layer}" if both else f"another {layer}")
    return ", ".join(words)
