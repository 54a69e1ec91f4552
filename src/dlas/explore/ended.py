"""Finished tables to play on: anyone's file, or the folder of a study that was run whole."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlas.analyze.estimate.delimited import sheet
from dlas.core import registry
from dlas.core.errors import DlasError, UserError, near
from dlas.core.goals import Goals
from dlas.core.records import Status
from dlas.core.stack import Stack
from dlas.explore.anova import Floats
from dlas.explore.axes import groups, of_frame, of_stacks
from dlas.explore.forehand import known
from dlas.explore.live import OF_ARTEFACT
from dlas.explore.replay import Finished
from dlas.tables import cells_frame
from dlas.tables.fitted import QUIET
from dlas.tables.intake import goals as goals_of
from dlas.tables.intake import study_folder, undisturbed
from dlas.tables.read import read as read_folders

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 4
"""Stacks that a table must have."""


def of_table(path: Path, layers: Sequence[str], goals: Goals) -> Finished:
    """Return a CSV or Parquet file as a finished table: a row a stack, empty: it failed.

    Raises:
        UserError: it cannot be used as asked; all reasons together.
    """
    frame = _typed(sheet(path).frame)
    problems = _unknown(frame, "--layers", layers) if layers else [
        f"--layers: say which columns of {path} make up a stack, with commas"
    ]  # fmt: skip
    problems += _metrics(frame, goals)
    if problems:
        raise UserError(problems)
    doubles = int(frame.duplicated(list(layers)).sum())
    if doubles:
        raise UserError(
            f"{path}: {doubles} rows repeat a stack that stands in another row; a stack is one "
            f"combination of {', '.join(layers)}"
        )
    return _checked(Finished(of_frame(frame, layers), goals, _values(frame, goals)), path)


def of_folder(folder: Path, goals: Goals, metric: str = QUIET) -> Finished:
    """Return the folder of a study as a finished table, under ``goals`` or else its own.

    Stacks that were not run, or cannot be, are left out. A goal to minimize latency is judged by
    ``metric``: undisturbed, or as seen.

    Raises:
        UserError: it holds no results, those of several hosts, or no such columns.
    """
    (results,) = read_folders([folder])
    frame = cells_frame([results])
    ended = frame["status"].isin([Status.COMPLETE.value, Status.FAILED.value])
    frame = frame[ended].reset_index(drop=True)
    goals = goals if goals.columns else goals_of([folder])[0]
    goals, _ = undisturbed(goals, metric)
    hosts = sorted(set(frame["host"]))
    problems = _metrics(frame, goals)
    if len(hosts) > 1:
        problems.append(f"{folder} holds cells of {len(hosts)} hosts: play on one host's folder")
    if frame["cell"].duplicated().any():
        problems.append(f"{folder} holds cells of several studies with stacks in common")
    if problems:
        raise UserError(problems)
    for column in goals.columns:  # of a failed cell some columns may be there
        frame.loc[frame["status"] != Status.COMPLETE.value, column] = np.nan
    stacks = [results.stacks[cell] for cell in frame["cell"]]
    artefacts = groups(
        [a or cell for a, cell in zip(frame["artifact"], frame["cell"], strict=True)]
    )
    hardware = [stack.text("hardware") for stack in stacks]
    memory = groups(list(zip(artefacts.tolist(), hardware, strict=True)))
    shared = {**dict.fromkeys(OF_ARTEFACT, artefacts), "memory_mb": memory}
    candidates = replace(of_stacks(stacks, shared), known=_forehand(folder, stacks))
    cells = tuple(str(cell) for cell in frame["cell"])
    return _checked(Finished(candidates, goals, _values(frame, goals), cells), folder)


def _forehand(folder: Path, stacks: Sequence[Stack]) -> Floats | None:
    """Return what was known of stacks before any was measured, as an exploration has it.

    None where a technique of theirs is not here: then it is not known.
    """
    with contextlib.chdir(study_folder(folder)):
        try:
            techniques = [registry.resolve(stack) for stack in stacks]
        except DlasError:
            return None
        networks = [f"{s.text('dataset')} {s.text('model')}" for s in stacks]
        return known(list(zip(networks, techniques, strict=True)))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a sheet whose columns of numbers hold numbers."""
    import pandas as pd

    def typed(column: pd.Series) -> pd.Series:
        try:
            return pd.to_numeric(column)
        except (TypeError, ValueError):
            return column

    return frame.rename(columns=str).apply(typed)


def _metrics(frame: pd.DataFrame, goals: Goals) -> list[str]:
    if not (goals.minimize or goals.maximize):
        return ["say what is sought: --minimize COLUMN[,COLUMN] or --maximize COLUMN[,COLUMN]"]
    problems = _unknown(frame, "goals", goals.columns)
    both = sorted(set(goals.minimize) & set(goals.maximize))
    if both:
        problems.append(f"{', '.join(both)}: cannot be minimized and maximized at once")
    for column in goals.columns:
        if column in frame.columns:
            try:
                frame[column].astype("float64")
            except (TypeError, ValueError):
                problems.append(f"column {column!r} is not numeric: it cannot be sought")
    return problems


def _unknown(frame: pd.DataFrame, option: str, wanted: Sequence[str]) -> list[str]:
    known = [str(column) for column in frame.columns]
    return [
        f"{option}: no column is called {name!r}.{near(name, known)} Columns: {', '.join(known)}."
        for name in wanted
        if name not in known
    ]


def _values(frame: pd.DataFrame, goals: Goals) -> dict[str, Floats]:
    return {
        column: frame[column].to_numpy(dtype=float, na_value=np.nan) for column in goals.columns
    }


def _checked(finished: Finished, path: Path) -> Finished:
    if len(finished.candidates) < FEWEST:
        raise UserError(
            f"{path}: {len(finished.candidates)} finished stacks are too few to play on"
        )
    if not finished.candidates.axes:
        raise UserError(f"{path}: its stacks differ in nothing")
    if not finished.good.any():
        raise UserError(f"{path}: no stack works and meets the limits")
    return finished
