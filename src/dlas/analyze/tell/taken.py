"""The stack to take, in sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.estimate.levels import Bools
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.paid import SCORE, columns
from dlas.analyze.parts.taken import Best
from dlas.analyze.tell.noise import unsteady
from dlas.analyze.tell.words import better, compared, listed, number, percent

SINGLY = 12
"""What is given is told one by one up to so many, and counted beyond."""
NAMED = 3
"""Stacks that cannot be told from the one to take, and are told in words."""


def best(analysis: Analysis) -> Iterator[Finding]:
    """Say which cell to take, for each level of what is given."""
    if analysis.table.given:
        yield from _best_of_given(analysis)
        return
    found = analysis.best
    limits = found.verdicts[_at(found.verdicts, found)]
    if not found.cell:
        text = "No cell can be recommended: none is complete"
        if len(found.verdicts):
            text = "No cell can be recommended: every complete cell surely fails a goal"
        yield Finding("best", f"{text}.", overturn="Other goals, or more cells.")
        return
    rest = (_met(limits), _unsure(found), _else(analysis, found), _rivals(analysis, found))
    where = f" on {found.host}" if len(analysis.table.hosts) > 1 else ""
    text = f"Take {in_words(analysis, found.cell)}{where}: {found.metric} {number(found.value)}"
    near = found.runners_up["cell"].astype(str).tolist()
    yield Finding(
        "best",
        f"{text}{''.join(rest)}.",
        choices=tuple(f"{x}={found.stack[x]}" for x in analysis.table.varied),
        fact="what to take",
        cells=(found.cell, *near[:20]),
        numbers={"value": found.value, "sure": found.sure, "runners_up": len(near),
                 "chance": found.chance, "regret": found.regret, "fastest": found.fastest,
                 "stack": dict(found.stack)},
        overturn="More rounds can tell the runners-up apart; other goals choose another cell.",
    )  # fmt: skip


def in_words(analysis: Analysis, cell: str, beside: str = "") -> str:
    """Return a stack in words, by the layers of which there are several levels.

    Args:
        analysis: it is of.
        cell: the stack.
        beside: another one; what both have in common is left out.
    """
    table = analysis.table
    stack = _stack(table, cell)
    other = _stack(table, beside) if beside else {}
    told = [f"{x}={v}" for x, v in stack.items() if other.get(x) != v]
    return ", ".join(told) or cell


def _stack(table: Table, cell: str) -> dict[str, str]:
    row = int(np.flatnonzero(table.rows["cell"].astype(str).to_numpy() == cell)[0])
    return {x: str(table.cells[x].iloc[row]) for x in table.varied}


def _met(limits: pd.DataFrame) -> str:
    said = [f"{r.limit} {number(r.bound)}: {r.verdict}" for r in limits.itertuples()]
    return f" ({'; '.join(said)})" if said else ""


def _at(frame: pd.DataFrame, found: Best) -> Bools:
    """Return which rows are of the best cell on its host: others may have the same cell."""
    same = frame["cell"].astype(str).eq(found.cell)
    return np.asarray(same & frame["host"].fillna("").astype(str).eq(found.host))


def _unsure(found: Best) -> str:
    return "" if found.sure else ". No cell surely meets all goals; this one may"


def _else(analysis: Analysis, found: Best) -> str:
    """Return what else is known of the stack: its score, its memory, whether it was disturbed."""
    table = analysis.table
    here = _at(table.rows, found)
    row = table.cells[here].iloc[0]
    told = [
        f"{name} {number(value)}"
        for name in columns(table)
        if name in (SCORE, "memory_mb")
        and math.isfinite(value := float(pd.to_numeric(row[name], errors="coerce")))
    ]
    text = f"; it has {', '.join(told)}" if told else ""
    if unsteady(table)[here].any():
        text += "; its rounds were disturbed (unsteady)"
    if table.goals.columns and len(table.levels.get("model", ())) > 1 and any(
        c == f"{SCORE}_drop" for c, _ in table.goals.at_most
    ):  # fmt: skip
        text += (
            f". A drop of {SCORE} is against each model's own, so that a small model can win: "
            f"`{SCORE}_at_least` says what the stack has to reach"
        )
    return text


def _rivals(analysis: Analysis, found: Best) -> str:
    """Name those that cannot be told apart, by what is other in them."""
    near = found.runners_up
    if not len(near):
        return ""
    many = "1 other" if len(near) == 1 else f"{len(near)} others"
    told = []
    for r in near.head(NAMED).itertuples():
        size = compared(analysis.table, 1 / r.ratio).removesuffix(" than")
        told.append(f"{in_words(analysis, str(r.cell), found.cell)} ({size} by its estimate)")
    text = f". {many} cannot be told apart from it: {'; '.join(told)}"
    if len(near) > NAMED:
        text += f"; {len(near) - NAMED} more"
    if found.fastest != found.cell:
        text += ". Of all of them it serves the further goals best and is the simplest"
    return text + _odds(analysis.table, found)


def _odds(table: Table, found: Best) -> str:
    """Say how likely it is the fastest of its rivals, and what is at stake."""
    if not math.isfinite(found.chance):
        return ""
    left_out = found.sure and not found.runners_up["meets"].all()
    them = "those that surely meet the goals" if left_out else "them"
    top = "fastest" if better(table)[0] == "faster" else "best"
    text = f". By its estimates it is the {top} of {them} with a probability of "
    text += percent(found.chance)
    if math.isfinite(found.regret):
        text += f"; if another is, by {percent(found.regret)} in the median"
    return text


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
