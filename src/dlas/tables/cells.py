"""One row per cell and host: what ``dlas table`` shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dlas.core.records import Status
from dlas.core.stack import LAYERS
from dlas.store.facts import Built, Evaluated, Memory, Observed, Rests
from dlas.store.results import CellRow, FactRow, RoundRow
from dlas.tables import values
from dlas.tables.frame import factor_column, frame_of
from dlas.tables.latency import Latency, latencies
from dlas.tables.read import Folders, Place, Results, complete, read

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "cell", "study", "host", "session", "status", "stale", "stage", "reason",
    *LAYERS,
    "quiet_ms", "quiet_low_ms", "quiet_high_ms",
    "latency_ms", "latency_low_ms", "latency_high_ms", "latency_p90_ms", "latency_p99_ms",
    "unsteady", "rounds", "samples", "first_inference_ms", "load_ms", "import_s", "build_s",
    "memory_mb", "weights_mb", "artifact_mb", "params", "nonzero_params", "macs",
    "effective_macs", "accuracy", "accuracy_low", "accuracy_high", "accuracy_n",
    "accuracy_drop", "flips", "agreement", "accuracy_source", "max_abs_error",
    "energy_mj", "energy_source",
    "ran_precision", "ran_threads", "ran_cpus", "ran_isa",
    "ran_kernels", "fallbacks", "ran_sparsity", "artifact", "created_at", "overhead_s",
    "software_versions",
)  # fmt: skip
"""The fixed columns, in order; a column per factor (``layer.parameter``) follows."""

_TEXT = frozenset({
    "cell", "study", "host", "session", "status", "stale", "stage", "reason", *LAYERS,
    "accuracy_source", "energy_source",
    "ran_precision", "ran_cpus", "ran_isa", "ran_kernels", "fallbacks", "artifact",
    "software_versions", "created_at",
})  # fmt: skip
_WHOLE = frozenset(
    {"rounds", "samples", "params", "nonzero_params", "macs", "accuracy_n", "ran_threads"}
)


@dataclass(frozen=True)
class _Known:
    """Everything about one cell on one host."""

    row: CellRow
    host: str
    facts: Mapping[str, FactRow]
    all_rounds: Sequence[RoundRow]
    latency: Latency | None

    @cached_property
    def rounds(self) -> list[RoundRow]:
        """The rounds that were measured, controls left out."""
        return complete(self.all_rounds)

    @cached_property
    def every(self) -> list[FactRow | RoundRow]:
        """All that is stored of it."""
        return [*self.facts.values(), *self.all_rounds]

    @cached_property
    def last(self) -> FactRow | RoundRow | None:
        """What was stored last of it."""
        return max(self.every, key=lambda r: r.created_at, default=None)

    @cached_property
    def failed(self) -> FactRow | RoundRow | None:
        """What failed of it first, in the order in which it is made; None: nothing did."""
        order = (Rests.KIND, Built.KIND, Evaluated.KIND, Memory.KIND, Observed.KIND)
        facts = [self.facts[kind] for kind in order if kind in self.facts]
        rows: list[FactRow | RoundRow] = [*facts, *self.all_rounds]
        return next((row for row in rows if row.status is Status.FAILED), None)


def cells_frame(folders: Folders) -> pd.DataFrame:
    """Return one row per cell and host of each output folder; empty: not measured.

    The columns are :data:`COLUMNS`, then one per factor. Units stand in the names; megabytes are
    10^6 bytes. Rows keep the order of the study. ``stale`` says why a cell is none of the study
    that ran last in its folder; of a cell of several studies the row of the latest stands.

    Raises:
        UserError: a folder holds no results.
        StorageError: a file is damaged.
    """
    records, factors = [], []
    for results in read(folders):
        found = latencies(results)
        for known in _known(results, found):
            records.append(_record(results, known))
            factors.append(results.stacks[known.row.cell].factors())
    frame = frame_of(records, COLUMNS, text=_TEXT, whole=_WHOLE, flags=frozenset({"unsteady"}))
    for name in _ordered({name: None for each in factors for name in each}):
        frame[name] = factor_column([each.get(name) for each in factors])
    return frame


def _ordered(names: Mapping[str, None]) -> list[str]:
    """Order factors by layer, then as they first appear."""
    return sorted(names, key=lambda name: LAYERS.index(name.partition(".")[0]))


def _known(results: Results, found: Mapping[Place, Latency]) -> Iterator[_Known]:
    for row in results.rows_of_cells:
        for host in _hosts(results, row):
            place = row.cell, host
            yield _Known(
                row,
                host,
                results.facts_of.get(place, {}),
                results.rounds_of.get(place, ()),
                found.get(place),
            )


def _hosts(results: Results, row: CellRow) -> Sequence[str]:
    """Return the hosts that know of a cell; where none does, those that ran its study."""
    ran = [s.host for s in results.sessions if s.study == row.study]
    return results.hosts_of.get(row.cell) or sorted(set(ran)) or [""]


def _record(results: Results, known: _Known) -> values.Columns:
    row, last = known.row, known.last
    ran = [s for s in results.sessions if s.study == row.study and s.host == known.host]
    latest = max(ran, key=lambda s: s.started_at, default=None)
    session = last.session if last is not None else latest.session if latest else None
    measured = max((r.created_at for r in known.rounds), default=None)
    record: values.Columns = {
        "cell": row.cell,
        "study": row.study,
        "host": known.host or None,
        "session": session or None,
        **_status(results, known),
        "stale": results.stale(row) or None,
        **{layer: getattr(row, layer) for layer in LAYERS},
        **values.of_build(known.facts.get(Built.KIND)),
        **values.of_memory(known.facts.get(Memory.KIND)),
        **values.of_evaluation(known.facts.get(Evaluated.KIND)),
        **values.of_observation(known.facts.get(Observed.KIND)),
        **values.of_rounds(known.rounds, known.latency),
        "created_at": measured or (last.created_at if last is not None else None),
    }
    return record


def _status(results: Results, known: _Known) -> dict[str, str | None]:
    """Return what became of the cell on this host.

    A cell has one row, whichever hosts its study ran on: where there were several, what is known
    of the cell on this one tells, but for a rule, which holds for all.
    """
    ran = {s.host for s in results.sessions if s.study == known.row.study}
    ruled_out = known.row.status is Status.IMPOSSIBLE
    if ruled_out or not known.every or ran <= {known.host}:
        return _told(known.row.status, known.row)
    if known.failed is not None:
        return _told(Status.FAILED, known.failed)
    enough = len(known.rounds) >= _wanted(results, known)
    return _told(Status.COMPLETE if enough else Status.PENDING, None)


def _wanted(results: Results, known: _Known) -> int:
    """Return how many rounds make the cell complete on this host.

    A session that ended has measured as many as it wanted (``dlas explore``: one of most cells).
    """
    last = max(known.rounds, key=lambda r: r.created_at, default=None)
    mine = next((s for s in results.sessions if last and s.session == last.session), None)
    if mine is None or mine.ended_at is not None:
        return 1
    asked = mine.settings.get("rounds")
    return int(asked.get("min", 1)) if isinstance(asked, dict) else 1


def _told(status: Status, row: CellRow | FactRow | RoundRow | None) -> dict[str, str | None]:
    stage, reason = (row.stage or None, row.reason or None) if row else (None, None)
    return {"status": status.value, "stage": stage, "reason": reason}
