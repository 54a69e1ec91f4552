"""Tables for ``dlas analyze`` and ``dlas compare``, from output folders or anyone's files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlas.analyze import Table, from_study, load_pair, load_table
from dlas.analyze.estimate.load import direction
from dlas.core.errors import StorageError, UserError, near
from dlas.core.goals import Goals, parse_goals
from dlas.store.bundle import STUDY, is_bundle, study_text
from dlas.study.form import within_limits
from dlas.study.source import parse, read
from dlas.tables import ceilings_frame, cells_frame, rounds_frame
from dlas.tables.ceilings import ARITHMETIC_TYPE
from dlas.tables.environments import matched
from dlas.tables.fitted import OF_ROUND, QUIET, SEEN, estimates_of
from dlas.tables.provenance import differences, told
from dlas.tables.read import Results, choices_of, current
from dlas.tables.read import read as read_folders

if TYPE_CHECKING:
    import pandas as pd

DATABASE = b"SQLite format 3"
"""How a file of results begins."""
Pair = tuple[Table, Table]
"""Two tables to be compared."""


@dataclass(frozen=True)
class Asked:
    """What is asked of any table."""

    metric: str | None = None
    """The column analysed; the first goal where it is not said, else the usual one."""
    baseline: tuple[str, ...] = ()
    """``LAYER=LEVEL`` each."""
    floor: float | None = None
    goals: Goals = field(default_factory=Goals)
    """Those of the study where there is none."""
    given: tuple[str, ...] = ()
    """The layers among whose levels nobody chooses."""

    def analysed(self, usual: str) -> str:
        """Return the column analysed."""
        first = (*self.goals.minimize, *self.goals.maximize, usual)[0]
        return self.metric or first

    @property
    def sought(self) -> Goals:
        """The goals, the metric that was named beside them among them."""
        goals = self.goals
        if self.metric is None or not (goals.minimize or goals.maximize):
            return goals
        if self.metric in (*goals.minimize, *goals.maximize):
            return goals
        more, _ = direction(self.metric, None, goals)
        if more:
            return replace(goals, maximize=(self.metric, *goals.maximize))
        return replace(goals, minimize=(self.metric, *goals.minimize))


@dataclass(frozen=True)
class Columns:
    """What the columns of anyone's table are; see :func:`dlas.analyze.load_table`."""

    layers: str | tuple[str, ...]
    """With commas, or one by one."""
    low: str | None = None
    high: str | None = None
    rounds: str | None = None
    repeats: bool = False
    status: str | None = None
    status_ok: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    """``COLUMN=numbers``, ``versions`` or ``names`` each."""
    separator: str | None = None


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
    metric, known = asked.analysed(QUIET), [str(c) for c in cells.columns]
    if metric not in known:
        raise UserError(f"no column is called {metric!r}.{near(metric, known)}")
    sought, wrong = (asked.sought, ()) if asked.sought.columns else goals(folders)
    sought, note = undisturbed(sought, metric)
    table = from_study(
        cells,
        rounds_frame(results),
        estimates=estimates_of(results, cells, metric) if metric in OF_ROUND else None,
        metric=metric,
        baseline=dict(_pair(each, "--baseline") for each in asked.baseline),
        floor=asked.floor,
        goals=sought,
        given=asked.given,
        ceilings=ceilings(results, cells),
        choices=choices_of(results),
    )
    return _noted(replace(table, notes=(*said, *table.notes)), (*wrong, *note))


def of_two_folders(first: Path, second: Path, asked: Asked) -> tuple[Pair, tuple[str, ...]]:
    """Return the tables of two output folders to be compared, and what they do not have in common.

    Software that each has in one environment is the same level, wherever that lies.

    Raises:
        UserError: a folder holds no results, or they have no such metric.
    """
    before, after = (read_folders(each)[0] for each in (first, second))
    differ = differences(before, after)
    one, two, versions = matched(before, after)
    pair = of_results([one], [first], asked), of_results([two], [second], asked)
    return pair, (*versions, *differ)


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
    known = np.isfinite(table.estimates.mean)
    bare = table.cells["host"][table.complete & ~known]
    bare = bare[~bare.isin(table.cells["host"][known])]
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
    arithmetic = told["kind"].eq("arithmetic")
    figures = {"gflops": arithmetic & told["precision"].eq(ARITHMETIC_TYPE)}
    for precision in sorted({*told["precision"].dropna()} - {ARITHMETIC_TYPE}):
        figures[f"gflops_{precision}"] = arithmetic & told["precision"].eq(precision)
    for figure, rows in (figures | {"gb_s": told["kind"].eq("memory")}).items():
        most = told[rows].groupby(["host", "hardware"]).agg(**{figure: ("value", "max")})
        found = found.merge(most.reset_index(), on=["host", "hardware"], how="left")
    keys = ["host", "hardware", "software", "dataset"]
    overhead = told[told["kind"] == "overhead"].groupby(keys)
    least = overhead.agg(overhead_ms=("value", "min")).reset_index()
    caches = told.groupby(["host"]).agg(cache_mb=("cache_mb", "max")).reset_index()
    found = found.merge(least, on=keys, how="left").merge(caches, on="host", how="left")
    return found.assign(precision=ARITHMETIC_TYPE)


