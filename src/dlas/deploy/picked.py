"""CELL or ``best`` -> the cell that is exported: its row, its stack, where its artefact lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dlas.analyze.estimate.noise import estimate
from dlas.analyze.parts.taken import Best, best
from dlas.analyze.parts.within import FAILS
from dlas.core.errors import StorageError, UserError
from dlas.core.records import Stage, Status
from dlas.core.stack import Stack
from dlas.run.measure import host as hosts
from dlas.run.run import STORE
from dlas.store.address import address_of
from dlas.store.artifacts import ArtifactStore
from dlas.store.bundle import STUDY
from dlas.store.facts import Built, Rests
from dlas.store.results import FactRow, HostRow, ResultStore
from dlas.tables import cells_frame, intake
from dlas.tables.read import Results, read

BEST = "best"
METRIC = "quiet_ms"
"""What is analysed, as in the report: both name the same best cell."""


@dataclass(frozen=True)
class Located:
    """A complete cell of this machine, and the folders of what it is made of."""

    folder: Path
    cell: str
    stack: Stack
    row: Mapping[str, Any]
    """Its row of ``dlas table``."""
    host: Mapping[str, Any]
    """The description of the machine that measured it: this one."""
    artifact: Path
    content: str
    """The artefact's hash."""
    inputs: Path
    reference: Path | None
    """The outputs that the lowered network has to reproduce; None: no longer there."""
    chosen: Best | None = None
    """What the analysis says where ``best`` was asked for."""


def pick(
    folder: Path, asked: str, store: Path | None = None, metric: str | None = None
) -> Located:
    """Return the cell whose hash begins with ``asked``, or the best under the study's goals.

    ``metric`` is what the best is judged by (``METRIC``).

    Raises:
        UserError: there is no such cell, or several; it is not complete, or was not measured on
            this machine; its artefact is not in the store any more; a metric, and nothing that is
            judged by it.
        StorageError: a file is damaged.
    """
    (results,) = read([folder])
    here = hosts.this_class()
    chosen = None
    if metric is not None and asked != BEST:
        raise UserError(
            f"--metric {metric} says by what the best is judged, and {asked!r} names a cell: "
            "leave --metric out, or ask for `best`"
        )
    if asked == BEST:
        chosen = _best(_of_host(results, folder, here), folder, metric or METRIC)
        asked = chosen.cell
    cell = _named(results, folder, asked)
    row = _row(results, folder, cell, here)
    if store is None:
        store = folder / STORE
    artifact, content, inputs, reference = _folders(results, folder, cell, here, store)
    return Located(
        folder, cell, results.stacks[cell], row, _description(folder, here), artifact, content,
        inputs, reference, chosen,
    )  # fmt: skip


def again(folder: Path, cell: str, *, remeasure: bool = False) -> str:
    """Return the command that runs a cell here, in its output folder."""
    end = " --remeasure" if remeasure else ""
    return f"dlas run {folder / STUDY} --out {folder} --only {cell}{end}"


# ---------------------------------------------------------------- which cell


def _of_host(results: Results, folder: Path, here: str) -> Results:
    """Return what this machine measured.

    Raises:
        UserError: it measured nothing.
    """
    measured = sorted({row.host for row in results.rounds})
    if here not in measured:
        others = ", ".join(measured) or "none"
        raise UserError(
            f"{folder} holds no measurements of this machine (host {here}); those there are of "
            f"{others}. What is fastest there need not be so here, and what was built there may "
            f"not run here: run the study here, `dlas run {folder / STUDY} --out {folder}`,"
            " or export on the machine that measured."
        )
    return replace(
        results,
        facts=[fact for fact in results.facts if fact.host == here],
        rounds=[row for row in results.rounds if row.host == here],
        remembered={},
    )


def _best(results: Results, folder: Path, metric: str) -> Best:
    """Return the best cell under the goals.

    Raises:
        UserError: no cell meets them; says which comes closest.
    """
    table = intake.of_results([results], [folder], intake.Asked(metric))
    if not table.complete.any():
        raise UserError(f"{metric} was measured of no cell of {folder}")
    found = best(table, estimate(table))
    if not found.cell:
        raise UserError(f"no cell of {folder} meets the goals of the study.{_closest(found)}")
    return found


