"""What was tried at a layer and what it gave: paired effects, flips, diminishing returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlas.advise.evidence import Evidence
from dlas.advise.said import HERE, Said
from dlas.analyze.tell.words import around, compared, contexts, percent

if TYPE_CHECKING:
    import pandas as pd

BESIDE = ("accuracy", "memory_mb", "build_s")
"""What is told of the two cells that stand for an effect, beside the latency."""
INTERACTIONS = ("interaction", "flip", "flips", "winner", "ways", "break-even")
MOST = 3
RETURNS = ("returns", "scaling")


def tried(known: Evidence, layer: str) -> tuple[Said, ...]:
    """Return for each choice of a layer its effect against the baseline, everything else equal."""
    analysis = known.analysis
    mine = analysis.speedups[analysis.speedups["factor"] == layer]
    if mine.empty:
        only = ", ".join(sorted(known.tried(layer)))
        return (Said(f"only {only}: nothing to compare", HERE, only),)
    return tuple(
        _effect(known, row)
        for row in mine.sort_values("ratio", ascending=False).to_dict("records")
    )


def _effect(known: Evidence, row: dict[str, Any]) -> Said:
    """Return one effect, with the pair of cells in the middle of its contexts."""
    table = known.analysis.table
    own, pair = in_the_middle(known, row)
    numbers = known.numbers(*pair, columns=(known.metric, *BESIDE))
    text = (
        f"{row['level']} is {compared(table, row['ratio'])} {row['baseline']} on average"
        f"{around(table, row['ratio'], row['low'], row['high'])}, over {contexts(row['contexts'])}"
    )
    if row["surely_faster"] and row["surely_slower"]:
        worst, best = own.loc[own["ratio"].idxmin()], own.loc[own["ratio"].idxmax()]
        text += (
            f"; it depends: {compared(table, row['most'])} it with "
            f"{_brief(known, best['context'])}, {compared(table, row['least'])} it with "
            f"{_brief(known, worst['context'])} (surely better in "
            f"{percent(row['surely_faster'])} of them, surely worse in "
            f"{percent(row['surely_slower'])})"
        )
    text += f"; for example {side_by_side(numbers, *pair)}"
    return Said(text, HERE, str(row["level"]), float(row["ratio"]), _finite(row["low"]),
                _finite(row["high"]), pair, numbers)  # fmt: skip


def in_the_middle(known: Evidence, row: Mapping[str, Any]) -> tuple[pd.DataFrame, tuple[str, str]]:
    """Return an effect's contexts, and the pair of cells whose ratio is nearest to it."""
    rows = known.analysis.speedup_contexts
    own = rows[(rows["factor"] == row["factor"]) & (rows["level"] == row["level"])]
    middle = own.iloc[(own["ratio"].map(math.log) - math.log(row["ratio"])).abs().argmin()]
    return own, (str(middle["cell"]), str(middle["baseline_cell"]))


def _brief(known: Evidence, context: object) -> str:
    """Return a context without the layers that do not vary."""
    table = known.analysis.table
    parts = [
        p for p in str(context).split(", ") if len(table.levels.get(p.partition("=")[0], "..")) > 1
    ]
    return ", ".join(parts) or "everything else as it is"


def side_by_side(numbers: Mapping[str, Mapping[str, float]], one: str, other: str) -> str:
    """Return two cells' numbers side by side, as the table has them."""
    words = []
    for column, a in numbers[one].items():
        b = numbers[other].get(column)
        if b is not None and (column not in BESIDE or a != b):
            words.append(f"{column} {a:.4g} against {b:.4g}")
    return f"{', '.join(words)} (cells {one} and {other})"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def interacts(known: Evidence, layer: str) -> tuple[Said, ...]:
    """Return the findings about what the layer's choices depend on, the first first."""
    found = [
        f
        for f in known.analysis.findings
        if f.kind.startswith(INTERACTIONS)
        and layer in {name.partition(".")[0] for name in f.layers}
    ]
    return tuple(Said(f.sentence, HERE, cells=tuple(f.cells)) for f in found[:MOST])


def diminishing(known: Evidence, layer: str) -> tuple[Said, ...]:
    """Return where more of what the layer has does not pay, or makes it worse."""
    found = [
        f
        for f in known.analysis.findings
        if f.kind in RETURNS and f.layers[0].partition(".")[0] == layer
    ]
    told = [Said(f.sentence, HERE, cells=tuple(f.cells)) for f in found]
    return (*told, *_flat(known, layer))


def _flat(known: Evidence, layer: str) -> list[Said]:
    """Return the steps of ordered factors whose gain is surely below the noise floor."""
    rows, out = known.analysis.scaling, []
    for factor in dict.fromkeys(rows["factor"]):
        if str(factor).partition(".")[0] != layer:
            continue
        part = rows[rows["factor"] == factor]
        flat = part[part["shape"].eq("flat")]
        little = math.log1p(known.analysis.table.floor)
        middle = float(part["gain"].map(math.log).median())
        if len(flat) > len(part) / 2 and abs(middle) < little:
            one = flat.iloc[0]
            cells = (str(one["cells"][0]), str(one["cells"][-1]))
            numbers = known.numbers(*cells)
            out.append(
                Said(
                    f"{factor} from {one['lowest']} to {one['highest']} gives less than the noise "
                    f"in {len(flat)} of {contexts(len(part))}: {side_by_side(numbers, *cells)}",
                    HERE, str(factor), cells=cells, numbers=numbers,
                )
            )  # fmt: skip
    return out
