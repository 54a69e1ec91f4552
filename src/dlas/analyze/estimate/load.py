"""From files or data frames to a checked ``Table``; every mistake of the user ends here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from dlas.analyze.estimate import demands
from dlas.analyze.estimate.delimited import sheet
from dlas.analyze.estimate.described import described
from dlas.analyze.estimate.direction import more_is_better
from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import text
from dlas.analyze.estimate.numerals import in_plain_notation
from dlas.analyze.estimate.repeated import folded
from dlas.analyze.estimate.scales import LevelScale
from dlas.analyze.estimate.standard import beside, in_order, level_texts, scales_of, standard
from dlas.analyze.estimate.table import (
    DEFAULT_FLOOR,
    Table,
    interval_columns,
    parameter_columns,
)
from dlas.core.errors import UserError
from dlas.core.goals import Goals, parse_goals
from dlas.core.stack import Choice

Source: TypeAlias = str | Path | pd.DataFrame | Sequence[str | Path]
"""A file, several, or a frame."""
STUDY_LAYERS = ("dataset", "model", "optimization", "algorithm", "software", "hardware")
STUDY_STRATA = ("software", "hardware.threads")
"""The runtime (the software without its parameters) and the threads."""


def load_table(
    source: Source,
    *,
    layers: Sequence[str] | str,
    metric: str,
    low: str | None = None,
    high: str | None = None,
    rounds: str | None = None,
    baseline: Mapping[str, Any] | Sequence[str] | None = None,
    floor: float | None = None,
    maximize: bool | None = None,
    strata: Sequence[str] | None = None,
    goals: Goals | Mapping[str, Any] | None = None,
    ceilings: pd.DataFrame | None = None,
    given: Sequence[str] | str = (),
    order: Mapping[str, str] | None = None,
    status: str | None = None,
    status_ok: Sequence[str] | str = (),
    separator: str | None = None,
    repeats: bool = False,
) -> Table:
    """Read any tidy table: a row per cell, or per cell and round, in any order.

    Args:
        source: a text file with any separator or a Parquet file, several of them, or a frame.
        layers: the columns whose combinations are the cells (a list, or text with commas).
        metric: the column analysed; rows that hold no positive number there are left out.
        low: lower end of a 95 % interval of the metric; needs ``high``.
        high: its upper end.
        rounds: column that numbers the repeats of a cell; excludes ``low`` and ``high``.
        baseline: for a layer the level others are compared with, ``{"layer": "level"}`` or
            ``["layer=level"]``; where nothing is said what a person would have had without
            choosing, else the median choice, the lowest where levels are ordered.
        floor: ratio less one below which nothing counts (0.05 where there is no noise known).
        maximize: whether more of the metric is better; ``None``: as its name and the goals say.
        strata: columns within which the noise of rounds is pooled; found from the data if None.
        goals: read already, or as in a study file.
        ceilings: see ``dlas.analyze.parts.roofline``.
        given: the layers among whose levels nobody chooses: the best is sought for each of them.
        order: for a column how its levels are ordered: ``numbers``, ``versions``, or ``names``,
            which are not.
        status: the column that says whether a row ran (``status`` where there is one).
        status_ok: the words in it that say so (``complete``).
        separator: what stands between the fields of a text file; found where it is not said.
        repeats: rows that the layers do not tell apart are repeats, whatever else differs.

    Raises:
        UserError: the file or the table cannot be used; all reasons together.
    """
    asked = _wanted(
        layers, metric, low, high, rounds, baseline, floor, maximize, goals, given, order,
        status, status_ok, repeats,
    )  # fmt: skip
    frame, notes = _read(source, asked, separator)
    demands.request(frame, asked)
    return _made(frame, asked, notes, strata=strata, ceilings=ceilings)


def load_pair(
    first: Source, second: Source, *, separator: str | None = None, **options: Any
) -> tuple[Table, Table]:
    """Read two tables that are to be compared: both decide how levels are read.

    Args:
        first: see ``load_table``.
        second: likewise.
        separator: likewise.
        options: likewise, the same for both.

    Raises:
        UserError: one of them cannot be used.
    """
    asked = _wanted(**options)
    frames = [_read(source, asked, separator) for source in (first, second)]
    for frame, _ in frames:
        demands.request(frame, asked)
    both = pd.concat([frame for frame, _ in frames], ignore_index=True)
    names = (*asked.layers, *parameter_columns(both, asked.layers))
    texts = {c: level_texts(both[c]) for c in names}
    scales = scales_of(texts, both, asked.order)
    one, two = (_made(frame, asked, notes, scales=scales) for frame, notes in frames)
    return one, two


def _wanted(
    layers: Sequence[str] | str,
    metric: str,
    low: str | None = None,
    high: str | None = None,
    rounds: str | None = None,
    baseline: Mapping[str, Any] | Sequence[str] | None = None,
    floor: float | None = None,
    maximize: bool | None = None,
    goals: Goals | Mapping[str, Any] | None = None,
    given: Sequence[str] | str = (),
    order: Mapping[str, str] | None = None,
    status: str | None = None,
    status_ok: Sequence[str] | str = (),
    repeats: bool = False,
) -> demands.Wanted:
    sought = goals if isinstance(goals, Goals) else parse_goals(goals)
    more, why = direction(metric, maximize, sought)
    return demands.Wanted(
        layers=_names(layers),
        metric=metric,
        low=low,
        high=high,
        rounds=rounds,
        baseline=_pairs(baseline),
        floor=floor,
        maximize=more,
        why=why,
        goals=sought,
        given=_names(given),
        order=dict(order or {}),
        status=status,
        status_ok=_names(status_ok),
        repeats=repeats,
    )


def direction(metric: str, maximize: bool | None, goals: Goals) -> tuple[bool, str]:
    """Return whether more of a metric is better, and why.

    Raises:
        UserError: nothing says it.
    """
    if maximize is not None:
        return maximize, "as was asked"
    if metric in goals.maximize or metric in goals.minimize:
        return metric in goals.maximize, "as was asked"
    found = more_is_better(metric)
    if found is None:
        raise UserError(
            f"metric {metric!r}: its name does not tell whether more or less of it is better: say "
            f"--minimize {metric} or --maximize {metric}"
        )
    return found, f"its name is that of a {'rate or a score' if found else 'cost'}"


def _made(
    frame: pd.DataFrame,
    wanted: demands.Wanted,
    notes: Sequence[str],
    *,
    scales: Mapping[str, LevelScale] | None = None,
    strata: Sequence[str] | None = None,
    ceilings: pd.DataFrame | None = None,
    study: bool = False,
) -> Table:
    """Make a table of a frame that has what was asked of it; a study's keeps its order."""
    found = standard(frame, wanted, scales, study=study)
    order = np.arange(len(frame)) if study else in_order(found, wanted)
    cells, own, samples, more = folded(found, wanted, order)
    low, high = wanted.low, wanted.high
    cells, apart = beside(cells.reset_index(drop=True), own.reset_index(drop=True), wanted)
    table = Table(
        cells=cells,
        layers=wanted.layers,
        parameters=parameter_columns(cells, wanted.layers),
        metric=wanted.metric,
        maximize=wanted.maximize,
        samples=samples,
        bounds=(low, high) if low is not None and high is not None else None,
        baseline=dict(found.baseline),
        floor=DEFAULT_FLOOR if wanted.floor is None else float(wanted.floor),
        floor_given=wanted.floor is not None,
        strata=None if strata is None else tuple(strata),
        strata_given=strata is not None,
        goals=wanted.goals,
        ceilings=ceilings,
        given=wanted.given,
        scales={} if study else {name: scale.kind for name, scale in found.scales.items()},
        apart=apart,
    )
    demands.known_columns(table)
    said = () if study else described(table, found, wanted)
    return demands.noted(table, (*said, *notes, *found.notes, *more))


