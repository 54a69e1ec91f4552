"""How numbers are said: ratios, shares, p values, in plain terms of the metric."""

from __future__ import annotations

import math
import re

from dlas.analyze.conclusion import Analysis
from dlas.analyze.estimate.table import Table
from dlas.core.errors import listed as listed

_TIME = re.compile(r"(^|_)(s|ms|us|ns|sec|seconds?|time|latency|duration)($|_)")


SMALL = 1.5
"""Ratios below are said in per cent."""


def is_time(metric: str) -> bool:
    """Say whether a metric's name is that of a time."""
    return _TIME.search(metric.lower()) is not None


def better(table: Table) -> tuple[str, str]:
    """Return the words for better and worse: faster and slower where the metric is a time."""
    if is_time(table.metric) and not table.maximize:
        return "faster", "slower"
    return "better", "worse"


def times(ratio: float) -> str:
    """Return a factor of at least 1 as ``2.60 times`` or ``12 %``."""
    size = max(ratio, 1 / ratio)
    if size < SMALL:
        return f"{percent(size - 1)}"
    return f"{number(size)} times"


def compared(table: Table, ratio: float) -> str:
    """Return ``2.60 times faster than`` for a speed-up, ``12 % slower than`` for one below 1."""
    good, bad = better(table)
    if not math.isfinite(ratio):
        return "of unknown size beside"
    if abs(math.log(ratio)) < 0.0005:
        return "no different from"
    return f"{times(ratio)} {good if ratio >= 1 else bad} than"


def number(value: float) -> str:
    """Return a number with three digits."""
    if not math.isfinite(value):
        return "?" if math.isnan(value) else ("more" if value > 0 else "less")
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.2e}"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(digits, 0)}f}"


def percent(share: float) -> str:
    """Return a share as per cent."""
    value = 100 * share
    return f"{value:.1f} %" if abs(value) < 10 else f"{value:.0f} %"


def interval(low: float, high: float, *, inverse: bool = False) -> str:
    """Return ``, 95 % interval 1.1 to 1.3`` (of one over the ratio), nothing without ends."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    if inverse:
        low, high = 1 / high, 1 / low
    return f", 95 % interval {number(low)} to {number(high)}"


def around(table: Table, ratio: float, low: float, high: float) -> str:
    """Return the interval of a speed-up in the words in which ``compared`` says the speed-up.

    ``, 95 % interval 1.1 to 1.3 times``, ``, 95 % interval 2.0 % to 9.0 %``, or where it holds
    both directions ``, 95 % interval 2.0 % slower to 9.0 % faster``; nothing without ends.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    if ratio < 1:
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
        there, back = better(table)[::-1]
    else:
        there, back = better(table)
    if low < 1:
        return f", 95 % interval {times(low)} {back} to {times(high)} {there}"
    if ratio < SMALL:
        return f", 95 % interval {percent(low - 1)} to {percent(high - 1)}"
    return f", 95 % interval {number(low)} to {number(high)} times"


def signed(table: Table, ratio: float) -> str:
    """Return ``2.60 times faster``, ``12 % slower`` or ``the same``."""
    good, bad = better(table)
    if abs(math.log(ratio)) < 0.0005:
        return "the same"
    return f"{times(ratio)} {good if ratio > 1 else bad}"


def apart(table: Table, one: str, two: str) -> tuple[str, str, str]:
    """Return what is only in one of two places, only in the other, and what both share.

    Places are ``layer=level, layer=level``; layers of which the table has one level are left out.
    """
    first, second = _parts(table, one), _parts(table, two)
    shared = [x for x in first if x in second]
    return (
        ", ".join(x for x in first if x not in shared),
        ", ".join(x for x in second if x not in shared),
        ", ".join(shared),
    )


def brief(table: Table, place: str) -> str:
    """Return a place without the layers of which the table has one level only."""
    return ", ".join(_parts(table, place))


def _parts(table: Table, place: str) -> list[str]:
    kept = []
    for part in place.split(", ") if place else []:
        layer = part.partition("=")[0]
        if len(table.levels.get(layer, ("", ""))) > 1:
            kept.append(part)
    return kept


def contexts(n: int) -> str:
    """Return ``1 context`` or ``21 contexts``."""
    return f"{n} context" if n == 1 else f"{n} contexts"


def above_one(ratio: float, low: float, high: float) -> tuple[float, float, float]:
    """Return a ratio and its interval turned so that the ratio is at least 1."""
    return (ratio, low, high) if ratio >= 1 else (1 / ratio, 1 / high, 1 / low)


def times_or_percent(ratio: float) -> str:
    """Return a ratio of ratios, turned above 1, as a plain number."""
    return number(max(ratio, 1 / ratio))


def what_overturns(analysis: Analysis, ratio: float, low: float, high: float) -> str:
    """Say which error would undo a comparison."""
    turned, near, _ = above_one(ratio, low, high)
    if not math.isfinite(near):
        size = percent(turned - 1)
        return f"Nothing is known of the noise: an error of {size} between the two would undo it."
    size = percent(max(near - 1, 0.0))
    return (
        f"An error of {size} common to all rounds of one side (another clock, another build), "
        "or contexts other than those measured."
    )
