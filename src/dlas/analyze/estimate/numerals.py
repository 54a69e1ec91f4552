"""Numbers as people write them: decimal commas, thousands separators, per cent signs, units."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dlas.analyze.estimate.levels import Floats

PLAIN = re.compile(r"[+-]?(0|[1-9]\d*|(0|[1-9]\d*)?\.\d+|(0|[1-9]\d*)\.)([eE][+-]?\d+)?")
"""A number; with a leading zero (``010``) it is a name."""
PERCENT = "%"
_NUMBER = re.compile(
    r"[$€£¥]?(?P<number>[+-]?(\d[\d.,'\u2019 \u00a0\u202f\u2009]*|[.,]\d+)"
    r"(?P<power>[eE][+-]?\d+)?)"
    r"(?P<unit>\s*(%|[A-Za-zµμ°][\wµμ/^.²⁻¹-]*)?)"
)
_SPREAD = re.compile(r"\s*(?:±|\+/-|\+-)\s*[.,]?\d[\d.,]*(?:[eE][+-]?\d+)?(?=\D*$)")
"""What a mean is given with: ``12.3 ± 0.4``."""
_GAPS = re.compile(r"(?<=\d)['\u2019 \u00a0\u202f\u2009](?=\d{3}(\D|$))")
"""Thousands by apostrophes and blanks."""
_BEGINS = re.compile(r"[$€£¥]?[+-]?[.,]?\d")


@dataclass(frozen=True)
class Numerals:
    """A column read as numbers."""

    value: Floats
    """NaN where there is none."""
    words: dict[int, str]
    """What stands in place of a number (``OOM``, ``-``), by row."""
    odd: dict[int, str]
    """What begins as a number and cannot be read as one, by row."""
    units: dict[str, list[int]]
    """The rows by what stands behind their numbers (empty: nothing)."""
    spread: int = 0
    """Rows whose number stands before a spread, which is left out."""


def numerals(column: pd.Series) -> Numerals:
    """Read a column, typed or text in plain notation; per cent signs divide by a hundred."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        value = column.to_numpy(dtype=float, na_value=np.nan)
        return Numerals(np.asarray(value, dtype=float), {}, {}, {})
    held = [None if pd.isna(v) else v for v in column.tolist()]
    out = Numerals(np.full(len(held), np.nan), {}, {}, {})
    for i, v in enumerate(held):
        if isinstance(v, int | float):
            out.value[i] = v
        elif v is not None and (text := str(v).strip()):
            _read(_SPREAD.sub("", text), i, out)
    return replace(out, spread=sum(isinstance(v, str) and bool(_SPREAD.search(v)) for v in held))


def _read(text: str, i: int, out: Numerals) -> None:
    found = _NUMBER.fullmatch(text)
    if not _BEGINS.match(text):
        out.words[i] = text
        return
    try:
        number = float(_GAPS.sub("", found["number"])) if found else float("nan")
    except ValueError:
        number = float("nan")
    if found is None or np.isnan(number):
        out.odd[i] = text
        return
    unit = found["unit"].strip()
    out.units.setdefault(unit, []).append(i)
    out.value[i] = number / 100 if unit == PERCENT else number


def plain(text: str, decimal: str) -> str | None:
    """Return a number (and its unit) with a decimal point and no thousands; None: it is none."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    power = found["power"] or ""
    written = found["number"].rstrip()
    behind = text[found.start("number") + len(written) :]
    number = _GAPS.sub("", written.removesuffix(power))
    other = "," if decimal == "." else "."
    whole, mark, rest = number.partition(decimal)
    if decimal in rest or other in rest:
        return None
    if other in whole:
        head, *groups = whole.lstrip("+-").split(other)
        if not 1 <= len(head) <= 3 or head == "0" or any(len(g) != 3 for g in groups):
            return None
    if not re.fullmatch(r"\d*", (whole.replace(other, "") + rest).lstrip("+-")):
        return None
    return f"{whole.replace(other, '')}{'.' if mark else ''}{rest}{power}{behind}"


def decimal_of(column: Iterable[str]) -> str:
    """Return ``.`` or ``,`` where a column shows which its decimal mark is, ``""`` where not.

    ``1,234`` and ``1.234`` show nothing; ``0,5`` and ``1.234,5`` do. ``?``: it shows both.
    """
    seen = set()
    for text in column:
        found = _NUMBER.fullmatch(text)
        if found is None:
            continue
        power = found["power"] or ""
        number = _GAPS.sub("", found["number"].removesuffix(power).strip()).lstrip("+-")
        marks = [c for c in number if c in ".,"]
        if not marks or (len(set(marks)) == 1 and len(marks) > 1):
            continue  # whole, or groups of thousands alone
        head, _, rest = number.rpartition(marks[-1])
        if len(set(marks)) == 2 or len(rest) != 3 or head in ("", "0") or len(head) > 3:
            seen.add(marks[-1])
    return "?" if len(seen) > 1 else "".join(seen)


def in_plain_notation(
    frame: pd.DataFrame, separator: str, names: Iterable[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a frame of text whose numbers have decimal points and no thousands, and what it did.

    A column that does not show its decimal mark follows the others of its file; where none does,
    commas part thousands, unless semicolons stand between the fields: decimal commas make them
    needed. In ``names`` (layers) text is only touched where every level is such a number.
    """
    levels = {str(c): [str(v) for v in frame[c].unique() if v] for c in frame.columns}
    shown = {c: decimal_of(v) for c, v in levels.items()}
    votes = list(shown.values())
    lead = votes.count(",") - votes.count(".")
    usual = "," if lead > 0 or (lead == 0 and separator == ";") else "."
    kept = set(names)
    changed: dict[str, pd.Series] = {}
    examples: dict[str, str] = {}
    for name, texts in levels.items():
        mark = shown[name] if shown[name] in (".", ",") else usual
        lone = mark == "," and not shown[name] and not any("," in t for t in texts)
        if lone and "," not in votes:
            mark = "."  # 1.234 is a decimal number unless its file has decimal commas
        new = {t: plain(t, mark) for t in texts}
        if name in kept and (None in new.values() or (separator == "," and mark == ",")):
            continue
        known = {t: p for t, p in new.items() if p is not None and p != t}
        if known:
            changed[name] = frame[name].map(lambda t, known=known: known.get(t, t))
            what = "decimal commas" if mark == "," else "commas or blanks that part thousands"
            examples.setdefault(what, f"{name}: {min(known)!r} is {known[min(known)]}")
    notes = tuple(f"Numbers are read with {what} ({e})." for what, e in examples.items())
    return frame.assign(**changed) if changed else frame, notes
