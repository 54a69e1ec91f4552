"""Contenders settled: who drops out, what the last word rests on; a kill changes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dlas.core.errors import UserError
from dlas.core.goals import Goals
from dlas.core.records import MeasureSettings, Status
from dlas.core.stack import Stack
from dlas.explore.finalists import Contender, contenders
from dlas.explore.settling import (
    AFTER,
    AfterRun,
    Settled,
    Settling,
    rounds_between,
    sought_of,
    surely_meeting,
)
from dlas.explore.sought import Sought
from dlas.run.company import Alone
from dlas.store.results import FILE_NAME, ResultStore, RoundRow
from dlas.tables import cells_frame
from table_rows import HOST, SESSION, cell_row, fact, fill, round_row, stack

FASTEST = Sought(Goals(minimize=("quiet_ms",)))
BOTH = Sought(Goals(minimize=("quiet_ms", "memory_mb")))
ROUNDS = {"min": 3, "max": 3}


def stacks(n: int) -> list[Stack]:
    return [stack(0.5 + i / 1000, threads=1 + i % 2) for i in range(n)]


class MadeCampaign:
    """Measures made-up latencies into a real folder of results, what is missing."""

    def __init__(
        self,
        out: Path,
        true_ms: Sequence[float],
        *,
        noise: float = 0.01,
        memory: Sequence[float] = (),
        rounds: Mapping[str, int] = ROUNDS,
        fails: int | None = None,
    ) -> None:
        self.out, self.host, self.noise, self.fails = out, HOST, noise, fails
        made = stacks(len(true_ms))
        self.true = {each.cell: ms for each, ms in zip(made, true_ms, strict=True)}
        self.memory = dict(zip(self.true, memory or [1.0] * len(made), strict=True))
        settings = MeasureSettings(rounds=dict(rounds))  # type: ignore[arg-type]
        self.study = SimpleNamespace(measure=settings, name="made")
        self.cells: list[Any] = [
            SimpleNamespace(cell=each.cell, text=lambda *x, s=each: " ".join(map(s.text, x)))
            for each in made
        ]
        self.company = Alone()
        self.maker: Any = None
        self.asked: list[tuple[int, int]] = []
        """How many cells were measured, and from which round on."""
        self.measured = 0
        if not (out / FILE_NAME).exists():
            rows = [cell_row(each, at) for at, each in enumerate(made)]
            facts = [fact(c, "memory", {"memory_mb": mb}) for c, mb in self.memory.items()]
            fill(out, SESSION, *rows, *facts)

    def measure(self, cells: Sequence[Any], settings: MeasureSettings, first: int = 0) -> None:
        self.asked.append((len(cells), first))
        with ResultStore(self.out / FILE_NAME) as store:
            for cell in cells:
                have = {r.round for r in store.rows(RoundRow, cell=cell.cell) if r.round >= first}
                while len(have) < settings.rounds.min:
                    number = next(n for n in count(first) if n not in have)
                    have.add(number)
                    store.put(self.row(cell.cell, number))
                    self.measured += 1

    def row(self, cell: str, number: int) -> RoundRow:
        index = list(self.true).index(cell)
        if self.fails == index and number:
            return round_row(cell, number, [], status=Status.FAILED, stage="measure")
        rng = np.random.default_rng([index, number])
        ms = self.true[cell] * math.exp(self.noise * abs(rng.normal()))
        return round_row(cell, number, [ms] * 12)

    def told(self) -> list[Contender]:
        """Every stack, with what its first round says."""
        self.measure(self.cells, MeasureSettings(rounds=1))  # type: ignore[arg-type]
        found = []
        for cell in self.cells:
            (ms, *_) = self.row(cell.cell, 0).samples
            values = {"quiet_ms": ms * 1e3, "memory_mb": self.memory[cell.cell]}
            found.append(Contender(cell, values))
        return found

    def numbers(self, cell: str) -> list[int]:
        with ResultStore(self.out / FILE_NAME, read_only=True) as store:
            return sorted(row.round for row in store.rows(RoundRow, cell=cell))


def settled(made: MadeCampaign, sought: Sought = FASTEST, late: bool = False) -> Settled:
    told = made.told()
    settling = Settling(made, sought, made.study.measure, 1, lambda: late)  # type: ignore[arg-type]
    return settling.run(told)


def left(made: MadeCampaign, found: Settled) -> list[int]:
    return [list(made.true).index(each.cell) for each in found.finals]


def test_who_is_surely_slower_drops_out_and_the_last_word_is_from_later_rounds(
    tmp_path: Path,
) -> None:
    made = MadeCampaign(tmp_path, [10.0, 13.0, 14.0, 12.5, 15.0])
    found = settled(made)
    assert left(made, found) == [0]
    assert not found.open
    assert found.contenders == 5
    (final,) = found.finals
    # One look of three rounds decided; then three more, of the one that is left alone.
    assert made.asked[1:] == [(5, 1), (1, 4)]
    assert made.numbers(final.cell) == [0, 1, 2, 3, 4, 5, 6]
    assert final.rounds == 3
    rows = [made.row(final.cell, n).samples[0] * 1e3 for n in (4, 5, 6)]
    assert final.quiet_ms == pytest.approx(min(rows))
    assert final.low_ms is not None
    assert final.high_ms is not None
    # Where unlimited rounds would end: the noise of a round is the size of a normal of 1 %.
    assert final.low_ms < 10.03 < final.high_ms
    assert "1 stack is left of 5" in found.text()


def test_stacks_within_the_floor_are_left_level(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0, 10.05, 13.0, 14.0], noise=0.01)
    found = settled(made)
    assert sorted(left(made, found)) == [0, 1]
    assert not found.open
    assert "within 5% of each other" in found.text()


def test_what_rounds_cannot_decide_is_said_to_be_open(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0, 10.2, 10.3], noise=0.3)
    found = settled(made)
    assert len(found.finals) > 1
    assert found.open
    assert len([first for _, first in made.asked if first == 1]) == 3, "looked at three times"
    assert "may yet tell apart" in found.text()


def test_a_slower_stack_of_less_memory_stays(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0, 13.0, 13.0], memory=[5.0, 4.0, 5.0])
    assert sorted(left(made, settled(made, BOTH))) == [0, 1]


def test_the_same_again_measures_nothing_and_says_the_same(tmp_path: Path) -> None:
    first = settled(MadeCampaign(tmp_path, [10.0, 10.3, 10.6, 14.0], noise=0.04))
    again = MadeCampaign(tmp_path, [10.0, 10.3, 10.6, 14.0], noise=0.04)
    assert settled(again) == first
    assert again.measured == 0


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_killed_it_goes_on_and_decides_the_same(tmp_path: Path, kept: float) -> None:
    true = [10.0, 10.4, 10.8, 11.5, 14.0]
    whole = MadeCampaign(tmp_path / "whole", true, noise=0.05)
    (tmp_path / "whole").mkdir(exist_ok=True)
    expected = settled(whole)
    cut = MadeCampaign(tmp_path / "cut", true, noise=0.05)
    with ResultStore(whole.out / FILE_NAME, read_only=True) as store:
        rows = sorted(store.rows(RoundRow), key=lambda row: (row.round, row.cell))
    with ResultStore(cut.out / FILE_NAME) as store:
        store.put(*rows[: int(kept * len(rows))])
    assert settled(cut) == expected
    assert cut.measured == len(rows) - int(kept * len(rows))


def test_what_fails_while_it_is_settled_drops_out(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [9.0, 10.0, 10.1], fails=0)
    assert 0 not in left(made, settled(made))


def test_when_time_is_up_only_the_last_rounds_are_measured(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0, 13.0], rounds={"min": 2, "max": 9})
    found = settled(made, late=True)
    assert made.asked[1:] == [(2, 1)]
    assert [each.rounds for each in found.finals] == [2, 2]


def test_a_limit_is_judged_again_by_what_was_measured_since(tmp_path: Path) -> None:
    sought = Sought(Goals(minimize=("quiet_ms",), at_most=(("latency_ms", 9.0),)))
    made = MadeCampaign(tmp_path, [10.0, 30.0])
    told = [Contender(e.cell, {"quiet_ms": 8.9, "latency_ms": 8.9}) for e in made.told()[:1]]
    settling = Settling(made, sought, made.study.measure, 1)  # type: ignore[arg-type]
    found = settling.run(told)
    assert not found.finals[0].meets
    assert "misses a limit" in found.text()


def test_one_that_only_may_meet_the_limits_ousts_none_that_surely_does(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0, 13.0, 14.0])
    one, *rest = made.told()
    told = [Contender(one.cell, one.values, sure=False), *rest]
    settling = Settling(made, FASTEST, made.study.measure, 1)  # type: ignore[arg-type]
    assert sorted(left(made, settling.run(told))) == [0, 1]
    assert contenders(told, FASTEST) == told
    assert contenders([one, *rest], FASTEST) == [one]


def test_limits_are_surely_met_as_the_analysis_judges(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0, 11.0, 12.0])
    made.told()
    base = [1] * 900 + [0] * 100
    for cell, lost in zip(made.true, (0, 15, 300), strict=True):
        right = [0] * lost + base[lost:]
        value = {"n": 1000, "labels": right, "correct": right, "baseline_labels": base,
                 "baseline_correct": base}  # fmt: skip
        with ResultStore(tmp_path / FILE_NAME) as store:
            store.put(fact(cell, "evaluate", value))
    sought = Sought(Goals(minimize=("quiet_ms",), at_most=(("accuracy_drop", 0.02),)))
    seen = rounds_between(made, 0, 1, made.cells)  # type: ignore[arg-type]
    assert surely_meeting(cells_frame([seen]), HOST, sought) == {next(iter(made.true))}
    assert len(surely_meeting(cells_frame([seen]), HOST, FASTEST)) == 3


def test_the_choice_does_not_flatter_the_last_word(tmp_path: Path) -> None:
    """Of many equal stacks the luckiest is chosen: its later rounds know nothing of its luck."""
    made = MadeCampaign(tmp_path, [10.0] * 24, noise=0.2)
    told = sorted(made.told(), key=lambda each: each.values["quiet_ms"])[:3]
    settling = Settling(made, FASTEST, made.study.measure, 1)  # type: ignore[arg-type]
    for final in settling.run(told).finals:
        assert final.quiet_ms is not None
        assert final.values["quiet_ms"] < final.quiet_ms


# ---------------------------------------------------------------- after a whole run


def after(made: MadeCampaign, sought: Sought = FASTEST) -> Settled:
    made.measure(made.cells, made.study.measure)
    made.asked.clear()
    hook = AfterRun(sought)
    hook(made, made.cells)  # type: ignore[arg-type]
    assert hook.settled is not None
    return hook.settled


def test_cells_of_other_machines_are_left_out_and_told(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0, 20.0])
    far = [SimpleNamespace(stack=SimpleNamespace(label=name)) for name in ("far", "big", "far")]
    made.company = Alone(cells=tuple(far))  # type: ignore[arg-type]
    told: list[str] = []
    made.maker = SimpleNamespace(progress=SimpleNamespace(note=told.append))
    assert after(made).contenders >= 1
    assert told == [
        "settled is what is measured on this machine; cells of other machines (on: big, far) are "
        "not measured again"
    ]
    hook = AfterRun(FASTEST)
    hook(made, [])  # type: ignore[arg-type]
    assert hook.settled is None


def test_a_run_settles_only_what_its_own_rounds_leave_open(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0, 10.6, *np.linspace(15, 40, 10)], noise=0.02)
    found = after(made)
    assert found.contenders < 6
    assert left(made, found)[0] == 0
    assert made.asked[0] == (found.contenders, AFTER), "the study's own rounds are 0 to 2"
    slow = list(made.true)[-1]
    assert made.numbers(slow) == [0, 1, 2]
    for final in found.finals:
        assert final.rounds == 3


def test_rounds_of_anchors_are_the_study_s_own_and_do_not_stand_for_later_ones(
    tmp_path: Path,
) -> None:
    """Cells measured again to link two sessions have more rounds than the study asks for."""
    made = MadeCampaign(tmp_path, [10.0, 10.1, 40.0], noise=0.02)
    made.measure(made.cells, made.study.measure)
    made.measure(made.cells[:1], made.study.measure, first=3)
    hook = AfterRun(FASTEST)
    hook(made, made.cells)  # type: ignore[arg-type]
    assert hook.settled is not None and 0 in left(made, hook.settled)
    assert made.numbers(made.cells[0].cell)[:7] == [0, 1, 2, 3, 4, 5, AFTER]


def test_a_run_that_is_settled_again_measures_nothing(tmp_path: Path) -> None:
    true = [10.0, 10.6, *np.linspace(15, 40, 6)]
    first = after(MadeCampaign(tmp_path, true, noise=0.02))
    again = MadeCampaign(tmp_path, true, noise=0.02)
    assert after(again) == first
    assert again.measured == 0


def test_without_latency_among_the_goals_the_least_is_taken(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0, 9.0, 9.5], memory=[1.0, 2.0, 3.0])
    found = after(made, Sought(Goals(minimize=("memory_mb",))))
    assert left(made, found) == [0]


def test_a_cell_with_a_failed_round_is_no_contender(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [9.0, 10.0, 10.1])
    made.measure(made.cells, made.study.measure)
    best = next(iter(made.true))
    with ResultStore(tmp_path / FILE_NAME) as store:
        store.put(round_row(best, 2, [], status=Status.FAILED, reason="crashed", value={}))
    hook = AfterRun(FASTEST)
    hook(made, made.cells)  # type: ignore[arg-type]
    assert hook.settled is not None
    assert best not in {final.cell for final in hook.settled.finals}
    assert len(hook.settled.finals) > 0


def test_what_fails_in_the_last_rounds_is_not_left(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0], fails=0)
    settling = Settling(made, FASTEST, made.study.measure, 1)  # type: ignore[arg-type]
    found = settling.run(made.told())
    assert found.finals == ()
    assert "failed when they were measured again" in found.text()


def test_one_round_tells_nothing_between_two(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path, [10.0, 10.1], rounds={"min": 1, "max": 1})
    settling = Settling(made, FASTEST, made.study.measure, 1)  # type: ignore[arg-type]
    found = settling.run(made.told())
    assert found.open
    assert "level" not in found.text()


def test_a_goal_that_was_not_measured_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="energy_mj was not measured"):
        after(MadeCampaign(tmp_path, [1.0, 2.0]), Sought(Goals(minimize=("energy_mj",))))


def test_a_study_without_goals_is_refused() -> None:
    study = SimpleNamespace(name="x", goals=Goals())
    with pytest.raises(UserError, match="--settle needs something to seek"):
        sought_of(study, "--settle")  # type: ignore[arg-type]
    asked = SimpleNamespace(name="x", goals=Goals(minimize=("latency_ms",)))
    assert sought_of(asked, "explore").goals.minimize == ("quiet_ms",)  # type: ignore[arg-type]
    seen = sought_of(asked, "explore", "latency_ms")  # type: ignore[arg-type]
    assert seen.goals.minimize == ("latency_ms",) and seen.latency == "latency_ms"


class Jittery(MadeCampaign):
    """The undisturbed best has runs that are late half of the time."""

    def row(self, cell: str, number: int) -> RoundRow:
        index = list(self.true).index(cell)
        rng = np.random.default_rng([index, number])
        ms = self.true[cell] * math.exp(self.noise * abs(rng.normal()))
        late = 2.0 if index == 0 else 1.0
        return round_row(cell, number, [ms] * 11 + [late * ms] * 13)


@pytest.mark.parametrize("metric, best", [("quiet_ms", 0), ("latency_ms", 1)])
def test_latency_as_seen_settles_otherwise_where_runs_jitter(
    metric: str, best: int, tmp_path: Path
) -> None:
    made = Jittery(tmp_path, [10.0, 13.0, 16.0])
    made.measure(made.cells, made.study.measure)
    found = after(made, Sought(Goals(minimize=(metric,))))
    assert left(made, found) == [best]
    (final,) = found.finals
    assert final.metric == metric and final.line().split("  ")[1].startswith(metric)
    assert final.ms == pytest.approx([10.0, 13.0][best], rel=0.05)
    if (
        metric == "quiet_ms"
    ):  # as seen, one stack alone does not tell its noise from that of rounds
        assert final.low_ms is not None and final.high_ms is not None
        assert final.low_ms <= final.ms <= final.high_ms
