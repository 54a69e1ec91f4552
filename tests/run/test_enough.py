"""When a cell has been measured often enough: by the noise of its stratum, not its own."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from dlas.core.records import Status
from dlas.run.enough import undecided
from dlas.store.results import RoundRow
from table_rows import round_row

Entry = tuple[str, int, str]
"""Cell, control, stratum."""


def ask(entries: list[Entry], rows: list[RoundRow], precision: float = 0.03) -> list[str]:
    found = undecided(
        entries, rows, precision, name=lambda e: (e[0], e[1]), stratum=lambda e: e[2]
    )
    return [cell for cell, _, _ in found]


def drawn(
    entries: list[Entry], noise: dict[str, float], rounds: int, seed: int = 0
) -> list[RoundRow]:
    rng = np.random.default_rng(seed)
    return [
        round_row(cell, r, [10 * math.exp(noise[where] * abs(rng.normal()))] * 12)
        for cell, _, where in entries
        for r in range(rounds)
    ]


QUIET = [(f"q{i}", 0, "quiet") for i in range(8)]
LOUD = [(f"l{i}", 0, "loud") for i in range(8)]
NOISE = {"quiet": 0.01, "loud": 0.4}


def test_quiet_strata_stop_and_loud_ones_go_on() -> None:
    entries = QUIET + LOUD
    assert ask(entries, drawn(entries, NOISE, 4)) == [cell for cell, _, _ in LOUD]
    assert ask(entries, drawn(entries, NOISE, 4), precision=0.0001) == [e[0] for e in entries]


def test_more_rounds_narrow_the_interval() -> None:
    noise = {"loud": 0.12}
    assert ask(LOUD, drawn(LOUD, noise, 3), 0.05)
    assert not ask(LOUD, drawn(LOUD, noise, 30), 0.05)


def test_a_cell_whose_rounds_agree_by_luck_is_measured_on() -> None:
    rows = [row for row in drawn(LOUD, NOISE, 4) if row.cell != "l0"]
    rows += [round_row("l0", r, [10.0] * 12) for r in range(4)]
    assert "l0" in ask(LOUD, rows)


def test_a_cell_with_fewer_rounds_is_measured_on_alone() -> None:
    rows = drawn(QUIET, {"quiet": 0.016}, 6)
    assert not ask(QUIET, rows, 0.02)
    fewer = [row for row in rows if row.cell != "q3" or row.round < 1]
    assert ask(QUIET, fewer, 0.02) == ["q3"]


def test_a_slower_session_is_no_noise() -> None:
    """Two of eight quiet cells were measured again on a day when all was 8 % slower."""
    rows = drawn(QUIET, NOISE, 4)
    again = [
        replace(
            row, session="later", round=row.round + 4,
            samples=tuple(1.08 * s for s in row.samples),
            created_at=row.created_at.replace("-01T", "-02T"),
        )
        for row in drawn(QUIET[:2], NOISE, 4, seed=1)
    ]  # fmt: skip
    assert ask(QUIET, rows, 0.015) == []
    assert ask(QUIET, rows + again, 0.015) == []
    # what nothing links to the first day is left as it is: it is steady by itself
    new = [
        replace(row, session="later", samples=tuple(2 * s for s in row.samples))
        for row in drawn([("n", 0, "quiet")], NOISE, 4, seed=2)
    ]
    assert ask([*QUIET, ("n", 0, "quiet")], rows + new, 0.015) == []


def test_without_two_rounds_nothing_is_known() -> None:
    failed = [round_row("q0", 1, [], status=Status.FAILED)]
    assert ask(QUIET, []) == [e[0] for e in QUIET]
    assert ask(QUIET, [*drawn(QUIET, NOISE, 1), *failed]) == [e[0] for e in QUIET]
