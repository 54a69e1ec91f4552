"""What a table must be before anything is computed from it; problems are told together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from dlas.analyze.estimate.levels import Ints, codes
from dlas.analyze.estimate.scales import KINDS
from dlas.analyze.estimate.table import COMPLETE, Table
from dlas.core.errors import UserError, near
from dlas.core.goals import Goals

SHOWN = 5
"""How many offending rows a message names."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked of a table."""

    layers: tuple[str, ...]
    metric: str
    low: str | None = None
    high: str | None = None
    rounds: str | None = None
    baseline: dict[str, str] = field(default_factory=dict)
    floor: float | None = None
    maximize: bool = False
    why: str = ""
    """What says whether more or less of the metric is better."""
    goals: Goals = field(default_factory=Goals)
    given: tuple[str, ...] = ()
    """The layers that are given: nobody chooses among their levels."""
    order: dict[str, str] = field(default_factory=dict)
    """For each column how its levels are ordered, where it is not found out."""
    status: str | None = None
    """The column that says whether a row ran; ``status`` where there is one."""
    status_ok: tuple[str, ...] = ()
    """The words in it that say so; ``complete`` where nothing is said."""
    repeats: bool = False
    """Whether rows that the layers do not tell apart are repeats, whatever else differs."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that must be there."""
        optional = (self.low, self.high, self.rounds, self.status)
        return (*self.layers, self.metric, *(c for c in optional if c is not None))

    @property
    def measured(self) -> tuple[str, ...]:
        """The columns that hold numbers."""
        optional = (self.low, self.high)
        named = (self.metric, *(c for c in optional if c is not None), *self.goals.columns)
        return tuple(dict.fromkeys(named))


def request(frame: pd.DataFrame, wanted: Wanted) -> None:
    """Raise ``UserError`` unless a frame has what was asked of it."""
    have = [str(c) for c in frame.columns]
    problems = [
        f"column {c!r}: the table has none of this name.{near(c, have)} It has: {', '.join(have)}"
        for c in dict.fromkeys(wanted.columns)
        if c not in have
    ]
    if not wanted.layers:
        problems.append("layers: name at least one column")
    problems += [f"layers: {c!r} is named twice" for c in _twice(wanted.layers)]
    problems += [
        f"column {c!r}: the table has it twice" for c in _twice(have) if c in wanted.columns
    ]
    if wanted.metric in wanted.layers:
        problems.append(f"metric: {wanted.metric!r} is also named as a layer")
    if (wanted.low is None) != (wanted.high is None):
        problems.append("low, high: an interval needs both ends")
    if wanted.rounds is not None and wanted.low is not None:
        problems.append("rounds, low, high: give rounds or an interval, not both")
    if wanted.floor is not None and not 0 <= wanted.floor < 1:
        percent = f": {wanted.floor:g} % is {wanted.floor / 100:g}" if wanted.floor >= 1 else ""
        problems.append(
            f"floor: must be a ratio less one, at least 0 and below 1 (0.05 for 5 %), "
            f"got {wanted.floor:g}{percent}"
        )
    problems += _of_layers(wanted) + _of_order(wanted, have)
    if not len(frame):
        problems.append("the table has no rows")
    if problems:
        raise UserError(problems)


def _of_layers(wanted: Wanted) -> list[str]:
    """Return what is asked of layers that are none."""
    problems = [
        f"{what}: {c!r} is not a layer.{near(c, wanted.layers)}"
        for what, named in (("baseline", wanted.baseline), ("given", wanted.given))
        for c in named
        if c not in wanted.layers
    ]
    if wanted.layers and not set(wanted.layers) - set(wanted.given):
        problems.append("given: every layer is given, so there is nothing to choose")
    return problems


def _of_order(wanted: Wanted, have: Sequence[str]) -> list[str]:
    """Return the orders that there are not, and those of columns that there are not."""
    return [
        f"order: {c}={how!r}: must be one of {', '.join(KINDS)}.{near(how, KINDS)}"
        for c, how in wanted.order.items()
        if how not in KINDS
    ] + [
        f"order: the table has no column {c!r}.{near(c, have)}"
        for c in wanted.order
        if c not in have
    ]


def intervals(frame: pd.DataFrame, good: pd.Series, wanted: Wanted) -> list[str]:
    """Return what is wrong with the intervals of the rows that ran."""
    if wanted.low is None or wanted.high is None:
        return []
    low, high, value = (frame[c] for c in (wanted.low, wanted.high, wanted.metric))
    problems = [p for c in (low, high) for p in _not_positive(c, good)]
    if problems:
        return problems
    half = good & value.notna() & (low.isna() != high.isna())
    outside = good & ((low > value) | (high < value))
    return rows_told(
        half, f"only one of {wanted.low!r} and {wanted.high!r} is filled"
    ) + rows_told(outside, f"{wanted.metric!r} lies outside {wanted.low!r}..{wanted.high!r}")


def _not_positive(column: pd.Series, good: pd.Series) -> list[str]:
    parsed = pd.to_numeric(column, errors="coerce")
    name = column.name
    is_text = good & column.notna() & parsed.isna()
    endless = good & np.isinf(parsed)
    negative = good & (parsed <= 0) & ~np.isinf(parsed)
    return (
        rows_told(is_text, f"{name!r} must be a number", column)
        + rows_told(endless, f"{name!r} must be finite", column)
        + rows_told(negative, f"{name!r} must be above zero (ratios are taken of it)", column)
    )


