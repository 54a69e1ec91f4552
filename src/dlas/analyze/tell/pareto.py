"""The best cell and the front in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.parts import pareto
from dlas.analyze.tell.words import (
    compared,
    listed,
    number,
    percent,
)

SINGLY = 12
"""What is given is told one by one up to so many, and counted beyond."""
BY_NAME = 10
"""Members of a front that are named."""


def best(analysis: Analysis) -> Iterator[Finding]:
    """Say which cell to take, for each level of what is given."""
    if analysis.table.given:
        yield from _best_of_given(analysis)
        return
    found = analysis.best
    limits = found.verdicts[found.verdicts["cell"] == found.cell]
    if not found.cell:
        text = "No cell can be recommended: none is complete"
        if len(found.verdicts):
            text = "No cell can be recommended: every complete cell surely fails a goal"
        yield Finding("best", f"{text}.", overturn="Other goals, or more cells.")
        return
    near = found.runners_up
    where = f" on {found.host}" if len(analysis.table.hosts) > 1 else ""
    text = f"Take {found.cell}{where}: {found.metric} {number(found.value)}"
    if len(limits):
        said = (f"{r.limit} {number(r.bound)}: {r.verdict}" for r in limits.itertuples())
        text += f" ({'; '.join(said)})"
    if not found.sure:
        text += ". No cell surely meets all goals; this one may"
    if len(near):
        cells = near["cell"].astype(str).tolist()
        many = "1 other" if len(near) == 1 else f"{len(near)} others"
        text += f". {many} cannot be told apart from it: {listed(cells, 3)}"
    yield Finding(
        "best",
        f"{text}.",
        cells=(found.cell, *near["cell"].astype(str).tolist()[:20]),
        numbers={"value": found.value, "sure": found.sure, "runners_up": len(near)},
        overturn="More rounds can tell the runners-up apart; other goals choose another cell.",
    )


def _best_of_given(analysis: Analysis) -> Iterator[Finding]:
    """Say what to take for each level of what is given, and what is best for all of them."""
    found = analysis.best_of_given
    there = found[found["cell"] != ""]
    what = " and ".join(analysis.table.given)
    if not len(there):
        yield Finding(
            "best",
            f"Nothing can be recommended for any {what}: every complete cell surely fails a goal, "
            "or none is complete.",
            overturn="Other goals, or more cells.",
        )
        return
    if len(found) > SINGLY:
        yield _counted(analysis, there, len(found), what)
    else:
        for r in found.itertuples():
            yield _single(analysis, r)
    yield from _common(analysis, there, what)


def _single(analysis: Analysis, r: Any) -> Finding:
    where = r.given + (f" on {r.host}" if len(analysis.table.hosts) > 1 else "")
    if not r.cell:
        text = f"With {where} nothing can be recommended: every complete cell surely fails a goal"
    else:
        text = f"With {where} take {r.choice}: {analysis.best.metric} {number(r.value)}"
        if not r.sure:
            text += ", which may meet all goals (none surely does)"
        if r.ties:
            text += f"; {r.ties} others cannot be told apart from it"
        elif np.isfinite(r.over_second):
            text += f"; the second-best is {compared(analysis.table, 1 / r.over_second)} it"
    return Finding(
        "best",
        f"{text}.",
        layers=analysis.table.given,
        cells=(r.cell,) if r.cell else (),
        numbers={"value": r.value, "sure": r.sure, "ties": r.ties},
        overturn="More rounds can tell the runners-up apart; other goals choose another cell.",
    )


def _counted(analysis: Analysis, there: pd.DataFrame, every: int, what: str) -> Finding:
    """Return how often each choice is the best one, where there are many that are given."""
    counts = Counter(there["choice"])
    ranked = sorted(counts.items(), key=lambda x: (-x[1], x[0]))
    told = [f"{choice} for {n}" for choice, n in ranked]
    text = f"Of {every} {what} the best choice is {listed(told, 5)}"
    if len(there) < every:
        text += f"; for {every - len(there)} nothing can be recommended"
    tied = int((there["ties"] > 0).sum())
    if tied:
        text += f". For {tied} it cannot be told apart from others"
    examples = [there[there["choice"] == choice].iloc[0] for choice, _ in ranked[:3]]
    return Finding(
        "best",
        f"{text}. Table best_of_given has each of them.",
        layers=analysis.table.given,
        cells=tuple(str(r["cell"]) for r in examples),
        numbers={"choices": dict(ranked[:20]), "given": every, "tied": tied},
        overturn="More rounds can tell the runners-up apart; other goals choose another cell.",
    )


def _common(analysis: Analysis, there: pd.DataFrame, what: str) -> Iterator[Finding]:
    """Say which choice is the best for all that is given together."""
    measured = there[there["loss"].notna()]
    if len(there) < 2 or not len(measured):
        return
    same = measured[measured["loss"] <= 1 + 1e-12]
    choice = str(same["choice"].iloc[0]) if len(same) else ""
    if not choice:
        return
    mean = float(np.exp(np.log(measured["loss"]).mean()))
    worst = measured.loc[measured["loss"].idxmax()]
    text = f"One choice for every {what}: {choice}, the best for {len(same)} of {len(there)}"
    if len(same) < len(measured):
        text += (
            f", {percent(mean - 1)} from the best of each on average (geometric mean) and at most "
            f"{percent(float(worst['loss']) - 1)} (with {worst['given']})"
        )
    if len(measured) < len(there):
        text += f"; not measured for {len(there) - len(measured)}"
    yield Finding(
        "best",
        f"{text}.",
        layers=analysis.table.given,
        cells=tuple(same["cell"].astype(str).head(4)),
        numbers={"mean": mean, "most": float(worst["loss"]), "best": len(same)},
        overturn=f"Another {what}, or a weight on some of them.",
    )


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
    names = pareto.named(table, list(table.given))
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
    shown = [f"{r['cell']} ({_values(r, axes)})" for _, r in on.head(BY_NAME).iterrows()]
    if not asked:
        shown = on["cell"].astype(str).tolist()
    many = "1 cell is" if len(on) == 1 else f"{len(on)} cells are"
    text = f"{many} on the Pareto front of {listed(axes, 4)}"
    if maybe:
        text += f", {maybe} more may be"
    shown += on["cell"].astype(str).tolist()[len(shown) :]
    yield Finding(
        "front",
        f"{where}{text}: {listed(shown, BY_NAME if asked else 3)}.",
        cells=tuple(on["cell"].astype(str).head(50)),
        numbers={"on": len(on), "maybe": maybe},
        overturn="More rounds decide about those that may be on it.",
    )


def _values(row: pd.Series, axes: list[str]) -> str:
    return ", ".join(f"{c} {number(float(row[c]))}" for c in axes if c in row)


def several_goals(analysis: Analysis) -> bool:
    """Say whether several metrics were asked for, so that the front is the answer."""
    goals = analysis.table.goals
    return len({*goals.minimize, *goals.maximize}) > 1
