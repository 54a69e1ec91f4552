"""Everything the page shows, as plain JSON: numbers only, no drawing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dlas import tables
from dlas.errors import UserError
from dlas.stack import LAYERS

COLUMNS = (
    *LAYERS, "status", "latency_ms", "latency_low_ms", "latency_high_ms", "latency_p90_ms",
    "accuracy", "accuracy_drop", "flips", "memory_mb", "weights_mb", "params", "macs",
    "load_ms", "first_inference_ms", "import_s", "build_s", "ran_precision", "ran_threads",
    "unsteady",
)  # fmt: skip


def collect(dirs: Sequence[Path]) -> dict[str, Any]:
    """Return the page's payload for output folders.

    Raises:
        UserError: a folder holds no results.
    """
    cells = [_plain(row) for row in tables.cells_frame(dirs).to_dict("records")]
    if not cells:
        raise UserError(f"{', '.join(map(str, dirs))}: no cells yet; `dlas run` makes them")
    studies = sorted({str(c["study"]) for c in cells})
    factors = [n for n in cells[0] if "." in n and len({str(c.get(n)) for c in cells}) > 1]
    return {
        "title": ", ".join(studies),
        "subtitle": _subtitle(cells),
        "folders": [str(d) for d in dirs],
        "reproduce": f"dlas run {dirs[0]}/study.yaml --out {dirs[0]} --only CELL --remeasure",
        "hosts": sorted({str(c["host"]) for c in cells if c["host"]}),
        "cells": cells,
        "columns": [c for c in COLUMNS if c in cells[0]],
        "filters": [*LAYERS, *factors],
        "choice": None,
        "trust": _trust(cells),
        "floor": [],
        "sentinels": _sentinels(dirs),
    }


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """Return a row as JSON: what is missing becomes None, numpy scalars Python's."""
    plain: dict[str, Any] = {}
    for name, value in row.items():
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        if value is not None and not isinstance(value, bool | int | float | str | list | dict):
            value = None if str(value) in ("NaT", "<NA>", "nan") else str(value)
        plain[str(name)] = value
    return plain


def _subtitle(cells: Sequence[dict[str, Any]]) -> str:
    done = sum(c["status"] == "complete" for c in cells)
    return f"{len(cells)} stacks over six layers, {done} complete"


def _trust(cells: Sequence[dict[str, Any]]) -> dict[str, str]:
    widths = [
        c["latency_high_ms"] / c["latency_low_ms"]
        for c in cells
        if c.get("latency_low_ms") and c.get("latency_high_ms")
    ]
    shaky = sum(bool(c.get("unsteady")) for c in cells)
    if not widths:
        return {"headline": "not measured", "text": "no cell has an interval yet"}
    half = (math.sqrt(statistics.median(widths)) - 1) * 100
    return {
        "headline": f"± {half:.1f} %",
        "text": f"the median 95 % interval of a latency; {shaky} cells had an unsteady round",
    }


def _sentinels(dirs: Sequence[Path]) -> list[dict[str, Any]]:
    lines = []
    for folder in dirs:
        frame = tables.sentinels_frame([folder])
        for session, rows in frame.groupby("session"):
            times = [datetime.fromisoformat(t) for t in rows["created_at"]]
            seconds = [float(s) for s in rows["seconds"]]
            middle = statistics.median(seconds)
            lines.append(
                {
                    "name": str(session),
                    "minutes": [(t - times[0]).total_seconds() / 60 for t in times],
                    "relative": [s / middle for s in seconds],
                }
            )
    return lines
