"""From a frame as it came to the columns every part relies on, in an order of their own.

What a row says of itself (``cell, host, status, reason, value``) stands apart from the table's
own columns, so that a layer may have any of these names. Rows are sorted by their levels: the
order of a file changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dlas.analyze.estimate import demands
from dlas.analyze.estimate.demands import Wanted
from dlas.analyze.estimate.levels import EMPTY, Ints, number, text
from dlas.analyze.estimate.numerals import PERCENT, Numerals, numerals
from dlas.analyze.estimate.scales import NAMES, NUMBERS, LevelScale, key_of, scale_of
from dlas.analyze.estimate.table import COMPLETE, parameter_columns
from dlas.core.errors import UserError, near

FAILED = "failed"
STATUS = "status"
UNFINISHED = frozenset({FAILED, "impossible", "unavailable"})
"""The words of our own tables for rows that have no value."""
OWN = ("cell", "host", STATUS, "reason", "value")
_GLUE = re.compile(r"(?<!\d)[\s_-]+|[\s_-]+(?!\d)")
"""What joins the words of a name; between digits it is part of it."""
_UNITS = re.compile(r"(^|[_ ])units?$|^units?[_ ]", re.IGNORECASE)


@dataclass(frozen=True)
class Standard:
    """A checked frame."""

    frame: pd.DataFrame
    """As it came, layers and parameters as text, what was measured as numbers."""
    own: pd.DataFrame
    """``cell, host, status, reason, value`` by row."""
    scales: Mapping[str, LevelScale]
    """How the levels of each layer and parameter are read."""
    baseline: Mapping[str, str]
    notes: tuple[str, ...]


def standard(
    frame: pd.DataFrame,
    wanted: Wanted,
    known: Mapping[str, LevelScale] | None = None,
    *,
    study: bool = False,
) -> Standard:
    """Check a frame and bring it into the shape that every part relies on.

    Args:
        frame: typed, or text in plain notation.
        wanted: what was asked of it.
        known: how levels are read, where another table decides, too.
        study: the frame is of our own making: its words are taken as they are.

    Raises:
        UserError: the frame cannot be used; all reasons together.
    """
    names = (*wanted.layers, *parameter_columns(frame, wanted.layers))
    texts = {c: level_texts(frame[c]) for c in names}
    scales = dict(known) if known else scales_of(texts, frame, wanted.order)
    if study:
        scales = {c: LevelScale(s.kind, {}) for c, s in scales.items()}
    problems = _not_numbers(texts, wanted.order)
    texts = {c: t.replace(scales[c].spelling).astype(object) for c, t in texts.items()}
    status, more = (texts_or(frame, STATUS, COMPLETE, wanted), []) if study else _status(
        frame, wanted
    )  # fmt: skip
    problems += more
    read = {c: numerals(frame[c]) for c in wanted.measured if c in frame}
    problems += [p for c, n in read.items() for p in _unreadable(c, n, wanted)]
    reason = texts_or(frame, "reason", "", wanted)
    status, reason, left_out = _ran(wanted.metric, read[wanted.metric], status, reason)
    whole = frame.assign(**texts, **{c: n.value for c, n in read.items() if c not in names})
    problems += demands.intervals(whole, status.eq(COMPLETE), wanted)
    baseline = {c: _level(v, c, texts, scales, problems) for c, v in wanted.baseline.items()}
    if problems or not len(frame):
        raise UserError(problems)
    value = pd.Series(read[wanted.metric].value, index=frame.index).where(status.eq(COMPLETE))
    own = pd.DataFrame(
        {
            "cell": level_texts(frame["cell"]) if study else _ids(whole, texts, wanted),
            "host": texts_or(frame, "host", "", wanted),
            STATUS: status,
            "reason": reason,
            "value": value,
        }
    )
    notes = (
        *_empty(texts, wanted.layers),
        *_alike({c: texts[c] for c in wanted.layers if scales[c].kind == NAMES}),
        *left_out,
        *(note for c, n in read.items() for note in _units(c, n)),
        *_unit_columns(frame[status.eq(COMPLETE)], wanted),
    )
    return Standard(_numeric(whole, names, wanted), own, scales, baseline, notes)


# ---------------------------------------------------------------- levels


def level_texts(column: pd.Series) -> pd.Series:
    """Return levels as text: text as it is written, on one line; only nothing is empty."""
    known = {v: _written(v) for v in column.dropna().unique()}
    return column.map(known).astype(object).where(column.notna(), EMPTY)


def _written(value: object) -> str:
    if not isinstance(value, str):
        return text(value)
    return unicodedata.normalize("NFC", " ".join(value.split())) or EMPTY


def scales_of(
    texts: Mapping[str, pd.Series], frame: pd.DataFrame, order: Mapping[str, str]
) -> dict[str, LevelScale]:
    """Return how the levels of each column are read; typed numbers are numbers."""
    out = {}
    for name, column in texts.items():
        kind = frame[name].dtype
        typed = pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
        asked = order.get(name, NUMBERS if typed else None)
        out[name] = scale_of(name, column.unique(), asked)
    return out


def _not_numbers(texts: Mapping[str, pd.Series], order: Mapping[str, str]) -> list[str]:
    out = []
    for name, column in texts.items():
        if order.get(name) == NUMBERS:
            bad = sorted(s for s in column.unique() if s != EMPTY and np.isnan(number(s)))
            if bad:
                out.append(f"order: {name} has levels that begin with no number: {bad[:5]}")
    return out


def _level(
    asked: str,
    layer: str,
    texts: Mapping[str, pd.Series],
    scales: Mapping[str, LevelScale],
    problems: list[str],
) -> str:
    """Return the level that a baseline names: as written, as another spelling of its number."""
    known = sorted(texts[layer].unique(), key=key_of(scales[layer].kind))
    asked = " ".join(asked.split()) or EMPTY
    asked = scales[layer].spelling.get(asked, asked)
    if asked in known:
        return asked
    alike = [s for s in known if s.casefold() == asked.casefold()]
    if scales[layer].kind == NUMBERS:
        alike += [s for s in known if s != EMPTY and number(s) == number(asked)]
    if len(alike) == 1:
        return str(alike[0])
    problems.append(
        f"baseline: {layer} has no level {asked!r}.{near(asked, known)} "
        f"It has: {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}"
    )
    return asked


def _empty(texts: Mapping[str, pd.Series], layers: Sequence[str]) -> tuple[str, ...]:
    """Return a note for each layer that some rows leave empty."""
    counts = {c: (int(texts[c].eq(EMPTY).sum()), len(texts[c])) for c in layers}
    return tuple(
        f"{n} of {rows} rows have no {c}: they are shown as its level {EMPTY}."
        for c, (n, rows) in counts.items()
        if n
    )


def _alike(names: Mapping[str, pd.Series]) -> tuple[str, ...]:
    """Return a note for each layer of names some of which a person may have meant as one."""
    out = []
    for name, column in names.items():
        groups: dict[str, list[str]] = {}
        for level in sorted(column.unique()):
            groups.setdefault(_GLUE.sub("", level.casefold()), []).append(level)
        twins = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
        if twins:
            more = f" and {len(twins) - 3} more" if len(twins) > 3 else ""
            out.append(
                f"Warning: levels of {name} differ only in case, blanks, hyphens or underscores, "
                f"and are different levels: {'; '.join(twins[:3])}{more}."
            )
    return tuple(out)


# ---------------------------------------------------------------- what ran


def texts_or(frame: pd.DataFrame, column: str, default: str, wanted: Wanted) -> pd.Series:
    """Return a column as text, a default where it is a layer, absent or empty."""
    if column not in frame or column in (*wanted.layers, *wanted.measured, wanted.rounds):
        return pd.Series([default] * len(frame), index=frame.index, dtype=object)
    return level_texts(frame[column]).replace(EMPTY, default).astype(object)


def _status(frame: pd.DataFrame, wanted: Wanted) -> tuple[pd.Series, list[str]]:
    """Return ``complete`` where a row says that it ran, its own word elsewhere."""
    column = wanted.status or STATUS
    own = texts_or(frame, column, COMPLETE, wanted)
    words = Counter(own)
    told = ", ".join(
        f"{w!r} ({n} {'row' if n == 1 else 'rows'})" for w, n in sorted(words.items())
    )
    if wanted.status_ok:
        ok = {w.strip().casefold() for w in wanted.status_ok}
        absent = [
            w for w in wanted.status_ok if w.strip().casefold() not in map(str.casefold, words)
        ]
        if column not in frame:
            return own, [f"status_ok: the table has no column {column!r}: name it by --status"]
        if absent:
            return own, [
                f"status_ok: no row is {w!r}.{near(w, words)} {column} has {told}" for w in absent
            ]
        good = own.map(str.casefold).isin(ok)
        return own.where(~own.eq(COMPLETE), f"{COMPLETE}, which was not asked for").where(
            ~good, COMPLETE
        ), []
    own = own.where(~own.map(str.casefold).eq(COMPLETE), COMPLETE)
    if not own.eq(COMPLETE).any() and not set(words) <= UNFINISHED:
        return own, [
            f"{column}: no row is {COMPLETE!r}. It has {told}: say which of them mean that a row "
            f"ran, e.g. --status-ok {words.most_common(1)[0][0]}"
        ]
    return own, []


def _ran(
    metric: str, read: Numerals, status: pd.Series, reason: pd.Series
) -> tuple[pd.Series, pd.Series, tuple[str, ...]]:
    """Leave out the rows that hold no positive number where the metric should be."""
    value = read.value
    said = {i: repr(w) for i, w in read.words.items()}
    said |= {int(i): f"{value[i]:g}" for i in np.flatnonzero((value <= 0) | np.isinf(value))}
    complete = status.eq(COMPLETE).to_numpy(dtype=bool)
    said = {i: w for i, w in said.items() if complete[i]}
    if not said:
        return status, reason, ()
    numbers = complete & np.isfinite(value)
    if not (numbers & (value > 0)).any() or (value[numbers] <= 0).sum() * 2 > numbers.sum():
        rows = ", ".join(f"{i + 1} ({w})" for i, w in sorted(said.items())[: demands.SHOWN])
        what = "above zero (ratios are taken of it)" if numbers.any() else "a number"
        raise UserError(f"{metric!r} must be {what}: {len(said)} rows are not, e.g. {rows}")
    places = list(said)
    status, reason = status.copy(), reason.copy()
    status.iloc[places] = FAILED
    reason.iloc[places] = [f"{metric} is {w}" for w in said.values()]
    counts = Counter(said.values())
    shown = ", ".join(f"{w} ({n})" for w, n in sorted(counts.items(), key=lambda x: (-x[1], x[0])))
    return (
        status,
        reason,
        (
            f"{len(said)} of {len(status)} rows have no positive number as {metric} and are left "
            f"out: {shown}.",
        ),
    )


# ---------------------------------------------------------------- numbers


def _unreadable(column: str, read: Numerals, wanted: Wanted) -> list[str]:
    """Return what is no number although it begins as one, and units that differ."""
    out = []
    if column != wanted.metric and read.words and not np.isfinite(read.value).any():
        out.append(f"{column!r} holds no number, e.g. {min(read.words.values())!r}")
    if read.odd:
        shown = ", ".join(f"{i + 1} ({t!r})" for i, t in list(read.odd.items())[: demands.SHOWN])
        more = len(read.odd) - demands.SHOWN
        out.append(
            f"{column!r} must be a number: row{'s' if len(read.odd) > 1 else ''} {shown}"
            f"{f' and {more} more' if more > 0 else ''}"
        )
    if len(read.units) > 1:
        shown = "; ".join(
            f"{u or 'nothing'} behind the number in {len(rows)} rows, e.g. {rows[0] + 1}"
            for u, rows in sorted(read.units.items())
        )
        out.append(f"{column!r} mixes units, so its numbers cannot be compared: {shown}")
    return out


def _units(column: str, read: Numerals) -> list[str]:
    """Say what stood behind the numbers of a column."""
    notes = [f"{column} is in {unit}, as its rows say." for unit in read.units if unit]
    if PERCENT in read.units:
        notes = [f"{column} is in per cent and read as a share: 50% is 0.5."]
    if read.spread:
        notes.append(
            f"{read.spread} rows of {column} hold a spread behind ±, which is left out: an "
            "interval is read from two columns (--low, --high)."
        )
    return notes


def _unit_columns(good: pd.DataFrame, wanted: Wanted) -> list[str]:
    """Warn of a column of units that holds several."""
    out = []
    for name in good.columns:
        if name in wanted.columns or not _UNITS.search(str(name)):
            continue
        counts = Counter(level_texts(good[name]))
        if len(counts) > 1:
            shown = ", ".join(f"{u} in {n} rows" for u, n in sorted(counts.items()))
            out.append(
                f"Warning: the column {name} holds several units ({shown}), and {wanted.metric} "
                "is compared as it stands. Convert it, keep the rows of one unit, or name "
                f"{name} in --layers."
            )
    return out


def _numeric(frame: pd.DataFrame, names: Sequence[str], wanted: Wanted) -> pd.DataFrame:
    """Return a frame whose other columns of text are numbers where nothing else is in them."""
    made = {}
    for name in frame.columns:
        if name in names or name in wanted.columns or frame[name].dtype != object:
            continue
        read = numerals(frame[name])
        clean = not read.odd and len(read.units) <= 1 and np.isfinite(read.value).any()
        if clean and len(read.words) * 2 <= len(frame):
            made[name] = read.value
    return frame.assign(**made) if made else frame


# ---------------------------------------------------------------- names and order of rows


def _ids(frame: pd.DataFrame, texts: Mapping[str, pd.Series], wanted: Wanted) -> pd.Series:
    """Return a name for every cell: the table's own where it names cells, else its levels."""
    keys = [*wanted.layers, *(["host"] if "host" in frame and "host" not in wanted.layers else [])]
    if "cell" in frame and "cell" not in (*wanted.layers, *wanted.measured, wanted.rounds):
        own = level_texts(frame["cell"])
        cells = frame[keys].astype(str).assign(_id=own).drop_duplicates()
        named = len(cells) == len(cells.drop_duplicates(keys)) == len(
            cells.drop_duplicates([c for c in ("_id", "host") if c in cells])
        )  # fmt: skip
        if named and not own.eq(EMPTY).any():
            return own
    columns = [texts[c].tolist() for c in wanted.layers]
    names = [" / ".join(row) for row in zip(*columns, strict=True)]
    return pd.Series(names, index=frame.index, dtype=object)