def from_study(
    cells: pd.DataFrame,
    rounds: pd.DataFrame | None = None,
    *,
    metric: str | None = None,
    baseline: Mapping[str, Any] | None = None,
    floor: float | None = None,
    goals: Goals | Mapping[str, Any] | None = None,
    ceilings: pd.DataFrame | None = None,
    layers: Sequence[str] = STUDY_LAYERS,
    strata: Sequence[str] | None = None,
    choices: Mapping[str, Mapping[str, tuple[Choice, ...]]] | None = None,
    estimates: Estimates | None = None,
    maximize: bool | None = None,
    given: Sequence[str] | str = (),
) -> Table:
    """Make a table from a study's rows, as ``dlas table`` writes them.

    Args:
        cells: a row per cell and host with ``cell``, ``host``, ``status``, the layers as
            canonical text, ``layer.parameter`` columns and metrics; empty means not measured.
        rounds: a row per cell, control and round with ``cell, control, round, host, session``
            and the metric; ``control`` is 0 for the cell itself, 1, 2, ... for A/A controls.
            Used where it has the metric's column; a metric without rounds is judged by the
            floor alone (or by its ``*_low``, ``*_high`` columns).
        metric: the column analysed; ``quiet_ms`` where there is one, else ``latency_ms``.
        baseline: see ``load_table``.
        floor: see ``load_table``.
        goals: the study's goals.
        ceilings: see ``dlas.analyze.parts.roofline``.
        layers: the layer columns.
        strata: columns within which noise is pooled; default: the runtime and the threads, and
            the host where there are several.
        choices: for each layer the choices that its texts stand for.
        estimates: what the rounds of ``metric`` say, fitted before, by row of ``cells``.
        maximize: see ``load_table``.
        given: see ``load_table``.

    Raises:
        UserError: columns are missing or hold what they must not.
    """
    metric = metric or ("quiet_ms" if "quiet_ms" in cells else "latency_ms")
    has_rounds = rounds is not None and metric in rounds.columns and len(rounds) > 0
    low, high = (None, None) if has_rounds else interval_columns(cells, metric) or (None, None)
    wanted = _wanted(
        tuple(layers), metric, low, high, None, baseline, floor, maximize, goals, given
    )  # fmt: skip
    demands.request(cells, wanted)
    table = _made(cells.reset_index(drop=True), wanted, (), study=True, ceilings=ceilings)
    table = replace(table, choices=choices or {})
    if strata is not None:
        table = replace(table, strata=tuple(strata), strata_given=True)
    if not has_rounds:
        return table
    assert rounds is not None
    if strata is None:
        strata = _study_strata(table)
    samples, notes = demands.study_rounds(table, rounds)
    known = replace(
        table,
        samples=samples,
        strata=tuple(strata),
        least=metric == "quiet_ms",
        estimates=estimates,
    )
    return demands.noted(known, (*table.notes, *notes))


