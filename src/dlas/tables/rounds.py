"""Rounds, A/A controls, noise floors and the sentinel, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dlas.core.records import Status
from dlas.core.stack import LAYERS
from dlas.store.facts import Timed
from dlas.store.results import RoundRow
from dlas.tables.fitted import Fit, fits, round_ms, round_quiet_ms
from dlas.tables.frame import Value, frame_of
from dlas.tables.latency import quantile
from dlas.tables.read import Folders, Results, complete, read
from dlas.tables.values import energy_mj, is_unsteady, milli

if TYPE_CHECKING:
    import pandas as pd

ROUND_COLUMNS = (
    "cell", "control", "round", "host", "session", "position", "status", "stage", "reason",
    "quiet_ms", "latency_ms", "latency_p90_ms", "samples", "unsteady", "steady", "flags",
    "warmup_runs", "warmup_s", "import_s", "load_ms", "first_inference_ms", "launch", "cpu_s",
    "wall_s", "steal_share", "involuntary_switches", "cpus", "threads_seen", "energy_mj",
    "energy_source", "child_s", "overhead_s", "attempts", "artifact", "created_at", *LAYERS,
)  # fmt: skip
CONTROL_COLUMNS = (
    "cell", "control", "host", "stratum", *LAYERS, "rounds", "quiet_ms", "control_quiet_ms",
    "ratio", "floor", "inside",
)  # fmt: skip
FLOOR_COLUMNS = ("host", "stratum", "cells", "sd", "df", "floor", "controls", "inside")
SENTINEL_COLUMNS = ("session", "study", "host", "round", "position", "seconds", "created_at")

_TEXT = frozenset({
    "cell", "host", "session", "status", "stage", "reason", "flags", "launch", "cpus",
    "energy_source", "artifact", "created_at", "stratum", "study", *LAYERS,
})  # fmt: skip
_WHOLE = frozenset({
    "control", "round", "position", "samples", "warmup_runs", "involuntary_switches",
    "threads_seen", "attempts", "rounds", "cells", "controls",
})  # fmt: skip
_COPIED = (
    "steady", "warmup_runs", "warmup_s", "import_s", "cpu_s", "wall_s", "steal_share",
    "involuntary_switches", "threads_seen", "child_s",
)  # fmt: skip
_TOLD = ("launch", "energy_source")


def rounds_frame(folders: Folders) -> pd.DataFrame:
    """Return one row per cell, control, round, host and session.

    ``control`` is 0 for the cell itself and 1 for its A/A double; ``quiet_ms`` is the expected
    least of ten of the round's samples, ``latency_ms`` their median; ``flags`` are joined by
    commas; a round that failed has no latency.

    Raises:
        UserError: a folder holds no results.
        StorageError: a file is damaged.
    """
    records = [
        _round(results, row)
        for results in read(folders)
        for rows in results.rounds_of.values()
        for row in rows
    ]
    flags = frozenset({"unsteady", "steady"})
    return frame_of(records, ROUND_COLUMNS, text=_TEXT, whole=_WHOLE, flags=flags)


def controls_frame(folders: Folders) -> pd.DataFrame:
    """Return one row per A/A pair: a cell measured a second time under another id.

    ``ratio`` is the control's undisturbed latency over the cell's; ``floor`` the smallest
    ratio less one that the two would have to differ by to be told apart at 95 %; ``inside``
    says whether they are not told apart, as they should not be.

    Raises:
        UserError: a folder holds no results.
        StorageError: a file is damaged.
    """
    records = [
        record
        for results in read(folders)
        for fit in fits(results)
        for record in _pairs(results, fit)
    ]
    return frame_of(
        records, CONTROL_COLUMNS, text=_TEXT, whole=_WHOLE, flags=frozenset({"inside"})
    )


def floors_frame(folders: Folders) -> pd.DataFrame:
    """Return the noise of each host and stratum (runtime x threads).

    ``sd`` is that of one round on the log scale with ``df`` degrees of freedom; ``floor`` the
    smallest ratio less one between two cells that is detected at 95 %; ``inside`` the share of
    the stratum's A/A pairs that are within their floor (empty where there is no pair).

    Raises:
        UserError: a folder holds no results.
        StorageError: a file is damaged.
    """
    records = [
        record
        for results in read(folders)
        for fit in fits(results)
        for record in _floors(results, fit)
    ]
    return frame_of(records, FLOOR_COLUMNS, text=_TEXT, whole=_WHOLE)


def sentinels_frame(folders: Folders) -> pd.DataFrame:
    """Return every timing of the sentinel, in the order in which they were taken.

    Raises:
        UserError: a folder holds no results.
        StorageError: a file is damaged.
    """
    records = []
    for results in read(folders):
        sessions = {s.session: s for s in results.sessions}
        for row in sorted(results.sentinels, key=lambda s: s.created_at):
            session = sessions.get(row.session)
            records.append(
                {
                    "session": row.session,
                    "study": session.study if session else None,
                    "host": session.host if session else None,
                    "round": row.round,
                    "position": row.position,
                    "seconds": row.seconds,
                    "created_at": row.created_at,
                }
            )
    return frame_of(records, SENTINEL_COLUMNS, text=_TEXT, whole=_WHOLE)


def _layers(results: Results, cell: str) -> dict[str, str | None]:
    row = results.texts.get(cell)
    return {layer: getattr(row, layer, None) for layer in LAYERS}


def _round(results: Results, row: RoundRow) -> dict[str, Value]:
    record: dict[str, Value] = {
        "cell": row.cell,
        "control": row.control,
        "round": row.round,
        "host": row.host,
        "session": row.session or None,
        "position": row.position,
        "status": row.status.value,
        "stage": row.stage or None,
        "reason": row.reason or None,
        "overhead_s": row.overhead_s,
        "attempts": row.attempts,
        "artifact": row.content,
        "created_at": row.created_at,
        **_layers(results, row.cell),
    }
    return record | _measured(row)


def _measured(row: RoundRow) -> dict[str, Value]:
    if not row.samples:
        return {}
    seen = Timed.from_json(row.value)
    timed = row.status is Status.COMPLETE
    return {
        "quiet_ms": round_quiet_ms(row) if timed else None,
        "latency_ms": round_ms(row) if timed else None,
        "latency_p90_ms": quantile(row.samples, 0.9) * 1e3 if timed else None,
        "samples": len(row.samples),
        "unsteady": is_unsteady(seen),
        "flags": ",".join(seen.flags) or None,
        "load_ms": milli(seen.load_s),
        "first_inference_ms": milli(seen.first_inference_s),
        "cpus": ",".join(str(cpu) for cpu in seen.cpus) or None,
        "energy_mj": energy_mj(row),
        **{name: getattr(seen, name) for name in _COPIED},
        **{name: getattr(seen, name) or None for name in _TOLD},
    }


def _pairs(results: Results, fit: Fit) -> Iterator[dict[str, Value]]:
    if fit.estimates is None:
        return
    names = list(fit.estimates.strata["stratum"])
    for pair in fit.estimates.controls.to_dict("records"):
        row, control = int(pair["row"]), int(pair["control"])
        cell = fit.cells[row]
        rounds = results.rounds_of[cell, fit.host]
        other = complete(rounds, control)
        quiet = math.exp(fit.estimates.mean[row])
        yield {
            "cell": cell,
            "control": control,
            "host": fit.host,
            "stratum": str(names[fit.stratum(row)]),
            **_layers(results, cell),
            "rounds": len(other),
            "quiet_ms": quiet,
            "control_quiet_ms": quiet * pair["ratio"],
            "ratio": pair["ratio"],
            "floor": pair["floor"],
            "inside": bool(pair["inside"]),
        }


def _floors(results: Results, fit: Fit) -> Iterator[dict[str, Value]]:
    if fit.estimates is None:
        return
    pairs = list(_pairs(results, fit))
    for stratum in fit.estimates.strata.to_dict("records"):
        own = [bool(p["inside"]) for p in pairs if p["stratum"] == stratum["stratum"]]
        yield {
            **stratum,
            "host": fit.host,
            "controls": len(own),
            "inside": sum(own) / len(own) if own else None,
        }
