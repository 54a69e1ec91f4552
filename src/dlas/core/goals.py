"""What a study seeks: metrics to minimize or maximize, and limits on metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlas.core.errors import UserError

AT_MOST = "_at_most"
AT_LEAST = "_at_least"


@dataclass(frozen=True)
class Goals:
    """Goals over columns of the table; a limit is in the unit of its column."""

    minimize: tuple[str, ...] = ()
    maximize: tuple[str, ...] = ()
    at_most: tuple[tuple[str, float], ...] = ()
    at_least: tuple[tuple[str, float], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column a goal speaks of, once."""
        limits = (c for c, _ in self.at_most + self.at_least)
        return tuple(dict.fromkeys((*self.minimize, *self.maximize, *limits)))


def parse_goals(raw: Mapping[str, Any] | None) -> Goals:
    """Read goals as a study file writes them.

    ``{"minimize": ["latency_ms"], "accuracy_drop_at_most": 0.02}``: a key ``COLUMN_at_most``
    or ``COLUMN_at_least`` is a limit.

    Raises:
        UserError: a key or a value that is none of these.
    """
    problems, most, least = [], [], []
    lists: dict[str, tuple[str, ...]] = {"minimize": (), "maximize": ()}
    for key, value in (raw or {}).items():
        if key in lists:
            lists[key] = (value,) if isinstance(value, str) else tuple(map(str, value))
        elif isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(f"goals.{key}: must be a number, got {value!r}")
        elif key.endswith(AT_MOST):
            most.append((key.removesuffix(AT_MOST), float(value)))
        elif key.endswith(AT_LEAST):
            least.append((key.removesuffix(AT_LEAST), float(value)))
        else:
            problems.append(
                f"goals.{key}: must be minimize, maximize, COLUMN{AT_MOST} or COLUMN{AT_LEAST}"
            )
    if problems:
        raise UserError(problems)
    return Goals(lists["minimize"], lists["maximize"], tuple(most), tuple(least))
