"""A table from elsewhere as what the page is made of: nothing is known of its rounds and hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dlas import tables
from dlas.analyze import Table, analyze
from dlas.core.goals import Goals
from dlas.report.material import Material

OWN = ("cell", "host", "status", "reason", "study", "stage", "session", "row", "folder", "log")
"""What every row of the page has beside its layers and measures."""
OF_ROWS = ["cell", "host", "status", "reason"]


def of_table(table: Table, files: Sequence[Path | str]) -> Material:
    """Analyse a table from elsewhere.

    Columns of the analysis that are called as something that every row of the page has (a layer
    ``host``) get another name there, which is said.

    Args:
        table: from ``dlas.analyze.load_table``.
        files: what it was read from.
    """
    title = ", ".join(Path(each).stem for each in files)
    table = _apart(table)
    found = analyze(table)
    own = table.rows[OF_ROWS].assign(study=title, stage=None, session=None)
    cells = table.cells.assign(**own, **{table.metric: table.rows["value"]})
    strata = found.estimates.strata
    return Material(
        folders=(),
        results=(),
        cells=cells,
        folder_of=(0,) * len(cells),
        rounds=tables.rounds_frame([]),
        controls=tables.controls_frame([]),
        floors=strata.assign(host="", controls=0, inside=None),
        sentinels=tables.sentinels_frame([]),
        ceilings=tables.ceilings_frame([]),
        hosts={},
        sessions=(),
        analysis=found,
        analyzed=len(cells),
        notes=(),
        sources=tuple(str(each) for each in files),
        layers=table.layers,
        metric=table.metric,
    )


def _apart(table: Table) -> Table:
    """Return a table none of whose columns is called as something of the page's own."""
    called = {name: f"{name}_" for name in (*table.layers, table.metric) if name in OWN}
    if not called:
        return table
    told = ", ".join(f"{old} is {new}" for old, new in called.items())
    parameters = {name: _parameter(name, called) for name in table.parameters}
    own = {name: table.rows[name] for name in (*OF_ROWS, "value")}
    return replace(
        table,
        cells=table.cells.rename(columns={**parameters, **called}).assign(**own),
        apart=None,
        layers=_all(table.layers, called),
        parameters=tuple(parameters.values()),
        metric=called.get(table.metric, table.metric),
        baseline={called.get(k, k): v for k, v in table.baseline.items()},
        scales={{**parameters, **called}.get(k, k): v for k, v in table.scales.items()},
        given=_all(table.given, called),
        strata=None if table.strata is None else _all(table.strata, called),
        goals=_goals(table.goals, called),
        notes=(*table.notes, f"Columns that the page calls otherwise than the table: {told}."),
    )


def _all(names: Sequence[str], called: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(called.get(name, name) for name in names)


def _parameter(name: str, called: Mapping[str, str]) -> str:
    layer, dot, rest = name.partition(".")
    return f"{called.get(layer, layer)}{dot}{rest}"


def _goals(goals: Goals, called: Mapping[str, str]) -> Goals:
    return Goals(
        _all(goals.minimize, called),
        _all(goals.maximize, called),
        tuple((called.get(c, c), bound) for c, bound in goals.at_most),
        tuple((called.get(c, c), bound) for c, bound in goals.at_least),
    )
