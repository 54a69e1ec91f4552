"""From files or data frames to a checked ``Table``; every mistake of the user ends here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.estimate import demands
from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.levels import codes, text
from dlas.analyze.estimate.table import COMPLETE, DEFAULT_FLOOR, Table, as_text, parameter_columns
from dlas.core.errors import UserError
from dlas.core.goals import Goals, parse_goals
from dlas.core.stack import Choice

STUDY_LAYERS = ("dataset", "model", "optimization", "algorithm", "software", "hardware")
STUDY_STRATA = ("software", "hardware.threads")
"""The runtime (the software without its parameters) and the threads."""


def load_table(
    source: str | Path | pd.DataFrame | Sequence[str | Path],
    *,
    layers: Sequence[str] | str,
    metric: str,
    low: str | None = None,
    high: str | None = None,
    rounds: str | None = None,
    baseline: Mapping[str, Any] | Sequence[str] | None = None,
    floor: float | None = None,
    maximize: bool = False,
    strata: Sequence[str] | None = None,
    goals: Goals | Mapping[str, Any] | None = None,
    ceilings: pd.DataFrame | None = None,
) -> Table:
    """Read any tidy table: a row per cell, or per cell and round.

    Args:
        source: a CSV or Parquet file, several of them, or a frame.
        layers: the columns whose combinations are the cells (a list, or text with commas).
        metric: the column analysed; positive numbers.
        low: lower end of a 95 % interval of the metric; needs ``high``.
        high: its upper end.
        rounds: column that numbers the repeats of a cell; excludes ``low`` and ``high``.
        baseline: for a layer the level others are compared with, ``{"layer": "level"}`` or
            ``["layer=level"]``; the commonest level where nothing is said, the lowest where
            levels are numbers.
        floor: ratio less one below which nothing counts (0.05 where there is no noise known).
        maximize: more of the metric is better.
        strata: columns within which the noise of rounds is pooled; found from the data if None.
        goals: read already, or as in a study file.
        ceilings: see ``dlas.analyze.parts.roofline``.

    Raises:
        UserError: the file or the table cannot be used; all reasons together.
    """
    frame = source.copy() if isinstance(source, pd.DataFrame) else read(source)
    names = _names(layers)
    wanted = demands.Wanted(names, metric, low, high, rounds, _pairs(baseline), floor)
    demands.request(frame, wanted)
    frame = frame.reset_index(drop=True)
    frame, notes = _standard(frame, wanted)
    demands.values(frame, wanted)
    if rounds is None:
        cells, samples = frame, None
    else:
        cells, samples = _fold_rounds(frame, wanted, maximize)
    demands.unique_cells(cells, names, rounds)
    table = Table(
        cells=cells,
        layers=names,
        parameters=parameter_columns(cells, names),
        metric=metric,
        maximize=maximize,
        samples=samples,
        bounds=(low, high) if low is not None and high is not None else None,
        baseline=dict(wanted.baseline),
        floor=DEFAULT_FLOOR if floor is None else float(floor),
        floor_given=floor is not None,
        strata=None if strata is None else tuple(strata),
        strata_given=strata is not None,
        goals=goals if isinstance(goals, Goals) else parse_goals(goals),
        ceilings=ceilings,
    )
    demands.known_columns(table)
    return demands.noted(table, notes)


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

    Raises:
        UserError: columns are missing or hold what they must not.
    """
    metric = metric or ("quiet_ms" if "quiet_ms" in cells else "latency_ms")
    has_rounds = rounds is not None and metric in rounds.columns and len(rounds) > 0
    low, high = (None, None) if has_rounds else _bound_columns(cells, metric)
    table = load_table(
        cells,
        layers=tuple(layers),
        metric=metric,
        low=low,
        high=high,
        baseline=baseline,
        floor=floor,
        strata=strata,
        goals=goals,
        ceilings=ceilings,
    )
    table = replace(table, choices=choices or {})
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


