"""The space of an exploration: from the stacks of a study, or from the columns of any table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dlas.core.keys import Json, canonical
from dlas.core.sampler import Axis, StackSpace
from dlas.core.stack import LAYERS, Stack
from dlas.explore.anova import Codes

if TYPE_CHECKING:
    import pandas as pd

ABSENT = "absent"
AWAY = -1.0
"""Where a stack lies on an ordered factor that it has not: as far off as the whole range."""
Value = Json


def of_columns(
    columns: Mapping[str, Sequence[Value]], shared: Mapping[str, Codes] | None = None
) -> StackSpace:
    """Return the space of columns of levels; None: the stack has no such factor.

    A column of numbers is ordered by distance (of logarithms, where it spans eightfold and more),
    any other by equal and unequal. Columns that do not vary, or that only rename another, are left
    out.
    """
    axes, codes, seen = [], [], set()
    for name, values in columns.items():
        axis, code = _axis(name, values)
        pattern = tuple(_pattern(code))
        if len(axis.levels) < 2 or pattern in seen:
            continue
        seen.add(pattern)
        axes.append(axis)
        codes.append(code)
    stacked = np.stack(codes, axis=1) if codes else np.zeros((_length(columns), 0), np.int64)
    return StackSpace(tuple(axes), stacked, shared=dict(shared or {}))


def of_stacks(stacks: Sequence[Stack], shared: Mapping[str, Codes] | None = None) -> StackSpace:
    """Return the space of stacks: the choice at each layer or sub-layer, and its parameters.

    Where all stacks have sub-layers at a layer, those tell the techniques: a pipeline of two is
    no level of its own then.
    """
    columns: dict[str, list[Value]] = {}
    for layer in LAYERS:
        if not all(_sublayers(stack, layer) for stack in stacks):
            columns[layer] = ["+".join(c.name for c in stack.layer(layer)) for stack in stacks]
        factors = [_of_layer(stack, layer) for stack in stacks]
        names = dict.fromkeys(name for each in factors for name in each)
        columns |= {name: [each.get(name) for each in factors] for name in names}
    return of_columns(columns, shared)


def of_frame(frame: pd.DataFrame, layers: Sequence[str]) -> StackSpace:
    """Return the space of a table's columns."""
    columns = {name: [_plain(v) for v in frame[name]] for name in layers}
    return of_columns(columns)


def groups(values: Sequence[object]) -> Codes:
    """Return numbers that tell which values are equal."""
    known: dict[object, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)


def _of_layer(stack: Stack, layer: str) -> dict[str, Value]:
    """Return the sub-layers and the parameters of a layer."""
    found = stack.factors()
    return {name: value for name, value in found.items() if name.partition(".")[0] == layer}


def _sublayers(stack: Stack, layer: str) -> list[str]:
    return [name for name in stack.sublayers if name.partition(".")[0] == layer]


def _length(columns: Mapping[str, Sequence[Value]]) -> int:
    return len(next(iter(columns.values()), ()))


def _pattern(code: Codes) -> list[int]:
    return [int(number) for number in groups(code.tolist())]


def _axis(name: str, values: Sequence[Value]) -> tuple[Axis, Codes]:
    present = [v for v in values if v is not None]
    numeric = bool(present) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in present
    )
    texts = [ABSENT if v is None else canonical(v) for v in values]
    if not numeric:
        levels = sorted(set(texts))
        return Axis(name, tuple(levels)), _coded(texts, levels)
    numbers = sorted({float(v) for v in present if isinstance(v, int | float)})
    order = {canonical(v): float(v) for v in present if isinstance(v, int | float)}
    levels = sorted(order, key=lambda text: order[text])
    positions = _positions(numbers)
    at = dict(zip(numbers, positions, strict=True))
    places = [at[order[text]] for text in levels]
    if len(present) < len(values):
        levels, places = [ABSENT, *levels], [AWAY, *places]
    return Axis(name, tuple(levels), tuple(places)), _coded(texts, levels)


def _coded(texts: Sequence[str], levels: Sequence[str]) -> Codes:
    at = {level: i for i, level in enumerate(levels)}
    return np.array([at[text] for text in texts], dtype=np.int64)


def _positions(numbers: Sequence[float]) -> list[float]:
    low, high = numbers[0], numbers[-1]
    if low == high:
        return [0.0] * len(numbers)
    if low > 0 and high / low >= WIDE:
        return [float(np.log(n / low) / np.log(high / low)) for n in numbers]
    return [(n - low) / (high - low) for n in numbers]


WIDE = 8.0
"""The ratio of the largest to the smallest from which logarithms tell the distance."""


def _plain(value: object) -> Value:
    """Return a table's value as JSON; what is missing as None."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or value != value:  # NaN is not equal to itself
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)
