"""Tables for ``dlas analyze`` and ``dlas compare``, from output folders or anyone's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlas.analyze import Table, from_study, load_table
from dlas.core.errors import StorageError, UserError, near
from dlas.core.goals import Goals, parse_goals
from dlas.study.form import within_limits
from dlas.study.source import read
from dlas.tables import ceilings_frame, cells_frame, rounds_frame
from dlas.tables.fitted import OF_ROUND, QUIET, SEEN, estimates_of
from dlas.tables.provenance import told
from dlas.tables.read import Results, choices_of, current
from dlas.tables.read import read as read_folders

if TYPE_CHECKING:
    import pandas as pd

ARITHMETIC_TYPE = "float32"
"""The type whose arithmetic ceiling a study measures."""
STUDY = "study.yaml"
"""The study as it was run, in its output folder."""


@dataclass(frozen=True)
class Asked:
    """What is asked of any table."""

    metric: str
    baseline: tuple[str, ...] = ()
    """``LAYER=LEVEL`` each."""
    floor: float | None = None
    maximize: bool = False


def of_folders(folders: Sequence[Path], asked: Asked) -> Table:
    """Return the table of output folders, with the goals of the study.

    Raises:
        UserError: a folder holds no results, or they have no such metric.
    """
    return of_results(read_folders(folders), folders, asked)


def of_results(results: Sequence[Results], folders: Sequence[Path], asked: Asked) -> Table:
    """Return the table of what was read from output folders: see :func:`of_folders`.

    Cells that the study of a folder no longer has are left out, and counted in its notes.
    """
    said = told(results)
    results = current(results)
    cells = cells_frame(results)
    _check_apart(results)
    if asked.metric not in cells.columns:
        known = [str(c) for c in cells.columns]
        raise UserError(f"no column is called {asked.metric!r}.{near(asked.metric, known)}")
    sought, wrong = goals(folders)
    sought, note = undisturbed(sought, asked.metric)
    table = from_study(
        cells,
        rounds_frame(results),
        estimates=estimates_of(results, cells, asked.metric) if asked.metric in OF_ROUND else None,
        metric=asked.metric,
        baseline=dict(_pair(each) for each in asked.baseline),
        floor=asked.floor,
        goals=sought,
        ceilings=ceilings(results, cells),
        choices=choices_of(results),
    )
    return _noted(replace(table, notes=(*said, *table.notes)), (*wrong, *note))


def undisturbed(sought: Goals, metric: str) -> tuple[Goals, tuple[str, ...]]:
    """Let undisturbed latency stand for latency where stacks are compared; limits stay as seen."""
    if metric != QUIET or SEEN not in sought.minimize:
        return sought, ()
    minimize = tuple(QUIET if name == SEEN else name for name in sought.minimize)
    note = (
        f"The goal to minimize {SEEN} is judged by {QUIET}, the latency undisturbed by "
        f"neighbours; limits on {SEEN} are judged as seen. `--metric {SEEN}` compares as seen."
    )
    return replace(sought, minimize=minimize), (note,)


def _noted(table: Table, notes: Sequence[str]) -> Table:
    """Say which hosts have cells but no noise: their cells are in no comparison."""
    table = replace(table, notes=(*table.notes, *notes))
    if table.estimates is None:
        return table
    bare = table.cells["host"][table.complete & ~np.isfinite(table.estimates.mean)]
    left_out = [
        f"{count} complete cells of host {host} are left out of all comparisons: no cell was "
        "measured there in two rounds, so that nothing is known of its noise."
        for host, count in bare.value_counts(sort=False).items()
    ]
    return replace(table, notes=(*table.notes, *left_out))


def _check_apart(results: Sequence[Results]) -> None:
    """Refuse folders that hold the same cells of the same host: they are runs to be compared."""
    seen: dict[tuple[str, str], Results] = {}
    for each in results:
        here = {(cell, host) for cell, hosts in each.hosts_of.items() for host in hosts}
        both = here & seen.keys()
        if both:
            other = seen[min(both)].folder
            raise UserError(
                f"{other} and {each.folder} have {len(both)} cells of the same host in common, "
                f"which one analysis cannot tell apart. `dlas compare {other} {each.folder}` says "
                "what changed between them; to analyse, give one of them, or folders of other "
                "cells or other hosts."
            )
        seen |= dict.fromkeys(here, each)


def ceilings(results: Sequence[Results], cells: pd.DataFrame) -> pd.DataFrame | None:
    """Return what the machines could do at most, for every place where a cell ran.

    Of all readings of a host the largest arithmetic and bandwidth and the least overhead; None
    where a study measured none.
    """
    read_there = ceilings_frame(results)
    told = read_there[read_there["value"].notna()]
    if not len(told):
        return None
    found = cells[["host", "hardware", "software", "dataset"]].dropna().drop_duplicates()
    for kind, figure in (("arithmetic", "gflops"), ("memory", "gb_s")):
        of_kind = told[told["kind"] == kind].groupby(["host", "hardware"])
        most = of_kind.agg(**{figure: ("value", "max")}).reset_index()
        found = found.merge(most, on=["host", "hardware"], how="left")
    keys = ["host", "hardware", "software", "dataset"]
    overhead = told[told["kind"] == "overhead"].groupby(keys)
    least = overhead.agg(overhead_ms=("value", "min")).reset_index()
    caches = told.groupby(["host"]).agg(cache_mb=("cache_mb", "max")).reset_index()
    found = found.merge(least, on=keys, how="left").merge(caches, on="host", how="left")
    return found.assign(precision=ARITHMETIC_TYPE)


def _pair(text: str) -> tuple[str, str]:
    layer, sign, level = text.partition("=")
    if not sign:
        raise UserError(f"--baseline {text!r}: must be LAYER=LEVEL")
    return layer.strip(), level.strip()


def goals(folders: Sequence[Path]) -> tuple[Goals, tuple[str, ...]]:
    """Return the goals of the first study that has some, and what is wrong with its limits."""
    for folder in folders:
        file = folder / STUDY
        data = read(file)[0].data if file.is_file() else None
        if isinstance(data, Mapping) and isinstance(data.get("goals"), Mapping):
            return within_limits(parse_goals(data["goals"]))
    return Goals(), ()


def study_folder(folder: Path) -> Path:
    """Return where the relative paths and own modules of an output folder's study start.

    The folder itself where its study names none, or one that is not on this machine.
    """
    file = folder / STUDY
    data = read(file)[0].data if file.is_file() else None
    given = data.get("folder") if isinstance(data, Mapping) else None
    place = folder / str(given) if given else folder
    return (place if place.is_dir() else folder).resolve()


def of_table(
    files: Sequence[Path],
    layers: str,
    low: str | None,
    high: str | None,
    rounds: str | None,
    asked: Asked,
) -> Table:
    """Return the table of CSV or Parquet files with any column names.

    Raises:
        UserError: the files cannot be used as asked; all reasons together.
    """
    return load_table(
        list(files),
        layers=layers,
        metric=asked.metric,
        low=low,
        high=high,
        rounds=rounds,
        baseline=asked.baseline,
        floor=asked.floor,
        maximize=asked.maximize,
    )


def save(text: str, path: Path) -> None:
    """Write findings.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