def _closest(found: Best) -> str:
    """Return which cell misses its limits least, and by what."""
    missed = found.verdicts[found.verdicts["verdict"] == FAILS]
    if missed.empty:
        return ""
    off = (missed["value"] - missed["bound"]).abs() / missed["bound"].abs().clip(lower=1e-9)
    by = off.groupby(missed["cell"]).max()
    cell = str(by.idxmin())
    told = missed[missed["cell"] == cell]
    what = ", ".join(f"{r.limit} {r.bound:g}: {r.value:.4g}" for r in told.itertuples())
    return f" The closest is {cell} ({what}); name a cell to export it all the same."


def _named(results: Results, folder: Path, asked: str) -> str:
    cells = list(dict.fromkeys(row.cell for row in results.cells))
    found = [cell for cell in cells if asked and cell.startswith(asked)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
        raise UserError(
            f"{len(found)} cells of {folder} begin with {asked!r}: {listed}; give more digits"
        )
    some = ", ".join(cells[:3]) or "none"
    raise UserError(
        f"no cell of {folder} begins with {asked!r}; there are {len(cells)}, e.g. {some}. "
        f"`dlas table {folder}` lists them; `best` is the best under the study's goals"
    )


def _row(results: Results, folder: Path, cell: str, here: str) -> dict[str, Any]:
    """Return the cell's row of this machine.

    Raises:
        UserError: it is not complete, or another machine's.
    """
    frame = cells_frame([results])
    rows = [row for row in frame.to_dict("records") if row["cell"] == cell]
    mine = [row for row in rows if row["host"] == here]
    if not mine:
        others = ", ".join(sorted({str(row["host"]) for row in rows if row["host"]}))
        if not others or not results.rounds_of.keys() & {(cell, row["host"]) for row in rows}:
            raise UserError(_incomplete(rows[0], folder))
        raise UserError(
            f"cell {cell} of {folder} was measured on another machine (host {others}; this is "
            f"{here}), and what was built there may not run here. Run it here, "
            f"`{again(folder, cell)}`, or export there."
        )
    complete = [row for row in mine if row["status"] == Status.COMPLETE]
    if not complete:
        raise UserError(_incomplete(mine[0], folder))
    return {str(name): value for name, value in complete[0].items()}


def _incomplete(row: Mapping[str, Any], folder: Path) -> str:
    why = f" ({row['stage']}: {row['reason']})" if row["stage"] else ""
    why = why or (f" ({row['reason']})" if row["reason"] else "")
    return (
        f"cell {row['cell']} of {folder} is {row['status']}{why}: only a complete cell can be "
        f"exported. `{again(folder, str(row['cell']))}` runs what it lacks."
    )


# ---------------------------------------------------------------- where it lies


def _folders(
    results: Results, folder: Path, cell: str, here: str, store: Path
) -> tuple[Path, str, Path, Path | None]:
    facts = results.facts_of[cell, here]
    content = facts[Built.KIND].content
    lost = UserError(
        f"the artefact of cell {cell} is not in {store} any more: "
        f"`{again(folder, cell, remeasure=True)}` makes it anew"
        f"{'' if store == folder / STORE else f' (with --store {store})'}."
    )
    if content is None or not store.is_dir():
        raise lost
    artifacts = ArtifactStore(store, create=False)
    made = _steps(artifacts, facts.get(Rests.KIND))
    inputs = made.get(Stage.INPUTS)
    if not artifacts.has(content) or inputs is None or not artifacts.has(inputs):
        raise lost
    reference = made.get(Stage.REFERENCE)
    return (
        artifacts.path(content),
        content,
        artifacts.path(inputs),
        artifacts.path(reference) if reference and artifacts.has(reference) else None,
    )


def _steps(artifacts: ArtifactStore, rests: FactRow | None) -> dict[str, str]:
    """Return by stage the content of what the cell rests on."""
    keys: Sequence[str] = () if rests is None else Rests.from_json(rests.value).keys
    records = [record for key in keys if (record := artifacts.get(key)) is not None]
    return {record.stage: record.content for record in records if record.content}


def _description(folder: Path, here: str) -> Mapping[str, Any]:
    with ResultStore(address_of(folder), read_only=True) as store:
        rows = store.rows(HostRow, host=here)
    if not rows:
        raise StorageError(f"{folder} has lost the description of host {here}")
    return rows[0].description
