"""How far to trust the numbers, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.estimate.levels import Bools
from dlas.analyze.estimate.table import Table
from dlas.analyze.tell.words import number, percent


def noise(analysis: Analysis) -> Iterator[Finding]:
    """Say how far to trust the numbers."""
    found = analysis.noise()
    floor = percent(found["floor"])
    if not analysis.estimates.known:
        text = (
            "The table has neither rounds nor intervals, so nothing is called significant: "
            f"differences below {floor} are not counted, and spread is spread over contexts"
        )
    elif analysis.estimates.kind == "intervals":
        text = "Noise is taken from the intervals in the table, read as 95 %"
    else:
        floors = analysis.estimates.strata["floor"]
        text = f"Two cells can be told apart from a difference of {_range(floors)}"
        if found["controls"]:
            text += (
                f"; of {found['controls']} controls measured twice "
                f"{percent(found['controls_inside'])} agree within that"
            )
        if found["inflation"] > 1:
            text += (
                "; fewer than there should be, so all intervals are "
                f"{number(found['inflation'])} times wider"
            )
        text += _disturbed(analysis)
    yield Finding(
        "noise",
        f"{text}.",
        cells=_controls(analysis),
        numbers=found,
        overturn="An error common to all rounds of a cell, which only controls can show.",
    )


def unsteady(table: Table) -> Bools:
    """Return which rows had disturbed rounds, as far as the table tells."""
    if "unsteady" not in table.cells:
        return np.zeros(len(table.cells), dtype=bool)
    marks = table.cells["unsteady"].astype(str).str.lower()
    return np.asarray(marks.isin(("true", "1", "1.0")))


def _disturbed(analysis: Analysis) -> str:
    """Say how many cells were measured in disturbed rounds, and what an interval does not hold."""
    table = analysis.table
    many, of = int(unsteady(table)[table.complete].sum()), int(table.complete.sum())
    text = f"; {many} of {of} cells had disturbed rounds (unsteady)" if many else ""
    if table.samples is not None and "session" in table.samples:
        n = int(table.samples["session"].nunique())
        text += "; intervals are of this session" if n == 1 else f"; over {n} sessions"
    return text


def _controls(analysis: Analysis) -> tuple[str, ...]:
    """Return up to 20 cells measured twice, those that agree least first."""
    controls = analysis.estimates.controls
    if not len(controls):
        return ()
    order = np.argsort(-np.abs(np.log(controls["ratio"].to_numpy(dtype=float))), kind="stable")
    ids = analysis.table.rows["cell"].to_numpy()
    rows = controls["row"].to_numpy(dtype=int)[order]
    return tuple(dict.fromkeys(str(ids[row]) for row in rows[:20]))


def _range(floors: pd.Series) -> str:
    """Return ``5.0 % on``, or the ends where the floor differs between strata."""
    low, high = percent(float(floors.min())), percent(float(floors.max()))
    return f"{low} on" if low == high else f"{low} to {high} on, depending on the choices"
