"""How much an exploration may measure: a share of the stacks, a number of them, or a time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from dlas.core.errors import UserError

_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%|s|m|min|h)?\s*")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Allowance:
    """A budget; None: that does not limit it."""

    stacks: int | None = None
    share: float | None = None
    seconds: float | None = None

    def count(self, among: int) -> int:
        """Return how many of so many stacks may be measured: at least one."""
        if self.stacks is not None:
            return min(self.stacks, among)
        if self.share is not None:
            return min(max(1, math.ceil(self.share * among - 1e-9)), among)
        return among


def parse_budget(text: str, option: str = "--budget") -> Allowance:
    """Return a budget as people write it: ``5%``, ``60`` (stacks), ``90s``, ``30m``, ``2h``.

    Raises:
        UserError: it is no budget.
    """
    found = _FORM.fullmatch(text)
    if found:
        number, unit = float(found[1]), found[2]
        if unit == "%" and 0 < number <= 100:
            return Allowance(share=number / 100)
        if unit is None and number.is_integer() and number >= 1:
            return Allowance(stacks=int(number))
        if unit in _SECONDS and number > 0:
            return Allowance(seconds=number * _SECONDS[unit])
    raise UserError(
        f"{option} {text!r} is no budget: give a share of the stacks, above 0 and at most 100 "
        "(5%), a number of stacks (60), or a time (90s, 30m, 2h)."
    )
