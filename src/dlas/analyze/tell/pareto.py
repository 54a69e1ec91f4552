"""The best cell and the front in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.parts import pareto
from dlas.analyze.tell.words import (
    listed,
    number,
)


def best(analysis: Analysis) -> Iterator[Finding]:
    """Say which cell to take."""
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


def front(analysis: Analysis) -> Iterator[Finding]:
    """Say which cells are, and may be, on the Pareto front."""
    found = analysis.front
    on = found[found["front"] == pareto.ON]["cell"].astype(str).tolist()
    maybe = int((found["front"] == pareto.MAYBE).sum())
    axes = listed(list(pareto.objectives(analysis.table)), 4)
    if len(on) < 2:
        return
    text = f"{len(on)} cells are on the Pareto front of {axes}"
    if maybe:
        text += f", {maybe} more may be"
    yield Finding(
        "front",
        f"{text}: {listed(on, 3)}.",
        cells=tuple(on[:50]),
        numbers={"on": len(on), "maybe": maybe},
        overturn="More rounds decide about those that may be on it.",
    )
