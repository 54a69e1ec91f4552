"""The cells of the page: what was measured of each, and the estimates comparisons rest on."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlas.core.stack import LAYERS
from dlas.report.labels import short_names
from dlas.report.material import Source, logs
from dlas.report.pack import Texts, pack, plain

ROUND_COLUMNS = (
    "cell", "control", "round", "host", "session", "status", "stage", "reason", "latency_ms",
    "latency_p90_ms", "samples", "steady", "flags", "launch", "cpus", "threads_seen",
    "steal_share", "involuntary_switches", "warmup_runs", "import_s", "load_ms",
    "first_inference_ms", "overhead_s", "created_at",
)  # fmt: skip
"""What the page tells of a round: what ``dlas show`` tells, and its times."""
FACT_COLUMNS = ("cell", "host", "kind", "status", "reason", "created_at", "attempts", "content")
LOG_END = 2_000
"""Characters of a log's end that the page keeps."""


def rows(source: Source) -> list[dict[str, Any]]:
    """Return the rows of ``dlas table`` with their folder and the end of their log."""
    ends = logs(source)
    found = []
    for place, row in enumerate(source.cells.to_dict("records")):
        one = {str(k): plain(v) for k, v in row.items()}
        folder = source.folder_of[place]
        log = ends.get((folder, str(one["study"]), str(one["cell"])), "")
        found.append(one | {"folder": folder, "log": log[-LOG_END:] or None})
    return found


def packed(source: Source, texts: Texts) -> dict[str, Any]:
    """Return the cells, all digits kept: the page and ``dlas show`` say the same numbers."""
    found = rows(source)
    names = [n for n in found[0] if any(r.get(n) is not None for r in found)]
    return pack(found, texts, names, digits=None)


def rounds(source: Source, texts: Texts) -> dict[str, Any]:
    """Return every round of every cell."""
    return pack(source.rounds.to_dict("records"), texts, ROUND_COLUMNS)


def facts(source: Source, texts: Texts) -> dict[str, Any]:
    """Return what is stored of each cell beside its rounds, less the values in its row."""
    found = [
        {**{name: getattr(fact, name) for name in FACT_COLUMNS}, "status": str(fact.status)}
        for results in source.results
        for kinds in results.facts_of.values()
        for fact in kinds.values()
    ]
    return pack(found, texts, FACT_COLUMNS)


def levels(source: Source) -> dict[str, dict[str, str]]:
    """Return the short name of every choice, by layer."""
    return {layer: short_names(source.cells[layer].dropna().unique()) for layer in LAYERS}


def filters(source: Source) -> list[str]:
    """Return what the page can filter by: layers, parameters and hosts with several values."""
    factors = [c for c in source.cells.columns if str(c).partition(".")[0] in LAYERS and "." in c]
    parameters = [
        c for c in factors if source.cells[c].nunique() > 1 and not _renames(source, str(c))
    ]
    names = [*LAYERS, "host", "study"]
    several = [n for n in names if source.cells[n].nunique(dropna=False) > 1]
    return [*several, *parameters]


def _renames(source: Source, factor: str) -> bool:
    """Say whether a parameter only tells a layer's choices apart as the layer itself does."""
    layer = factor.partition(".")[0]
    pairs = source.cells[[layer, factor]].astype("string").fillna("")
    distinct = len(pairs.drop_duplicates())
    return bool(distinct == pairs[layer].nunique() == pairs[factor].nunique())


def estimates(source: Source) -> dict[str, Any] | None:
    """Return what comparisons rest on; None where nothing was analysed.

    By analysed cell: ``mean`` of the log of the metric (less is better) net of round effects,
    None where there is none; ``var`` its variance; ``stratum`` where its noise is pooled. By
    stratum the degrees of freedom. ``known``: whether there is any noise known.
    """
    if source.analysis is None:
        return None
    found, table = source.analysis.estimates, source.analysis.table
    strata = found.var.argmax(axis=1) if found.var.size else np.zeros(len(found.mean), dtype=int)
    var = found.var.max(axis=1) if found.var.size else np.zeros(len(found.mean))
    return {
        "known": found.known,
        "mean": plain([float(f"{v:.9g}") for v in found.mean.tolist()]),
        "var": plain([float(f"{v:.6g}") for v in var.tolist()]),
        "stratum": strata.tolist(),
        "df": [v if np.isfinite(v) else 1e9 for v in found.df.tolist()],
        "floor": table.floor,
        "detectable": plain(found.floor()) if found.known else None,
        "references": {x: table.reference(x) for x in table.varied},
        "varied": list(table.varied),
        "orders": {x: list(table.levels[x]) for x in (*table.layers, *table.parameters)},
        "ordered": [
            {"name": f.name, "layer": f.layer, "levels": list(f.levels)}
            for f in table.factors
            if f.ordered
        ],
        "skeletons": {
            x: dict(zip(table.cells[x].tolist(), table.skeletons[x].tolist(), strict=True))
            for x in table.layers
        },
        "parameters": list(table.parameters),
        "decider": source.analysis.best.metric,
        "maximize": bool(_maximized(source)),
    }


def _maximized(source: Source) -> bool:
    assert source.analysis is not None
    goals = source.analysis.table.goals
    return not goals.minimize and bool(goals.maximize)
