"""Counting over the tables of many worlds, and the rates that come of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from slices import Slices, sources

DRAWS = 5
"""Tables measured of one world: the truth and its holes are shared, the noise is not."""

Ask = Callable[[np.random.Generator, int], Iterator[tuple[str, int, int]]]
"""Gives for so many tables of a world, by check: how often it held, of how many times."""


@dataclass(frozen=True)
class Counted:
    """What was counted over some tables."""

    counts: dict[str, tuple[int, int]]
    """By check: how often it held, of how many times."""
    tables: int
    wanted: int

    @property
    def told(self) -> str:
        """How many tables stand: ``500``, or ``455 of 500``."""
        return (
            f"{self.tables}" if self.tables == self.wanted else f"{self.tables} of {self.wanted}"
        )

    @property
    def whole(self) -> bool:
        """Whether no table is left."""
        return self.tables == self.wanted


def counted(
    n: int, seed: tuple[int, ...], ask: Ask, slices: Slices | None, program: str, step: int = DRAWS
) -> Counted:
    """Count over n tables, a world of ``step`` tables at a time, each world of its own seed.

    Worlds are counted whole, so that n is rounded up to a multiple of ``step``.

    Args:
        n: how many tables.
        seed: of all of them; a world adds the number of its first table.
        ask: what is asked of a world.
        slices: where counts are kept.
        program: the file that asks, of whose code the counts are.
        step: tables of a world.
    """

    def world(number: int) -> dict[str, list[int]]:
        seen: dict[str, list[int]] = {}
        for name, held, of in ask(np.random.default_rng([*seed, number * step]), step):
            each = seen.setdefault(name, [0, 0])
            each[0], each[1] = each[0] + held, each[1] + of
        return seen

    worlds, name = -(-n // step), f"{Path(program).stem} {' '.join(map(str, seed))}"
    found = (slices or Slices()).fill(name, worlds, world, sources(program))
    total: dict[str, tuple[int, int]] = {}
    for seen in found:
        for check, (held, of) in seen.items():
            before = total.get(check, (0, 0))
            total[check] = (before[0] + held, before[1] + of)
    return Counted(total, len(found) * step, worlds * step)


def each(ask: Callable[[np.random.Generator, int], Iterator[bool]]) -> Ask:
    """Return what counts yes and no, table by table."""

    def asked(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, int, int]]:
        yield from (("", int(yes), 1) for yes in ask(rng, draws))

    return asked


Row = dict[str, str]
"""``check, tables, measured, bar, reached``."""


def rates(
    found: Counted, named: Callable[[str], tuple[str, str]], what: str = ""
) -> Iterator[Row]:
    """Give a row for each check that was counted.

    Args:
        found: the counts.
        named: gives the check in words and its bar (``at least 93 %``, ``at most 5 %``, ``none``,
            or ``beside it``: none at all).
        what: is counted where it is no table, e.g. ``intervals``.
    """
    for check, (held, of) in found.counts.items():
        words, bar = named(check)
        yield {
            "check": words,
            "tables": f"{found.told} ({of} {what})" if what else found.told,
            "measured": f"{100 * held / of:.1f} %",
            "bar": bar,
            "reached": reached(held, of, bar),
        }


def rate(found: Counted, check: str, bar: str) -> Iterator[Row]:
    """Give the row of the one check that was counted."""
    yield from rates(found, lambda _: (check, bar))


def reached(held: int, of: int, bar: str) -> str:
    """Say whether a count reaches a bar; so few that one of them would miss it do not show it."""
    limit = re.fullmatch(r"(at least|at most) (\d+) %", bar)
    if limit is None:
        return "yes" if bar == "beside it" or not held else "NO"
    percent = int(limit[2])
    if limit[1] == "at least":
        return "yes" if 100 * held >= percent * of else "NO"
    if 100 * held > percent * of:
        return "NO"
    return "too few" if of * percent < 100 else "yes"
