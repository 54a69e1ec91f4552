"""The parts of the analysis as the page's tables: cells by their row number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from dlas.analyze import Analysis
from dlas.analyze.tell.beside import choices
from dlas.report.material import Material
from dlas.report.pack import Part, Texts, pack, plain

if TYPE_CHECKING:
    import pandas as pd

WHOLE = (
    "shares", "left_out", "losses", "speedups", "layer_pairs", "winners", "returns", "roofline",
    "correlations", "failures", "comparable", "price", "price_starts", "waterfall_stacks",
    "best_of_given",
)  # fmt: skip
"""Small tables, shown as they are."""
COSTS = ("effective_macs", "macs", "weights_mb", "ran_threads", "ran_precision")
"""The costs whose promises are drawn; the findings speak of all."""
FLIPS = 300
BREAK_EVENS = 400
ELBOWS = 400
"""The largest flips, the first break-evens and elbows that the page carries."""

Places = Mapping[tuple[str, str], int]
"""The row of a cell on a host."""


def packed(material: Material, texts: Texts) -> Part:
    """Return every table of the analysis that the page shows."""
    found = material.analysis
    if found is None:
        return {}
    where = places(material)
    out: Part = {name: pack(_records(getattr(found, name)), texts) for name in WHOLE}
    out["contexts"] = pack(contexts(found, where), texts)
    out["expected_contexts"] = pack(expected(found, where), texts)
    out["expected"] = pack(_records(found.expected[found.expected["by"] == ""]), texts)
    out["flips"] = pack(_records(flips(found)), texts)
    out["break_evens"] = pack(break_evens(found), texts)
    out["elbows"] = pack(elbows(found, where), texts)
    out["verdicts"] = pack(verdicts(found), texts)
    return out


def cut(found: Analysis | None) -> list[str]:
    """Say of which tables the page carries the first rows alone."""
    if found is None:
        return []
    kinds = (("choices that change order", found.flips, FLIPS),
             ("break-evens", found.break_evens, BREAK_EVENS),
             ("elbows of curves", found.elbows, ELBOWS))  # fmt: skip
    return [
        f"This page carries {most} of {len(table)} {what}, those that say most first: what is "
        "filtered or counted here is of these; findings.json of `dlas analyze` has all."
        for what, table, most in kinds
        if len(table) > most
    ]


def _records(frame: pd.DataFrame) -> list[Part]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def places(material: Material) -> dict[tuple[str, str], int]:
    """Return the row of each analysed cell and host; the first row where it comes twice."""
    found: dict[tuple[str, str], int] = {}
    pairs = zip(material.cells["cell"], material.cells["host"].fillna(""), strict=True)
    for row, (cell, host) in enumerate(pairs):
        if row < material.analyzed:
            found.setdefault((str(cell), str(host)), row)
    return found


def by_cell(where: Places) -> dict[str, list[int]]:
    """Return the rows of each cell, one for each host."""
    found: dict[str, list[int]] = defaultdict(list)
    for (cell, _), row in where.items():
        found[cell].append(row)
    return found


def _rows_of(where: Places, hosts: Sequence[str]) -> Callable[[str, str], int]:
    """Return what finds the row of a cell in a context, whose text names the host if several."""
    one = by_cell(where)

    def find(cell: str, context: str) -> int:
        rows = one[cell]
        if len(rows) == 1:
            return rows[0]
        named = (h for h in hosts if f"host={h}" in context.split(", "))
        return where[cell, next(named)]

    return find


def contexts(found: Analysis, where: Places) -> list[Part]:
    """Return each choice against its baseline in each context, with the two cells' rows."""
    find = _rows_of(where, found.table.hosts)
    return [
        {
            "factor": r["factor"], "level": r["level"], "baseline": r["baseline"],
            "ratio": r["ratio"], "low": r["low"], "high": r["high"],
            "cell": find(r["cell"], r["context"]), "base": find(r["baseline_cell"], r["context"]),
        }
        for r in found.speedup_contexts.to_dict("records")
    ]  # fmt: skip


def expected(found: Analysis, where: Places) -> list[Part]:
    """Return expected and observed speed-up of each choice in each context, by cost."""
    find = _rows_of(where, found.table.hosts)
    rows = found.expected_contexts[found.expected_contexts["cost"].isin(COSTS)]
    return [
        {
            "cost": r["cost"], "factor": r["factor"], "level": r["level"],
            "expected": r["expected"], "observed": r["observed"],
            "cell": find(r["cell"], r["context"]), "base": find(r["baseline_cell"], r["context"]),
        }
        for r in rows.to_dict("records")
    ]  # fmt: skip


def flips(found: Analysis) -> pd.DataFrame:
    """Return the largest flips, those between contenders (see ``Finding.contender``) first."""
    near = {(f.choices, f.layers) for f in found.findings if f.kind == "flip" and f.contender}
    straw = [
        (choices((r.layer, r.a), (r.layer, r.b)), (r.layer, *r.by.split(", "))) not in near
        for r in found.flips.itertuples()
    ]
    return found.flips.iloc[np.argsort(straw, kind="stable")].head(FLIPS)


def break_evens(found: Analysis) -> list[Part]:
    """Return the break-evens: averages first, then single contexts, those that cross first."""
    order = {"crosses": 0, "cannot tell": 1, "none in range": 2}
    rows = _records(found.break_evens)
    rows.sort(key=lambda r: (r["context"] != "(average)", order[str(r["verdict"])]))
    return rows[:BREAK_EVENS]


def elbows(found: Analysis, where: Places) -> list[Part]:
    """Return each curve with its elbow, its cells by row in the order of its levels."""
    find = _rows_of(where, found.table.hosts)
    names = ("factor", "technique", "context", "level", "low", "high", "next", "gain", "cost",
             "allowed", "levels")  # fmt: skip
    return [
        {n: r[n] for n in names} | {"rows": [find(cell, r["context"]) for cell in r["cells"]]}
        for r in found.elbows.head(ELBOWS).to_dict("records")
    ]


def verdicts(found: Analysis) -> list[Part]:
    """Return by row and limit whether a cell meets the goal."""
    names = ("row", "limit", "bound", "value", "low", "high", "verdict")
    return [{n: r[n] for n in names} for r in found.best.verdicts.to_dict("records")]


def findings(found: Analysis | None, where: Places) -> list[Part]:
    """Return the findings, their cells by row and by hash."""
    if found is None:
        return []
    rows = by_cell(where)
    return [
        {
            "rank": f.rank, "kind": f.kind, "sentence": f.sentence, "layers": list(f.layers),
            "ratio": plain(f.ratio), "low": plain(f.low), "high": plain(f.high),
            "p": plain(f.p), "q": plain(f.q), "certainty": f.certainty, "overturn": f.overturn,
            "cells": _known(f.cells, rows), "fact": f.fact,
            "costs": [asdict(paid) for paid in f.costs],
            "coverage": None if f.coverage is None else asdict(f.coverage),
        }
        for f in found.findings
    ]  # fmt: skip


def _known(cells: Iterable[str], rows: Mapping[str, Sequence[int]]) -> list[int]:
    return [row for cell in cells for row in rows.get(cell, ())]
