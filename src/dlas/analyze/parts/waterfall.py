"""The promise waterfall: from the multiplications an optimization saves to the time it saves.

What an optimization promises (fewer multiplications, a narrower type) and what becomes of it, step
by step, each a factor: zeros that are multiplied all the same, a type that does not run, kernels
that are better or worse at what is left, and the overhead of an inference that nothing shortens.
The factors multiply to the speed-up that was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.table import Factor, Table
from dlas.analyze.parts.contrasts import grid
from dlas.analyze.parts.roofline import latency_column, roofline
from dlas.core.precision import bits
from dlas.core.stack import DEFAULTS

LAYER = "optimization"
STEPS = ("macs", "width", "zeros", "precision", "kernels", "overhead")
"""The factors in order; what is left after them is the speed-up that was measured."""
NOTHING = "no kernel"
TELLING = ("macs", "ran_precision")
READ = (
    "macs", "effective_macs", "params", "nonzero_params", "ran_precision", "ran_sparsity",
    "ran_kernels",
)  # fmt: skip
"""What is read of a cell beside its time."""
STACK_COLUMNS = [
    "level", "cell", "base_cell", "host", *STEPS, "left", "why", "kernels_ran",
]  # fmt: skip
COLUMNS = ["level", "baseline", "step", "factor", "after", "measured", "contexts", "why", "cells"]


def waterfalls(table: Table, estimates: Estimates) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the promise waterfall of every optimization, and of every stack that has one.

    A stack is compared with the one without optimization, everything else equal.

    Returns:
        By level and step (``macs``, ``width``, ``zeros``, ``precision``, ``kernels``,
        ``overhead``, then ``left``): ``factor``, the geometric mean over the ``measured`` of
        ``contexts`` stacks in which it is known, and ``after`` what is left of the promise after
        it, over the same stacks as all steps; NaN with the commonest reason ``why`` where it is
        known in none. Where a step is known in some stacks alone, ``after`` ends at ``left`` only
        as nearly as the others allow.
        By stack: every factor, NaN where it is not known, and ``why`` by step; what is not known
        is in ``kernels``, so that the product is ``left``, the measured speed-up.
    """
    columns = set(table.cells.columns)
    if (
        LAYER not in table.varied
        or latency_column(table) != table.metric
        or (not columns & set(TELLING))
    ):
        return pd.DataFrame(columns=COLUMNS), pd.DataFrame(columns=STACK_COLUMNS)
    levels = table.levels[LAYER]
    plain = DEFAULTS[LAYER]
    base = plain if plain in levels else table.reference(LAYER)
    found = grid(table, Factor(LAYER, LAYER, levels), estimates)
    overheads = roofline(table).set_index(["cell", "host"])["overhead_ms"].to_dict()
    first = found.row[:, found.levels.index(base)]
    read = {c: table.cells[c].to_numpy(dtype=object) for c in READ if c in columns}
    read |= {c: table.rows[c].to_numpy(dtype=object) for c in ("cell", "host", "value")}
    read["kind"] = table.skeletons[LAYER].to_numpy(dtype=object)
    rows = [
        {"level": level, **_stack(table, estimates, overheads, read, int(a), int(b))}
        for i, level in enumerate(found.levels)
        if level != base
        for a, b in zip(first.tolist(), found.row[:, i].tolist(), strict=True)
        if a >= 0 and b >= 0
    ]
    stacks = pd.DataFrame(rows, columns=STACK_COLUMNS)
    return _by_level(stacks, base), stacks


def _stack(
    table: Table, estimates: Estimates, overheads: Mapping[tuple[str, str], float],
    read: Mapping[str, NDArray[Any]], a: int, b: int,
) -> dict[str, object]:  # fmt: skip
    """Return the factors of one stack (row ``b``) over its base (row ``a``)."""
    before, now = ({c: values[row] for c, values in read.items()} for row in (a, b))
    left = float(np.exp(estimates.mean[a] - estimates.mean[b]))
    why: dict[str, str] = {}
    factors = {
        "macs": _ratio(before, now, why),
        "zeros": _zeros(now, why),
        **_types(before, now, why),
    }
    overhead = _overhead(table, overheads, before, now, left, why)
    known = [factors[s] for s in STEPS if s in factors and np.isfinite(factors[s])]
    kernels = left / float(np.prod(known)) / (overhead if np.isfinite(overhead) else 1.0)
    return {
        "cell": str(now["cell"]), "base_cell": str(before["cell"]), "host": str(now["host"]),
        **factors, "kernels": kernels, "overhead": overhead, "left": left, "why": why,
        "kernels_ran": _kernels(before, now),
    }  # fmt: skip


def _number(cell: Mapping[str, object], name: str) -> float:
    value = pd.to_numeric(cell.get(name), errors="coerce")
    return float(value) if pd.notna(value) else float("nan")