def _pair(text: str, option: str) -> tuple[str, str]:
    layer, sign, level = text.partition("=")
    if not sign:
        raise UserError(f"{option} {text!r}: must be LAYER=LEVEL")
    return layer.strip(), level.strip()


def goals_of(
    minimize: Sequence[str], maximize: Sequence[str], least: Sequence[str], most: Sequence[str]
) -> Goals:
    """Return the goals of a command line: columns with commas, limits as ``COLUMN=NUMBER``.

    Raises:
        UserError: a limit is none; a column is to be both.
    """
    down, up = (columns_of(each) for each in (minimize, maximize))
    problems = [f"--minimize, --maximize: {c!r} is in both" for c in down if c in up]
    limits: dict[str, list[tuple[str, float]]] = {"--at-least": [], "--at-most": []}
    for option, texts in (("--at-least", least), ("--at-most", most)):
        for text in (part for each in texts for part in each.split(",")):
            name, _, number = text.rpartition("=")
            share = number.strip().endswith("%")
            try:
                bound = float(number.strip().removesuffix("%")) / (100 if share else 1)
            except ValueError:
                bound = math.nan
            if name.strip() and math.isfinite(bound):
                limits[option].append((name.strip(), bound))
            else:
                problems.append(f"{option} {text!r}: must be COLUMN=NUMBER")
    if problems:
        raise UserError(problems)
    return Goals(down, up, tuple(limits["--at-most"]), tuple(limits["--at-least"]))


def columns_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Return names that stand one by one or with commas, each once."""
    return tuple(dict.fromkeys(c.strip() for t in texts for c in t.split(",") if c.strip()))


def goals(folders: Sequence[Path]) -> tuple[Goals, tuple[str, ...]]:
    """Return the goals of the first study that has some, and what is wrong with its limits."""
    for folder in folders:
        data = _study(folder)
        if isinstance(data, Mapping) and isinstance(data.get("goals"), Mapping):
            return within_limits(parse_goals(data["goals"]))
    return Goals(), ()


def study_folder(folder: Path) -> Path:
    """Return where the relative paths and own modules of an output folder's study start.

    The folder itself where its study names none, or one that is not on this machine.
    """
    data = _study(folder)
    folder = folder.parent if folder.is_file() else folder
    given = data.get("folder") if isinstance(data, Mapping) else None
    place = folder / str(given) if given else folder
    return (place if place.is_dir() else folder).resolve()


def _study(folder: Path) -> object:
    """Return the study of an output folder or bundle as data, None where it has none."""
    if is_bundle(folder):
        text = study_text(folder)
        return None if text is None else parse(text, str(folder)).data
    file = folder / STUDY
    return read(file)[0].data if file.is_file() else None


def of_table(files: Sequence[Path], columns: Columns, asked: Asked) -> Table:
    """Return the table of text files with any separator, or Parquet, with any column names.

    Raises:
        UserError: the files cannot be used as asked; all reasons together.
    """
    return load_table(list(files), **_options(columns, asked))


def of_two_tables(first: Path, second: Path, columns: Columns, asked: Asked) -> Pair:
    """Return the tables of two files that are to be compared: levels mean the same in both.

    Raises:
        UserError: the files cannot be used as asked; all reasons together.
    """
    return load_pair(first, second, **_options(columns, asked))


def is_table(path: Path) -> bool:
    """Say whether a path is a file of anyone's, not the results of a run."""
    if not path.is_file() or is_bundle(path):
        return False
    with path.open("rb") as file:
        return file.read(len(DATABASE)) != DATABASE


def _options(columns: Columns, asked: Asked) -> dict[str, Any]:
    return {
        "layers": columns.layers,
        "metric": asked.analysed(SEEN),
        "low": columns.low,
        "high": columns.high,
        "rounds": columns.rounds,
        "baseline": asked.baseline,
        "floor": asked.floor,
        "goals": asked.sought,
        "given": asked.given,
        "order": dict(_pair(each, "--order") for each in columns.order),
        "status": columns.status,
        "status_ok": columns_of(columns.status_ok),
        "separator": columns.separator,
        "repeats": columns.repeats,
    }


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
