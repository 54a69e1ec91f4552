"""From a row per cell and round to a row per cell, and the samples behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dlas.analyze.estimate.demands import SHOWN, Wanted, rows_told
from dlas.analyze.estimate.levels import Bools, Ints, codes
from dlas.analyze.estimate.standard import OWN, Standard, level_texts
from dlas.analyze.estimate.table import COMPLETE
from dlas.core.errors import UserError

Folded = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None, tuple[str, ...]]
"""The frame and what its rows say of themselves, a row a cell; the samples; notes."""


def folded(found: Standard, wanted: Wanted, order: Ints) -> Folded:
    """Return a row per cell in the order asked for, with the samples of its rounds or repeats.

    Rows that the layers do not tell apart are repeats of one cell where they differ in what was
    measured alone; of rows that are the same in everything one counts.

    Raises:
        UserError: rows of one cell differ in more; a cell has a round twice.
    """
    keys = [*(found.frame[c].to_numpy() for c in wanted.layers), found.own["host"].to_numpy()]
    row = codes(keys, len(found.frame))
    if wanted.rounds is None:
        if len(np.unique(row)) == len(row):
            return found.frame.iloc[order], found.own.iloc[order], None, ()
        kept, notes = _repeats(found, wanted, row)
        order = order[kept[order]]
        if len(np.unique(row[order])) == len(order):
            return found.frame.iloc[order], found.own.iloc[order], None, notes
    else:
        _rounds_once(found, wanted, row)
        notes = ()
    return _fold(found, wanted, row[order], order, notes)


def _rounds_once(found: Standard, wanted: Wanted, row: Ints) -> None:
    rounds = level_texts(found.frame[wanted.rounds])
    twice = pd.DataFrame({"row": row, "round": rounds.to_numpy()}).duplicated(keep=False)
    if twice.any():
        raise UserError(rows_told(twice, f"a cell has the same {wanted.rounds!r} twice"))


def _repeats(found: Standard, wanted: Wanted, row: Ints) -> tuple[Bools, tuple[str, ...]]:
    """Say which rows to keep of those that the layers do not tell apart.

    Serial numbers and times of day, which differ in every row, do not make a row another one.
    """
    frame = found.frame.drop(columns=[c for c in OWN if c in found.frame])
    several = pd.Series(row).duplicated(keep=False).to_numpy()
    held = [c for c in frame.columns if c in wanted.measured or not frame[c].is_unique]
    copies = frame[held].astype(str).assign(_row=row, _status=found.own["status"].to_numpy())
    again = copies.duplicated().to_numpy()
    if not wanted.repeats and not pd.Series(row[~again]).duplicated().any():
        return ~again, (f"{int(again.sum())} rows are copies of others: they count once.",)
    telling = [] if wanted.repeats else _telling(frame[several], row[several], wanted)
    if telling:
        first = np.flatnonzero(row == row[several][0])[:2]
        raise UserError(
            f"{int(several.sum())} rows are not told apart by the layers "
            f"{', '.join(wanted.layers)} (rows {first[0] + 1} and {first[1] + 1}, for instance); "
            f"they differ in {', '.join(telling[:SHOWN])}: name the missing layer in --layers, or "
            "the column that numbers repeats with --rounds; --repeats says that all are repeats"
        )
    sizes = np.bincount(row)[np.unique(row[several])]
    told = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    return np.ones(len(row), dtype=bool), (
        f"{len(sizes)} cells have {told} rows that only differ in what was measured: they are "
        "read as repeats.",
    )


def _telling(frame: pd.DataFrame, row: Ints, wanted: Wanted) -> list[str]:
    """Return the columns that may be settings and tell the rows of a cell apart.

    None are columns of measurements (numbers with decimals) and those that differ in every row
    (times of day, serial numbers).
    """
    out = []
    for name in frame.columns:
        if name in wanted.columns or name in wanted.measured:
            continue
        column = frame[name]
        texts = level_texts(column)
        if texts.nunique() == len(texts) or not _varies(texts, row):
            continue
        values = pd.to_numeric(column, errors="coerce")
        if values.notna().mean() > 0.5 and (values.dropna() % 1 != 0).any():
            continue
        out.append(str(name))
    return out


def _varies(texts: pd.Series, row: Ints) -> bool:
    return bool((texts.groupby(row).nunique() > 1).any())


def _fold(
    found: Standard, wanted: Wanted, row: Ints, order: Ints, notes: tuple[str, ...]
) -> Folded:
    """Return one row per cell: a good round stands for it, numbers are medians over good ones."""
    frame, own = found.frame.iloc[order], found.own.iloc[order]
    row = codes([row], len(row))  # numbered in the order of the rows
    good = (own["status"].eq(COMPLETE) & own["value"].notna()).to_numpy(dtype=bool)
    value = own["value"].to_numpy(dtype=float)
    sign = -1.0 if wanted.maximize else 1.0
    # Repeats that nobody numbered have nothing in common: one round for all of them.
    rounds = ["" for _ in row] if wanted.rounds is None else level_texts(frame[wanted.rounds])
    names = [own["host"].to_numpy()[good], np.asarray(rounds, dtype=object)[good]]
    samples = pd.DataFrame(
        {
            "row": row[good],
            "control": 0,
            "round": codes(names, int(good.sum())),
            "log": sign * np.log(value[good]),
        }
    )
    # A good round represents its cell; a failed one only where there is no other.
    first = pd.DataFrame({"row": row, "bad": ~good}).sort_values(["row", "bad"], kind="stable")
    keep = first.drop_duplicates("row").index.to_numpy()
    one, medians = frame.iloc[keep], own["value"].where(good).groupby(row).median()
    changed, differ = _medians(frame, row, good, wanted)
    one = one.assign(**{c: v.to_numpy() for c, v in changed.items()})
    own = own.iloc[keep].assign(value=medians.to_numpy(dtype=float))
    if differ:
        notes = (*notes, _differing(differ, changed))
    return one, own, samples, notes


def _medians(
    frame: pd.DataFrame, row: Ints, good: Bools, wanted: Wanted
) -> tuple[dict[str, pd.Series], list[str]]:
    """Return the medians of the numeric columns that differ by round, and all that differ."""
    changed, differ = {}, []
    whole = np.isin(row, row[good])
    used = good | ~whole
    for name in frame.columns:
        if name in wanted.layers or name in OWN or name in (wanted.rounds, wanted.metric):
            continue
        column = frame[name]
        if not (column[used].groupby(row[used]).nunique() > 1).any():
            continue
        differ.append(str(name))
        if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(
            column.dtype
        ):
            changed[name] = column.astype(float).where(used).groupby(row).median()
    return changed, differ


def _differing(differ: Sequence[str], changed: dict[str, pd.Series]) -> str:
    rest = [c for c in differ if c not in changed]
    text = "Of columns that differ between the rows of a cell "
    if changed:
        text += f"the median is taken ({', '.join(map(str, changed))})"
    if rest:
        text += f"{'; of text ' if changed else 'that are text '}the first ({', '.join(rest)})"
    return f"{text}."