def _ratio(before: Mapping[str, object], now: Mapping[str, object], why: dict[str, str]) -> float:
    """Return how many times fewer multiplications are promised, all zeros counted as skipped."""
    every, fewer = _number(before, "macs"), _number(now, "effective_macs")
    fewer = fewer if np.isfinite(fewer) else _number(now, "macs")
    if every > 0 and fewer > 0:
        return every / fewer
    why["macs"] = "the multiplications are not counted"
    return float("nan")


def _zeros(now: Mapping[str, object], why: dict[str, str]) -> float:
    """Return what is kept of the promise where zeros are multiplied all the same.

    ``ran_sparsity`` is the share of weights that are zero and skipped; of the multiplications
    with zeros the same part is taken to be skipped as of the zeros.
    """
    every, fewer = _number(now, "macs"), _number(now, "effective_macs")
    if not (every > 0 and fewer > 0):
        why["zeros"] = "the multiplications with zeros are not counted"
        return float("nan")
    if every == fewer:
        return 1.0
    skipped = _number(now, "ran_sparsity")
    if not np.isfinite(skipped):
        why["zeros"] = "the runtime does not tell which zeros its kernels skip"
        return float("nan")
    zeros = 1 - _number(now, "nonzero_params") / _number(now, "params")
    part = min(1.0, skipped / zeros) if zeros > 0 else float(skipped > 0)
    return fewer / (every - part * (every - fewer))


def _types(
    before: Mapping[str, object], now: Mapping[str, object], why: dict[str, str]
) -> dict[str, float]:
    """Return what a narrower type promises, and what is kept of it by the type that ran."""
    was, ran = (bits(str(c.get("ran_precision"))) for c in (before, now))
    kind = str(now["kind"])
    asked = [n for each in kind.split("+") if (n := bits(each)) is not None]
    if was is None:
        reason = "the type that ran without the optimization is not known"
        why |= {"precision": reason} | ({"width": reason} if asked else {})
        return {"width": float("nan") if asked else 1.0, "precision": float("nan")}
    wanted = min(asked, default=was)
    if ran is None:
        told = now.get("ran_precision")
        mixed = f"several types ran ({told})" if isinstance(told, str) and told else ""
        why["precision"] = mixed or "the runtime does not tell which type ran"
        return {"width": was / wanted, "precision": float("nan")}
    return {"width": was / wanted, "precision": wanted / ran}


def _overhead(
    table: Table, overheads: Mapping[tuple[str, str], float],
    before: Mapping[str, object], now: Mapping[str, object], left: float, why: dict[str, str],
) -> float:  # fmt: skip
    """Return what the overhead of an inference, which nothing shortens, takes of the rest.

    Without it the speed-up would be (time before - overhead) / (time now - overhead).
    """
    each = [overheads.get((str(c["cell"]), str(c["host"])), float("nan")) for c in (before, now)]
    if not np.isfinite(each).all():
        missing = "in this study" if table.ceilings is None else "for this runtime"
        why["overhead"] = f"the overhead of an inference was not measured {missing}"
        return float("nan")
    old, new = (_number(c, "value") - o for c, o in zip((before, now), each, strict=True))
    if old <= 0 or new <= 0:
        why["overhead"] = "the whole time is within the overhead that was measured"
        return float("nan")
    measured = _number(before, "value") / _number(now, "value")
    return measured / (old / new)


def _kernels(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Say which kernels ran instead of which; empty where they are the same."""
    each = [c.get("ran_kernels") for c in (before, now)]
    if not all(isinstance(text, str) and text for text in each):
        return "not measured: the runtime does not name its kernels"
    old, new = (json.loads(str(text)) for text in each)
    changed = [
        f"{operator}: {old.get(operator, NOTHING)} before, {new.get(operator, NOTHING)} now"
        for operator in dict.fromkeys([*old, *new])
        if old.get(operator) != new.get(operator)
    ]
    return "; ".join(changed)


def _by_level(stacks: pd.DataFrame, base: str) -> pd.DataFrame:
    """Take the geometric mean of every factor over the stacks in which it is known."""
    rows = []
    for level, part in stacks.groupby("level", sort=False):
        after = 1.0
        for step in (*STEPS, "left"):
            values = part[step].dropna()
            factor = float(np.exp(np.log(values).mean())) if len(values) else float("nan")
            after = factor if step == "left" else after * (factor if len(values) else 1.0)
            reasons = pd.Series([w[step] for w in part["why"] if step in w], dtype=object)
            rows.append(
                {
                    "level": level, "baseline": base, "step": step, "factor": factor,
                    "after": after, "measured": len(values), "contexts": len(part),
                    "why": str(reasons.mode().iloc[0]) if len(reasons) else "",
                    "cells": part["cell"].head(5).tolist(),
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)
