"""What was read of a table, in sentences: its layers and their order, the direction, the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from dlas.analyze.estimate.demands import Wanted
from dlas.analyze.estimate.levels import EMPTY
from dlas.analyze.estimate.scales import NAMES, LevelScale
from dlas.analyze.estimate.standard import OWN, STATUS, Standard
from dlas.analyze.estimate.table import Table

USED = frozenset((
    "macs", "effective_macs", "params", "nonzero_params", "bytes", "weights_mb",
    "artifact_mb", "ran_threads", "ran_precision", "accuracy", "accuracy_low",
    "accuracy_high", "accuracy_drop", "accuracy_n", "flips", "agreement", "build_s", "tuning_s",
    "memory_mb", "energy_mj", "latency_ms",
))  # fmt: skip
"""Columns that the parts of the analysis use by their names."""
SHOWN = 12


def described(table: Table, found: Standard, wanted: Wanted) -> tuple[str, ...]:
    """Return what a reader must know of how a table was read."""
    return (
        f"Layers: {', '.join(_layer(table, x) for x in table.layers)}.",
        *_doubts(found.scales),
        *_spelled(found.scales),
        _direction(table, wanted),
        *_host(table),
        *_goals(table),
        *_rest(table, found.frame, wanted),
    )


def _layer(table: Table, name: str) -> str:
    levels = [s for s in table.levels[name] if s != EMPTY]
    kind = table.scales.get(name, NAMES)
    text = f"{len(levels)} {'level' if len(levels) == 1 else 'levels'}"
    if kind != NAMES and len(levels) > 1:
        text += f", ordered as {kind} from {levels[0]} to {levels[-1]}"
    if name in table.given:
        text += ", given"
    return f"{name} ({text})"


def _doubts(scales: Mapping[str, LevelScale]) -> list[str]:
    """Say of which levels nobody can tell whether they are numbers or versions."""
    return [
        f"{name} is not ordered: {scale.doubt}. --order {name}=versions or {name}=numbers says "
        "which."
        for name, scale in scales.items()
        if scale.doubt
    ]


def _spelled(scales: Mapping[str, LevelScale]) -> list[str]:
    """Say which spellings of a number are one level."""
    out = []
    for name, scale in scales.items():
        same = ", ".join(f"{k} is {v}" for k, v in list(scale.twins.items())[:3])
        if same:
            out.append(f"Levels of {name} that are the same number are one level: {same}.")
    return out


def _direction(table: Table, wanted: Wanted) -> str:
    more, other = ("More", "minimize") if table.maximize else ("Less", "maximize")
    text = f"{more} of {table.metric} is better, {wanted.why}"
    return (
        f"{text} (--{other} {table.metric} says otherwise)."
        if "name" in wanted.why
        else f"{text}."
    )


def _host(table: Table) -> list[str]:
    if len(table.hosts) < 2:
        return []
    return ["The column host names machines; to compare them, name it in --layers."]


def _goals(table: Table) -> list[str]:
    """Say which limits let nothing or everything through, and where their columns lie."""
    out = []
    sides = [(c, b, "at most") for c, b in table.goals.at_most]
    sides += [(c, b, "at least") for c, b in table.goals.at_least]
    for column, bound, word in sides:
        values = pd.to_numeric(table.cells[column], errors="coerce")[table.complete].dropna()
        if not len(values):
            continue
        meets = values <= bound if word == "at most" else values >= bound
        share = float(meets.mean())
        if share in (0.0, 1.0):
            which = "no row meets" if share == 0 else "every row meets"
            out.append(
                f"{column} {word} {bound:g}: {which} it; {column} goes from {values.min():g} to "
                f"{values.max():g}."
            )
    return out


def _rest(table: Table, frame: pd.DataFrame, wanted: Wanted) -> list[str]:
    """Name the columns that have no say."""
    own = {*OWN, wanted.status or STATUS}
    own -= {"value"} if wanted.metric != "value" else set()
    known = {*wanted.columns, *wanted.measured, *table.parameters, *own, *USED}
    rest: Sequence[str] = [str(c) for c in frame.columns if c not in known]
    if not rest:
        return []
    more = f" and {len(rest) - SHOWN} more" if len(rest) > SHOWN else ""
    return [f"Columns that have no say, being neither layers nor metrics: "
            f"{', '.join(rest[:SHOWN])}{more}."]  # fmt: skip
