"""The cells of the page: what was measured of each, and the estimates comparisons rest on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.taken import SIMPLER, further_goals, steps_beyond
from dlas.report.material import Material, logs
from dlas.report.pack import Part, Texts, pack, plain

ROUND_COLUMNS = (
    "cell", "control", "round", "host", "session", "status", "stage", "reason", "quiet_ms",
    "latency_ms",
    "latency_p90_ms", "samples", "steady", "flags", "launch", "cpus", "threads_seen",
    "steal_share", "involuntary_switches", "warmup_runs", "import_s", "load_ms",
    "first_inference_ms", "overhead_s", "created_at",
)  # fmt: skip
"""What the page tells of a round: what ``dlas show`` tells, and its times."""
FACT_COLUMNS = ("cell", "host", "kind", "status", "reason", "created_at", "attempts", "content")
LOG_END = 2_000
"""Characters of a log's end that the page keeps."""


def rows(material: Material) -> list[Part]:
    """Return the rows of ``dlas table`` with their folder and the end of their log."""
    ends = logs(material)
    found: list[Part] = []
    for place, row in enumerate(material.cells.to_dict("records")):
        one: Part = {str(k): plain(v) for k, v in row.items()}
        folder = material.folder_of[place]
        log = ends.get((folder, str(one["study"]), str(one["cell"])), "")
        found.append(one | {"folder": folder, "log": log[-LOG_END:] or None})
    return found


def packed(material: Material, texts: Texts) -> Part:
    """Return the cells, all digits kept: the page and ``dlas show`` say the same numbers."""
    found = rows(material)
    names = [n for n in found[0] if any(r.get(n) is not None for r in found)]
    return pack(found, texts, names, digits=None)


def rounds(material: Material, texts: Texts) -> Part:
    """Return every round of every cell."""
    return pack(material.rounds.to_dict("records"), texts, ROUND_COLUMNS)


def facts(material: Material, texts: Texts) -> Part:
    """Return what is stored of each cell beside its rounds, less the values in its row."""
    found = [
        {**{name: getattr(fact, name) for name in FACT_COLUMNS}, "status": str(fact.status)}
        for results in material.results
        for kinds in results.facts_of.values()
        for fact in kinds.values()
    ]
    return pack(found, texts, FACT_COLUMNS)


def levels(material: Material) -> dict[str, dict[str, str]]:
    """Return the short name of every choice, by layer."""
    return {layer: material.short(layer) for layer in material.layers}


def filters(material: Material) -> list[str]:
    """Return what the page can filter by: layers, parameters and hosts with several values."""
    parameters = [
        c
        for c in factors(material)
        if material.cells[c].nunique() > 1 and not _renames(material, c)
    ]
    names = [*material.layers, "host", "study"]
    several = [n for n in names if material.cells[n].nunique(dropna=False) > 1]
    return [*several, *parameters]


def factors(material: Material) -> list[str]:
    """Return the columns that are parameters of layers: ``layer.parameter``."""
    columns = [str(c) for c in material.cells.columns if str(c) not in material.layers]
    return [c for c in columns if _layer(material, c)]


def _layer(material: Material, factor: str) -> str:
    return next((x for x in material.layers if factor.startswith(f"{x}.")), "")


def _renames(material: Material, factor: str) -> bool:
    """Say whether a parameter only tells a layer's choices apart as the layer itself does."""
    layer = _layer(material, factor)
    pairs = material.cells[[layer, factor]].astype("string").fillna("")
    distinct = len(pairs.drop_duplicates())
    return bool(distinct == pairs[layer].nunique() == pairs[factor].nunique())


def estimates(material: Material) -> Part | None:
    """Return what comparisons rest on; None where nothing was analysed.

    By analysed cell: ``mean`` of the log of the metric (less is better: ``turned`` where more of
    the metric is) net of round effects, None where there is none; ``middle`` the same of medians
    over rounds, None where they are the means; ``var`` its own variance, ``stratum`` where that is
    pooled; ``shared`` what it has in common with others, see :func:`_shared`. ``df``: degrees of
    freedom of the ``strata`` first, then of the common errors. ``known``: whether there is any
    noise known. ``steps`` beyond the defaults, the ``further`` goals with their signs and what a
    simpler stack may lose (``simpler``) say which of those that cannot be told apart is taken.
    """
    if material.analysis is None:
        return None
    found, table = material.analysis.estimates, material.analysis.table
    own = max(found.own, 1)
    var = found.var[:, :own].sum(axis=1) if found.var.size else np.zeros(len(found.mean))
    same = np.array_equal(found.mean, found.median, equal_nan=True)
    return {
        "known": found.known,
        "mean": plain([float(f"{v:.9g}") for v in found.mean.tolist()]),
        "middle": None if same else plain([float(f"{v:.9g}") for v in found.median.tolist()]),
        "var": plain([float(f"{v:.6g}") for v in var.tolist()]),
        "stratum": found.stratum.tolist(),
        "strata": own,
        "shared": _shared(found),
        "df": [v if np.isfinite(v) else 1e9 for v in found.df.tolist()],
        "floor": table.floor,
        "detectable": plain(found.floor()) if found.known else None,
        "references": {x: table.reference(x) for x in table.varied},
        "varied": list(table.varied),
        "orders": {x: list(table.levels[x]) for x in (*table.layers, *table.parameters)},
        "ordered": [
            {
                "name": f.name,
                "layer": f.layer,
                "levels": list(f.levels),
                "siblings": list(table.siblings(f)),
            }
            for f in table.factors
            if f.ordered
        ],
        "skeletons": _by_level(table, table.skeletons),
        "kinds": _by_level(table, {x: each.kinds for x, each in table.inside.items()}),
        "parameters": [p for p in table.parameters if p not in table.sublayers],
        "decider": material.analysis.best.metric,
        "further": [list(each) for each in further_goals(table.goals)],
        "simpler": SIMPLER,
        "steps": steps_beyond(table).tolist(),
        "maximize": bool(_maximized(material)),
        "turned": table.maximize,
    }


def _by_level(table: Table, found: Mapping[str, pd.Series]) -> dict[str, dict[str, str]]:
    """Return by layer and level what stands for it."""
    return {
        x: dict(zip(table.cells[x].tolist(), found[x].tolist(), strict=True)) for x in table.layers
    }


def _shared(found: Estimates) -> list[list[float]]:
    """Return by row the errors that it has in common with other rows: column and size in turn.

    They are those of sessions and of levels (``Estimates.shared``), of which a difference of rows
    holds what they differ by. Empty where there are none.
    """
    if not found.sessions:
        return []
    columns = [np.flatnonzero(row).tolist() for row in found.shared]
    return [
        [x for k in own for x in (found.own + k, float(f"{row[k]:.9g}"))]
        for own, row in zip(columns, found.shared, strict=True)
    ]


def _maximized(material: Material) -> bool:
    assert material.analysis is not None
    goals = material.analysis.table.goals
    return not goals.minimize and bool(goals.maximize)
