"""What was disturbed too often is measured again, in company, and not without end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dlas.core.records import RoundRange
from dlas.run import rounds as module
from dlas.run.rounds import Rounds
from dlas.store.results import RoundRow
from table_rows import round_row

CELLS = 24


class Entry(SimpleNamespace):
    """A cell of two threads, by number."""

    @property
    def name(self) -> tuple[str, int]:
        return (self.cell, 0)


class Made(Rounds):
    """Rounds that are made up: cell 0 is only ever measured while the machine is disturbed."""

    def __init__(self, ended: int, rounds: RoundRange) -> None:
        self.noted: list[str] = []
        settings = SimpleNamespace(rounds=rounds, precision=0.03)
        super().__init__(
            SimpleNamespace(settings=settings, session="s1"),
            SimpleNamespace(note=self.noted.append),
        )
        self.ended = ended
        self.entries = [Entry(cell=f"c{i:02}") for i in range(CELLS)]
        self.made: list[RoundRow] = []
        self.again: list[list[str]] = []
        for number in range(rounds.max):
            # each round is disturbed in its second half, where cell 0 always is
            others = self.entries[1:]
            turned = [*others[7 * number % 23 :], *others[: 7 * number % 23]]
            order = [*turned[:18], self.entries[0], *turned[18:]]
            self.measure(number, order, slow=14)

    def measure(self, number: int, order: list[Any], slow: int) -> None:
        for place, entry in enumerate(order):
            ms = 20.0 if place >= slow else 10.0
            at = len(self.made)
            self.made.append(
                round_row(
                    entry.cell, number, [ms * (1 + 0.001 * (at % 3))] * 12,
                    created_at=f"2026-01-01T00:{at // 60:02}:{at % 60:02}.000+00:00",
                )
            )  # fmt: skip

    def _rows(self, everything: Any) -> list[RoundRow]:
        return self.made

    def _gave_up(self, entry: Any) -> bool:
        return False

    def _round(self, number: int, everything: Any, again: bool = False) -> None:
        assert again
        self.again.append([entry.cell for entry in everything])
        late = len(self.again) > self.ended
        self.measure(number, list(everything), slow=99 if late else 0)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setattr(module, "stratum", lambda plan: ("runtime", 2))
    monkeypatch.setattr(Entry, "plan", None, raising=False)


def test_it_is_measured_until_enough_rounds_are_undisturbed() -> None:
    made = Made(ended=0, rounds=RoundRange(min=4, max=6))
    made._once_more(made.entries)
    assert all("c00" in each and len(each) >= 8 for each in made.again)
    assert len(made.again) == 3
    assert "disturbed too often" in made.noted[0]


def test_it_ends_where_the_machine_stays_disturbed() -> None:
    made = Made(ended=99, rounds=RoundRange(min=4, max=6))
    made._once_more(made.entries)
    assert len(made.again) == 6


def test_a_fixed_number_of_rounds_is_kept() -> None:
    made = Made(ended=0, rounds=RoundRange(min=6, max=6))
    made._once_more(made.entries)
    assert made.again == []


def test_what_an_earlier_run_measured_is_left_as_it_is() -> None:
    made = Made(ended=0, rounds=RoundRange(min=4, max=6))
    made.bench.session = "of another run"
    made._once_more(made.entries)
    assert made.again == []


def test_company_is_of_this_session() -> None:
    """Cells of another session tell nothing of a reading of this one."""
    made = Made(ended=99, rounds=RoundRange(min=4, max=6))
    old = [Entry(cell=f"a{i:02}") for i in range(40)]
    made.made += [
        round_row(
            entry.cell, 0, [10.0] * 12, session="s0",
            created_at=f"2025-01-01T00:00:{i:02}.000+00:00",
        )
        for i, entry in enumerate(old)
    ]  # fmt: skip
    made._once_more([*old, *made.entries])
    assert len(made.again) == 6
    assert all(cell.startswith("c") for each in made.again for cell in each)


def test_an_anchor_must_be_undisturbed_in_this_session() -> None:
    made = Made(ended=0, rounds=RoundRange(min=4, max=6))
    known = made.entries[0]
    made.made += [
        round_row(
            known.cell, 9 + i, [10.0] * 12, session="s0",
            created_at=f"2025-01-01T00:00:{i:02}.000+00:00",
        )
        for i in range(4)
    ]  # fmt: skip
    made._once_more(made.entries)
    assert made.again == []  # it is known well enough from the other session
    made.anchors = [known]
    made._once_more(made.entries)
    assert made.again and all(known.cell in each for each in made.again)