def read(source: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """Read CSV or Parquet files into one frame.

    Raises:
        UserError: a file is missing, empty, of another kind or cannot be parsed.
    """
    paths = [source] if isinstance(source, str | Path) else list(source)
    frames = [_read_one(Path(p)) for p in paths]
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def _read_one(path: Path) -> pd.DataFrame:
    kind = path.suffix.lower()
    if kind not in {".csv", ".parquet"}:
        raise UserError(f"{path}: a table must be a .csv or .parquet file")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        if kind == ".csv":
            return pd.read_csv(path)
        return pd.read_parquet(path)
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: the file is empty") from None
    except (OSError, ValueError, UnicodeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as a table ({first})") from None


def _names(layers: Sequence[str] | str) -> tuple[str, ...]:
    if isinstance(layers, str):
        layers = layers.split(",")
    return tuple(x.strip() for x in layers if x.strip())


def _pairs(baseline: Mapping[str, Any] | Sequence[str] | None) -> dict[str, str]:
    if baseline is None:
        return {}
    if isinstance(baseline, Mapping):
        return {str(k): text(v) for k, v in baseline.items()}
    wrong = [item for item in baseline if "=" not in item]
    if wrong:
        raise UserError([f"baseline: must be LAYER=LEVEL, got {item!r}" for item in wrong])
    pairs = (item.split("=", 1) for item in baseline)
    # A level may come as text or as a number; both must name the same level.
    return {k.strip(): _canonical(v) for k, v in pairs}


def _canonical(level: str) -> str:
    try:
        return text(float(level))
    except ValueError:
        return text(level)


def _standard(frame: pd.DataFrame, wanted: demands.Wanted) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add the columns every part relies on; turn layers and parameters into text."""
    notes = demands.empty_levels(frame, wanted.layers)
    frame = as_text(frame, wanted.layers + parameter_columns(frame, wanted.layers))
    has_status = "status" in frame and "status" not in wanted.layers
    value = pd.to_numeric(frame[wanted.metric], errors="coerce").astype(float)
    status = texts_or(frame, "status", COMPLETE) if has_status else COMPLETE
    frame = frame.assign(
        status=status,
        reason=texts_or(frame, "reason", ""),
        host=texts_or(frame, "host", ""),
        value=value,
    )
    if "cell" not in frame:
        joined = frame[list(wanted.layers)].agg(" / ".join, axis=1)
        frame = frame.assign(cell=joined)
    return frame.assign(cell=frame["cell"].astype(str)), notes


def texts_or(frame: pd.DataFrame, column: str, default: str) -> pd.Series:
    """Return a column as text, a default where it is absent or empty."""
    if column not in frame:
        return pd.Series([default] * len(frame), index=frame.index, dtype=object)
    return frame[column].map(lambda v: default if pd.isna(v) else text(v)).astype(object)


def _fold_rounds(
    frame: pd.DataFrame, wanted: demands.Wanted, maximize: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turn a row per cell and round into a row per cell and the samples behind it."""
    assert wanted.rounds is not None
    keys = [frame[c].to_numpy() for c in (*wanted.layers, "host")]
    row = codes(keys, len(frame))
    demands.unique_rounds(frame, row, wanted.rounds)
    good = (frame["status"].eq(COMPLETE) & frame["value"].notna()).to_numpy(dtype=bool)
    sign = -1.0 if maximize else 1.0
    samples = pd.DataFrame(
        {
            "row": row[good],
            "control": 0,
            "round": codes(
                [frame[c].to_numpy()[good] for c in ("host", wanted.rounds)], good.sum()
            ),
            "log": sign * np.log(frame["value"].to_numpy(dtype=float)[good]),
        }
    )
    # A good round represents its cell; a failed one only where there is no other.
    first = frame.assign(_row=row, _bad=~good).sort_values(["_row", "_bad"], kind="stable")
    cells = first.drop_duplicates("_row").drop(columns=["_row", "_bad"]).reset_index(drop=True)
    medians = frame["value"].where(good).groupby(row).median()
    return cells.assign(value=medians.to_numpy(dtype=float)), samples


def _bound_columns(cells: pd.DataFrame, metric: str) -> tuple[str | None, str | None]:
    stem, _, unit = metric.rpartition("_")
    for low, high in (
        (f"{stem}_low_{unit}", f"{stem}_high_{unit}"),
        (f"{metric}_low", f"{metric}_high"),
    ):
        if {low, high} <= set(cells.columns) and cells[[low, high]].notna().all(axis=1).any():
            return low, high
    return None, None


def _study_strata(table: Table) -> tuple[str, ...]:
    """Runtime and threads where the study has them, and the host if there are several."""
    names = (*STUDY_STRATA, "host")
    return tuple(c for c in names if c in table.cells and table.cells[c].nunique() > 1)