def _read(
    source: Source, wanted: demands.Wanted, separator: str | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read files into one frame, typed or of text in plain notation; notes on what was done."""
    if isinstance(source, pd.DataFrame):
        frame = source.reset_index(drop=True)
        return _once(frame.rename(columns=str), wanted)
    paths = [source] if isinstance(source, str | Path) else list(source)
    frames, notes = [], []
    for path in paths:
        found = sheet(Path(path), separator)
        frame, more = _once(found.frame.rename(columns=str), wanted)
        notes += [*found.notes, *more]
        if found.separator:
            names = (*wanted.layers, *parameter_columns(frame, wanted.layers))
            frame, more = in_plain_notation(frame, found.separator, names)
            notes += more
        frames.append(frame)
    whole = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    return whole, (*notes, *_not_in_all(frames))


def _once(frame: pd.DataFrame, wanted: demands.Wanted) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Leave out columns that the table has twice and nobody asked for."""
    twice = frame.columns[frame.columns.duplicated(keep=False)]
    drop = sorted({c for c in twice if c not in (*wanted.columns, *wanted.measured)})
    if not drop:
        return frame, ()
    kept = frame.loc[:, ~frame.columns.isin(drop)]
    return kept, (f"The table has these columns twice, and they are left out: {', '.join(drop)}.",)


def _not_in_all(frames: Sequence[pd.DataFrame]) -> tuple[str, ...]:
    """Say which columns only some of several files have."""
    names = dict.fromkeys(str(c) for frame in frames for c in frame.columns)
    some = [c for c in names if any(c not in frame for frame in frames)]
    return (f"Only some of the files have {', '.join(some)}.",) if some else ()


def _names(layers: Sequence[str] | str) -> tuple[str, ...]:
    if isinstance(layers, str):
        layers = layers.split(",")
    return tuple(" ".join(x.split()) for x in layers if x.strip())


def _pairs(baseline: Mapping[str, Any] | Sequence[str] | None) -> dict[str, str]:
    if baseline is None:
        return {}
    if isinstance(baseline, Mapping):
        return {str(k): text(v) for k, v in baseline.items()}
    wrong = [item for item in baseline if "=" not in item]
    if wrong:
        raise UserError([f"baseline: must be LAYER=LEVEL, got {item!r}" for item in wrong])
    pairs = (item.split("=", 1) for item in baseline)
    return {k.strip(): v.strip() for k, v in pairs}


def _study_strata(table: Table) -> tuple[str, ...]:
    """Runtime and threads where the study has them, and the host if there are several."""
    names = (*STUDY_STRATA, "host")
    return tuple(c for c in names if c in table.cells and table.cells[c].nunique() > 1)