def beside(
    cells: pd.DataFrame, own: pd.DataFrame, wanted: Wanted
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Put what rows say of themselves among the columns of a table, or apart where names clash."""
    clash = {*wanted.layers, *wanted.measured} & set(OWN)
    if wanted.metric == "value":
        clash.discard("value")
    held = cells.assign(**{c: own[c] for c in OWN if c not in clash})
    return held, own if clash else None


def in_order(found: Standard, wanted: Wanted) -> Ints:
    """Return the rows sorted by their levels, then by everything else they hold.

    Rows that hold the same are the same, so that no order of the file is left in the result.
    """
    keys = [_ranks(found.frame[c], found.scales[c].kind) for c in wanted.layers]
    keys.append(_ranks(found.own["host"], NAMES))
    if wanted.rounds is not None:
        keys.append(_ranks(level_texts(found.frame[wanted.rounds]), NAMES))
    rest = [c for c in found.frame.columns if c not in (*wanted.layers, wanted.rounds)]
    keys += [found.own[c].astype(str).rank(method="dense").to_numpy() for c in OWN[2:]]
    for name in sorted(rest, key=str):
        keys.append(pd.factorize(found.frame[name].astype(str), sort=True)[0])
    return np.lexsort(keys[::-1])


def _ranks(column: pd.Series, kind: str) -> Ints:
    place = {s: i for i, s in enumerate(sorted(column.unique(), key=key_of(kind)))}
    return np.asarray(column.map(place).to_numpy(), dtype=np.int64)
