"""Everything the page shows, as plain JSON: numbers only, no drawing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlas.advise import advise
from dlas.analyze import Analysis
from dlas.analyze.tell.words import better
from dlas.core.errors import DlasError
from dlas.core.stack import LAYERS
from dlas.report import answer, as_seen, cells, host, parts, quantities
from dlas.report.any_table import OWN
from dlas.report.material import METRIC, Material, load
from dlas.report.pack import Part, Texts, pack
from dlas.tables import CEILING_COLUMNS
from dlas.tables.fitted import SEEN
from dlas.tables.intake import Asked

SCHEMA = 2
COLUMNS = (
    *LAYERS, "status", "quiet_ms", "quiet_low_ms", "quiet_high_ms", "latency_ms",
    "latency_p90_ms", "latency_p99_ms", "accuracy", "accuracy_drop", "flips", "memory_mb",
    "weights_mb", "artifact_mb", "params", "nonzero_params", "macs", "effective_macs",
    "load_ms", "first_inference_ms", "import_s", "build_s", "energy_mj", "ran_precision",
    "ran_threads", "unsteady", "rounds", "host",
)  # fmt: skip
"""The columns of a study in the page's table of all cells; the dialog of a cell shows them all."""
FASTER = ("faster", "slower")


def collect(dirs: Sequence[Path | str], asked: Asked | None = None) -> Part:
    """Return the page's payload for output folders.

    Raises:
        UserError: a folder holds no results.
        StorageError: a file is damaged.
    """
    return of_material(load(dirs, asked))


def of_material(material: Material) -> Part:
    """Return the page's payload for what was read from output folders."""
    known = material.analysis if material.plain and len(material.folders) == 1 else None
    metric = SEEN if material.metric == SEEN else METRIC
    return payload(material) | {"next": next_experiment(material.folders, known, metric)}


def next_experiment(
    folders: Sequence[Path], analysed: Analysis | None = None, metric: str = METRIC
) -> Part | None:
    """Return the first of the next experiments, without a title where nothing is left to try.

    None where there is nothing to advise on. ``analysed`` and ``metric`` are those of
    :func:`dlas.advise.advise`.
    """
    try:
        found = advise(folders, analysed, metric).experiments
    except DlasError:
        return None
    ask = f"dlas advise {' '.join(map(str, folders))}"
    if metric != METRIC:
        ask += f" --metric {metric}"
    if not found:
        return {"title": "", "stacks": 0, "why": "", "commands": [ask]}
    first = found[0]
    # What is advised stands beside the results, which a reader calls as the command did.
    run = first.command
    for folder in folders:
        run = run.replace(str(folder.absolute()), str(folder))
    return {
        "title": first.title,
        "stacks": first.stacks,
        "why": first.why[0].text if first.why else "",
        "commands": [ask, run],
    }


def payload(material: Material) -> Part:
    """Return the page's payload: a pure function of what was read."""
    texts = Texts()
    found, where = material.analysis, parts.places(material)
    every = cells.rows(material)
    out = {
        "schema": SCHEMA,
        "title": ", ".join(sorted({str(c["study"]) for c in every})),
        "next": None,
        **_names(material, every),
        "cells": cells.packed(material, texts),
        "rounds": cells.rounds(material, texts),
        "facts": cells.facts(material, texts),
        "estimates": cells.estimates(material),
        "analyzed": material.analyzed,
        "notes": [*material.notes, *(found.table.notes if found else ()), *parts.cut(found)],
        "best": answer.best(found, where),
        "goals": answer.goals(found),
        "given": list(found.table.given) if found else [],
        "decider": found.best.metric if found else material.metric,
        "trust": answer.trust(material, every),
        "as_seen": as_seen.apart(material, where),
        "findings": pack(parts.findings(found, where), texts),
        "tables": parts.packed(material, texts),
        **_measuring(material, texts),
    }
    return out | {"texts": texts.list}


def _names(material: Material, every: Sequence[Part]) -> Part:
    """Return what the page calls things: layers, levels, measures, columns, folders."""
    found = material.analysis
    return {
        "metric": material.metric,
        "measures": quantities.quantities(material),
        "weighed": quantities.weighed(material),
        "score": quantities.score(material),
        "bounds": _bounds(material),
        "words": list(better(found.table) if found else FASTER),
        "folders": [str(f) for f in material.folders],
        "sources": list(material.sources),
        "reproduce": [host.reproduce(f) for f in material.folders],
        "layers": list(material.layers),
        "short": cells.levels(material),
        "filters": cells.filters(material),
        "columns": _columns(material, every),
    }


def _columns(material: Material, every: Sequence[Part]) -> list[str]:
    """Return the columns of the table of all cells: those that hold something."""
    names = list(COLUMNS)
    if not material.folders:
        others = [str(c) for c in material.cells.columns if str(c) not in (*OWN, "value")]
        names = list(dict.fromkeys([*material.layers, "status", material.metric, *others, "host"]))
    present = [c for c in names if any(r.get(c) not in (None, "") for r in every)]
    several = material.cells["host"].nunique() > 1
    return [c for c in present if c != "host" or several]


def _bounds(material: Material) -> list[str] | None:
    """Return the columns that hold the 95 % interval of the metric; None where none do."""
    if material.folders:
        unit = "_ms" if material.metric.endswith("_ms") else ""
        stem = material.metric.removesuffix(unit)
        ends = [f"{stem}_{end}{unit}" for end in ("low", "high")]
        return ends if set(ends) <= set(material.cells.columns) else None
    bounds = material.analysis.table.bounds if material.analysis else None
    return list(bounds) if bounds else None


def _measuring(material: Material, texts: Texts) -> Part:
    """Return on what, when and how steadily the cells were measured."""
    return {
        "floors": host.floors(material),
        "controls": host.controls(material),
        "sentinels": host.sentinels(material),
        "explained": host.explained(material),
        "ceilings": pack(material.ceilings.to_dict("records"), texts, CEILING_COLUMNS),
        "hosts": host.hosts(material),
        "sessions": host.sessions(material),
    }
