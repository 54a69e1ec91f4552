"""Everything the page shows, as plain JSON: numbers only, no drawing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlas.advise import advise
from dlas.core.errors import DlasError
from dlas.core.stack import LAYERS
from dlas.report import answer, cells, host, parts
from dlas.report.material import METRIC, Material, load
from dlas.report.pack import Part, Texts, pack
from dlas.tables import CEILING_COLUMNS

SCHEMA = 1
COLUMNS = (
    *LAYERS, "status", "quiet_ms", "quiet_low_ms", "quiet_high_ms", "latency_ms",
    "latency_p90_ms", "latency_p99_ms", "accuracy", "accuracy_drop", "flips", "memory_mb",
    "weights_mb", "artifact_mb", "params", "nonzero_params", "macs", "effective_macs",
    "load_ms", "first_inference_ms", "import_s", "build_s", "energy_mj", "ran_precision",
    "ran_threads", "unsteady", "rounds", "host",
)  # fmt: skip
"""The columns of the page's table of all cells; the dialog of a cell shows them all."""


def collect(dirs: Sequence[Path | str]) -> Part:
    """Return the page's payload for output folders.

    Raises:
        UserError: a folder holds no results.
        StorageError: a file is damaged.
    """
    return payload(load(dirs)) | {"next": _next(dirs)}


def _next(dirs: Sequence[Path | str]) -> Part | None:
    """Return the first of the next experiments; None where there is nothing to advise on."""
    try:
        found = advise([Path(each) for each in dirs]).experiments
    except DlasError:
        return None
    if not found:
        return None
    return {
        "title": found[0].title,
        "stacks": found[0].stacks,
        "command": f"dlas advise {dirs[0]}",
    }


def payload(material: Material) -> Part:
    """Return the page's payload: a pure function of what was read."""
    texts = Texts()
    found, where = material.analysis, parts.places(material)
    every = cells.rows(material)
    present = [c for c in COLUMNS if any(r.get(c) is not None for r in every)]
    if material.cells["host"].nunique() < 2:
        present = [c for c in present if c != "host"]
    out = {
        "schema": SCHEMA,
        "title": ", ".join(sorted({str(c["study"]) for c in every})),
        "metric": METRIC,
        "folders": [str(f) for f in material.folders],
        "reproduce": [host.reproduce(f) for f in material.folders],
        "layers": list(LAYERS),
        "short": cells.levels(material),
        "filters": cells.filters(material),
        "columns": present,
        "cells": cells.packed(material, texts),
        "rounds": cells.rounds(material, texts),
        "facts": cells.facts(material, texts),
        "estimates": cells.estimates(material),
        "analyzed": material.analyzed,
        "notes": [*material.notes, *(found.table.notes if found else ())],
        "best": answer.best(found, where),
        "goals": answer.goals(found),
        "order_warning": answer.order_warning(found),
        "trust": answer.trust(material, every),
        "findings": pack(parts.findings(found, where), texts),
        "tables": parts.packed(material, texts),
        "floors": host.floors(material),
        "controls": host.controls(material),
        "sentinels": host.sentinels(material),
        "ceilings": pack(material.ceilings.to_dict("records"), texts, CEILING_COLUMNS),
        "hosts": host.hosts(material),
        "sessions": host.sessions(material),
    }
    return out | {"texts": texts.list}
