"""The Pareto front in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.parts import pareto
from dlas.analyze.parts.taken import named
from dlas.analyze.tell.taken import SINGLY, in_words
from dlas.analyze.tell.words import listed, number

BY_NAME = 10
"""Members of a front that are named, where several goals make it the answer."""
SHORT = 3
"""Members of a front that are named, where it is not."""


def front(analysis: Analysis) -> Iterator[Finding]:
    """Say which cells are, and may be, on the Pareto front."""
    found = analysis.front
    if analysis.table.given and len(found):
        yield from _fronts_of_given(analysis, found)
        return
    yield from _front(analysis, found, "")


def _fronts_of_given(analysis: Analysis, found: pd.DataFrame) -> Iterator[Finding]:
    """Say the front of each level of what is given, or how large they are where there are many."""
    table = analysis.table
    rows = pd.Series(
        table.asked_for, index=pd.MultiIndex.from_frame(table.rows[["cell", "host"]].astype(str))
    )
    group = rows[~rows.index.duplicated()].loc[
        pd.MultiIndex.from_frame(found[["cell", "host"]].astype(str))
    ]
    names = named(table, list(table.given))
    first = np.unique(table.asked_for, return_index=True)[1]
    parts = [(names[first[g]], found[group.to_numpy() == g]) for g in np.unique(group)]
    if len(parts) <= SINGLY:
        for name, part in parts:
            yield from _front(analysis, part, f"With {name} ")
        return
    sizes = [int((part["front"] == pareto.ON).sum()) for _, part in parts]
    axes = listed(list(pareto.objectives(table)), 4)
    yield Finding(
        "front",
        f"The Pareto fronts of {axes} for each of {len(parts)} {' and '.join(table.given)} hold "
        f"{min(sizes)} to {max(sizes)} cells. Table front has each of them.",
        cells=tuple(parts[0][1].query("front == @pareto.ON")["cell"].astype(str).head(20)),
        numbers={"least": min(sizes), "most": max(sizes), "fronts": len(parts)},
        overturn="More rounds decide about those that may be on it.",
    )


def _front(analysis: Analysis, found: pd.DataFrame, where: str) -> Iterator[Finding]:
    axes = list(pareto.objectives(analysis.table))
    on = found[found["front"] == pareto.ON].sort_values(
        [axes[0], "cell"] if axes[0] in found else "cell", kind="stable"
    )
    asked = several_goals(analysis)
    maybe = int((found["front"] == pareto.MAYBE).sum())
    if len(on) < 2 and not (asked and len(on)):
        return
    first = on.head(BY_NAME)
    words = [in_words(analysis, str(cell)) for cell in first["cell"]]
    shown = [
        f"{w} ({_values(r, axes)})" for w, (_, r) in zip(words, first.iterrows(), strict=True)
    ]
    many = "1 cell is" if len(on) == 1 else f"{len(on)} cells are"
    text = f"{many} on the Pareto front of {listed(axes, 4)}"
    if maybe:
        text += f", {maybe} more cannot be told from being on it"
    shown += on["cell"].astype(str).tolist()[len(shown) :]
    yield Finding(
        "front",
        f"{where}{text}: {_members(shown, BY_NAME if asked else SHORT)}.",
        cells=tuple(on["cell"].astype(str).head(50)),
        numbers={"on": len(on), "maybe": maybe},
        overturn="More rounds decide about those that may be on it.",
    )


def _members(shown: list[str], most: int) -> str:
    """Return members of a front, the rest counted; stacks have commas of their own."""
    more = len(shown) - most
    return "; ".join([*shown[:most], *([f"{more} more"] if more > 0 else [])])


def _values(row: pd.Series, axes: list[str]) -> str:
    return ", ".join(f"{c} {number(float(row[c]))}" for c in axes if c in row)


def several_goals(analysis: Analysis) -> bool:
    """Say whether several metrics were asked for, so that the front is the answer."""
    goals = analysis.table.goals
    return len({*goals.minimize, *goals.maximize}) > 1