def known_columns(table: Table) -> None:
    """Raise ``UserError`` where strata or goals name what the table has not."""
    have = list(table.cells.columns)
    problems = [
        f"{what}: the table has no column {c!r}.{near(c, have)}"
        for what, names in (("strata", table.strata or ()), ("goals", table.goals.columns))
        for c in names
        if c not in have
    ]
    if problems:
        raise UserError(problems)


def study_rounds(table: Table, rounds: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Join per-round values to the rows of a table.

    Returns:
        The samples as ``Table.samples`` describes them, and notes on what was left out.

    Raises:
        UserError: columns are missing, values are not positive, a round comes twice.
    """
    need = ["cell", "control", "round", "host", "session", table.metric]
    missing = [c for c in need if c not in rounds.columns]
    if missing:
        raise UserError([f"rounds: column {c!r} is missing" for c in missing])
    frame = rounds[need].reset_index(drop=True)
    value = pd.to_numeric(frame[table.metric], errors="coerce").astype(float)
    problems = _not_positive(frame[table.metric], frame[table.metric].notna())
    twice = frame.duplicated(["cell", "control", "round", "host", "session"], keep=False)
    problems += rows_told(twice, "a cell has the same round twice")
    if problems:
        raise UserError([f"rounds: {p}" for p in problems])
    row = _row_of(table, frame)
    keep = (row >= 0) & value.notna().to_numpy()
    sign = -1.0 if table.maximize else 1.0
    samples = pd.DataFrame(
        {
            "row": row[keep],
            "control": frame["control"].to_numpy(dtype=np.int64)[keep],
            "host": codes([frame["host"].to_numpy()[keep]], int(keep.sum())),
            "session": codes(
                [frame[c].to_numpy()[keep] for c in ("host", "session")], int(keep.sum())
            ),
            "round": codes(
                [frame[c].to_numpy()[keep] for c in ("host", "session", "round")], int(keep.sum())
            ),
            "log": sign * np.log(value.to_numpy()[keep]),
        }
    )
    if "created_at" in rounds.columns:
        samples = in_time(samples, rounds["created_at"].reset_index(drop=True)[keep])
    return samples, _unmatched(table, samples, int(len(frame) - keep.sum()))


def in_time(samples: pd.DataFrame, moments: pd.Series) -> pd.DataFrame:
    """Add the ``order`` of samples within their sessions, where their moments tell it."""
    when = pd.Series(moments.to_numpy(), index=samples.index)
    if (
        when.isna().any()
        or when.groupby(samples["session"])
        .transform("nunique")
        .ne(when.groupby(samples["session"]).transform("size"))
        .any()
    ):
        return samples
    return samples.assign(order=when.rank(method="first").astype(int))


def _unmatched(table: Table, samples: pd.DataFrame, lost: int) -> tuple[str, ...]:
    """Return notes on rounds without a cell, and on complete cells without a round."""
    own = samples.loc[samples["control"] == 0, "row"].unique()
    bare = int(table.complete.sum()) - int(table.complete[own].sum())
    notes = []
    if lost:
        notes.append(f"{lost} rounds belong to no complete cell of the table and are left out.")
    if bare and len(own):
        notes.append(f"{bare} complete cells have no rounds: they are left out beside the others.")
    return tuple(notes)


def _row_of(table: Table, frame: pd.DataFrame) -> Ints:
    """Number of the complete row each round belongs to, -1 where there is none."""
    good = table.complete
    keys = pd.MultiIndex.from_arrays(
        [table.rows["cell"][good].astype(str), table.rows["host"][good].astype(str)]
    )
    host = frame["host"].map(lambda v: "" if pd.isna(v) else str(v))
    asked = pd.MultiIndex.from_arrays([frame["cell"].astype(str), host])
    found = keys.get_indexer(asked)
    places = np.flatnonzero(good)
    return np.where(found >= 0, places[np.maximum(found, 0)] if len(places) else -1, -1)


def noted(table: Table, notes: Iterable[str]) -> Table:
    """Add to a table the notes its reader needs."""
    out = list(notes)
    status = table.rows["status"]
    other = int((status != COMPLETE).sum())
    blank = int((status.eq(COMPLETE) & table.rows["value"].isna()).sum())
    if other:
        out.append(f"{other} of {len(status)} cells are not complete and only counted.")
    if blank:
        out.append(f"{blank} complete cells have no {table.metric}: they are left out.")
    if len(table.hosts) > 1:
        out.append(
            f"{len(table.hosts)} hosts: every comparison is made within one host, and rounds "
            "are never pooled over hosts."
        )
    single = [x for x in table.layers if len(table.levels[x]) == 1]
    if single:
        out.append(f"One level only, so no effect can be seen: {', '.join(single)}.")
    if not table.complete.any():
        out.append("No cell is complete: only coverage can be shown.")
    return replace(table, notes=tuple(dict.fromkeys(out)))


def rows_told(bad: pd.Series, message: str, column: pd.Series | None = None) -> list[str]:
    """Return a message with the rows it is about (and what they hold); nothing where none is."""
    if not bad.any():
        return []
    places = np.flatnonzero(bad.to_numpy())
    held = [None] * len(bad) if column is None else column.tolist()
    shown = ", ".join(
        str(i + 1) if column is None else f"{i + 1} ({held[i]!r})" for i in places[:SHOWN]
    )
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    word = "row" if len(places) == 1 else "rows"
    return [f"{message}: {word} {shown}{more}"]


def _twice(names: Sequence[str]) -> list[str]:
    return [c for c, n in Counter(names).items() if n > 1]
