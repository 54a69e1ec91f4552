"""Machines, sessions and noise: what the results were measured on, and how steadily."""

from __future__ import annotations

import statistics
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from dlas.analyze.estimate.levels import Floats, Ints
from dlas.report.material import Material
from dlas.report.pack import Part, plain
from dlas.run.measure import sentinel

Strings = NDArray[np.object_]
QUIET = ("flags", "libraries")
"""Parts of a host's description that are told apart from the rest."""


def hosts(material: Material) -> list[Part]:
    """Return each host's description, libraries and processor flags apart."""
    return [
        {
            "host": name,
            "what": {k: plain(v) for k, v in told.items() if k not in QUIET},
            "libraries": plain(told.get("libraries", {})),
            "flags": " ".join(map(str, told.get("flags", ()))),
        }
        for name, told in sorted(material.hosts.items())
    ]


def sessions(material: Material) -> list[Part]:
    """Return each run: when, by which command, with which settings and versions."""
    return [
        {
            "session": s.session, "study": s.study, "host": s.host, "started_at": s.started_at,
            "ended_at": s.ended_at, "command": s.command, "dlas": s.dlas_version,
            "settings": plain(s.settings), "versions": plain(s.versions), "note": s.note,
        }
        for s in material.sessions
    ]  # fmt: skip


class Steadiness(TypedDict):
    """The sentinel of a session."""

    session: str
    start: str
    minutes: list[float]
    """Since the start, by reading."""
    relative: list[float]
    """Time over the median, by reading."""
    median_ms: float
    spread: float
    allowed: float


def sentinels(material: Material) -> list[Steadiness]:
    """Return the sentinel of each session: minutes since its start, time over its median."""
    lines: list[Steadiness] = []
    for session, rows in material.sentinels.groupby("session", sort=False):
        times = [datetime.fromisoformat(t) for t in rows["created_at"]]
        seconds = [float(s) for s in rows["seconds"]]
        middle = statistics.median(seconds)
        if middle > 0:
            minutes = [(t - times[0]).total_seconds() / 60 for t in times]
            lines.append(
                {
                    "session": str(session),
                    "start": times[0].isoformat(),
                    "minutes": [round(m, 3) for m in minutes],
                    "relative": [round(s / middle, 4) for s in seconds],
                    "median_ms": middle * 1e3,
                    "spread": sentinel.spread(seconds),
                    "allowed": sentinel.allowed(seconds),
                }
            )
    return lines


def explained(material: Material) -> Part:
    """Return what tells of the variance between the rounds of a cell, as shares; None: not known.

    ``drift``: what all cells of a time have in common, as the analysis took it off; ``sentinel``:
    its time, between its readings; ``steal``: the share of processor time that others took. The
    latter by least squares within each cell and control of a session; more time never explains
    less latency. ``left_out`` is the share of the rounds that do not count in the undisturbed
    latency, since the machine was disturbed.
    """
    rounds = material.rounds
    good = rounds[rounds["quiet_ms"].notna() & rounds["created_at"].notna()]
    when = [datetime.fromisoformat(t).timestamp() for t in good["created_at"]]
    unit = good.groupby(["host", "session", "cell", "control"], dropna=False).ngroup().to_numpy()
    log = np.log(good["quiet_ms"].to_numpy(dtype=float))
    beside = {
        "sentinel": _sentinel_at(material, good["session"].to_numpy(), np.array(when)),
        "steal": good["steal_share"].to_numpy(dtype=float, na_value=np.nan),
    }
    found: Part = {name: _share(log, values, unit) for name, values in beside.items()}
    known = material.analysis.estimates if material.analysis else None
    return found | {
        "drift": known.drift if known else None,
        "left_out": known.disturbed if known else None,
    }


def _sentinel_at(material: Material, session: Strings, when: Floats) -> Floats:
    """Return the logarithm of the sentinel at some moments of some sessions; NaN where unread."""
    found = np.full(len(when), np.nan)
    for name, rows in material.sentinels.groupby("session"):
        own = session == name
        known = rows[rows["seconds"] > 0]
        if own.any() and len(known) > 1:
            times = [datetime.fromisoformat(t).timestamp() for t in known["created_at"]]
            order = np.argsort(times, kind="stable")
            logs = np.log(known["seconds"].to_numpy(dtype=float))[order]
            found[own] = np.interp(when[own], np.asarray(times)[order], logs)
    return found


def _share(log: Floats, values: Floats, unit: Ints) -> float | None:
    """Return the share of the variance of logs within units that other readings explain."""
    both = np.isfinite(log) & np.isfinite(values)
    if not both.any():
        return None
    of = unit[both]
    count = np.maximum(np.bincount(of), 1)
    y, x = (v - (np.bincount(of, v) / count)[of] for v in (log[both], values[both]))
    own, other, both_ways = float(y @ y), float(x @ x), float(x @ y)
    if count.max() < 2 or own == 0:
        return None
    return max(both_ways, 0.0) ** 2 / (other * own) if other else 0.0


def floors(material: Material) -> list[Part]:
    """Return the noise of each host and stratum."""
    return [{str(k): plain(v) for k, v in r.items()} for r in material.floors.to_dict("records")]


def controls(material: Material) -> list[Part]:
    """Return the A/A pairs: a cell measured twice, its second latency over its first."""
    names = ("cell", "host", "stratum", "ratio", "floor", "inside")
    return [{n: plain(r[n]) for n in names} for r in material.controls.to_dict("records")]


def reproduce(folder: Path) -> list[str]:
    """Return the commands that show and repeat a cell; CELL stands for its hash."""
    if folder.is_file():
        return [f"dlas show {folder} CELL"]
    study = folder / "study.yaml"
    return [
        f"dlas show {folder} CELL",
        f"dlas run {study} --out {folder} --only CELL --remeasure",
        f"dlas run {study} --out again --only CELL",
    ]
