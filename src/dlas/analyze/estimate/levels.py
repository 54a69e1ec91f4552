"""The levels of a layer: their text, their order, the numbers they may stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EMPTY = "(empty)"
"""What stands where a row has no value for a layer or a parameter."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def text(value: Any) -> str:
    """Return the text of one level: ``1.0`` and ``1`` are the same level ``"1"``."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return EMPTY
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, int | float | np.number):
        return f"{float(value):.12g}"
    return str(value).strip() or EMPTY


def number(level: str) -> float:
    """Return the number a level begins with (``50%`` is 50), NaN where there is none."""
    try:
        return float(level)
    except ValueError:
        found = re.match(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", level)
        return float(found[0]) if found else float("nan")


def numbers(levels: Sequence[str]) -> Floats:
    """Return the numbers of levels, NaN where a level begins with none."""
    return np.array([number(level) for level in levels], dtype=float)


def ordered(levels: Iterable[str]) -> tuple[str, ...]:
    """Sort levels by their numbers where all are numbers, else keep them as they came."""
    seen = tuple(dict.fromkeys(levels))
    if all(_is_number(s) for s in seen if s != EMPTY):
        return tuple(sorted(seen, key=lambda s: (s == EMPTY, number(s) if s != EMPTY else 0.0)))
    return seen


def is_ordered(levels: Sequence[str]) -> bool:
    """Say whether levels (the empty one aside) are at least two numbers."""
    known = [s for s in levels if s != EMPTY]
    return len(known) >= 2 and all(map(_is_number, known))


def _is_number(level: str) -> bool:
    try:
        return bool(np.isfinite(float(level)))
    except ValueError:
        return False


def skeleton(choice: str) -> str:
    """Return a choice's canonical text without its parameters: ``a(x=1)+b`` is ``a+b``."""
    return re.sub(r"\([^()]*\)", "", choice)


def codes(columns: Sequence[NDArray[Any]], n: int) -> Ints:
    """Number the distinct rows of some columns 0, 1, ... in order of first appearance."""
    if not columns:
        return np.zeros(n, dtype=np.int64)
    out = np.zeros(n, dtype=np.int64)
    for column in columns:
        values = np.asarray(column)
        part, uniques = pd.factorize(
            values if values.dtype.kind in "iub" else values.astype(object)
        )
        out = pd.factorize(out * (len(uniques) + 1) + part)[0].astype(np.int64)
    return out
