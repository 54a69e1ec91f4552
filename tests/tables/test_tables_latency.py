from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dlas.analyze.parts import contrasts
from dlas.core.least import expected_least
from dlas.core.records import Status
from dlas.store.results import RoundRow
from dlas.tables.fitted import QUIET, fits
from dlas.tables.latency import MEDIAN_VARIANCE, latencies, median_variance
from dlas.tables.read import Results
from table_rows import HOST, cell_row, fact, round_row, stack

A, B = stack(), stack(0.5)


def results(rounds: list[RoundRow]) -> Results:
    cells = [cell_row(A), cell_row(B, 1)]
    return Results(Path(), cells, [], rounds, [], [])


def test_it_is_the_median_of_the_rounds_medians() -> None:
    rounds = [
        round_row(A.cell, 0, [1, 2, 100]),
        round_row(A.cell, 1, [5, 6, 7]),
        round_row(A.cell, 2, [2.5, 3.5]),
        round_row(A.cell, 3, [], status=Status.FAILED),
        round_row(A.cell, 0, [50.0], control=1),
    ]
    found = latencies(results(rounds))[A.cell, HOST]
    assert found.seen.ms == pytest.approx(3.0)  # of 2, 6 and 3
    assert (found.rounds, found.samples) == (3, 8)
    # 90 % of 1, 2, 2.5, 3.5, 5, 6, 7, 100: place 6.3
    assert found.p90_ms == pytest.approx(7 + 0.3 * 93)


def test_the_interval_is_a_t_interval_of_the_two_way_model() -> None:
    a, b = [10.0, 11.0, 12.5], [20.0, 21.0, 26.0]
    rounds = [round_row(A.cell, r, [ms]) for r, ms in enumerate(a)]
    rounds += [round_row(B.cell, r, [ms]) for r, ms in enumerate(b)]
    logs = np.log([a, b])
    residual = logs - logs.mean(1, keepdims=True) - logs.mean(0) + logs.mean()
    sigma2 = (residual**2).sum() / 2  # (2 - 1) cells x (3 - 1) rounds
    # the variance of a median of three: 1 - sqrt(3) / pi; t(2) at 97.5 %: 4.3027
    half = 4.302653 * math.sqrt(sigma2 * (1 - math.sqrt(3) / math.pi))
    found = latencies(results(rounds))
    for cell, ms in ((A.cell, 11.0), (B.cell, 21.0)):
        one = found[cell, HOST]
        assert one.seen.ms == pytest.approx(ms)
        assert one.seen.low_ms == pytest.approx(ms * math.exp(-half), rel=1e-4)
        assert one.seen.high_ms == pytest.approx(ms * math.exp(half), rel=1e-4)


def test_one_round_says_nothing_of_noise() -> None:
    found = latencies(results([round_row(A.cell, 0, [10.0]), round_row(B.cell, 0, [20.0])]))
    assert found[A.cell, HOST].seen.ms == pytest.approx(10)
    assert found[A.cell, HOST].seen.low_ms is None
    assert found[A.cell, HOST].seen.high_ms is None


def test_rounds_of_hosts_are_never_pooled() -> None:
    rounds = [round_row(A.cell, r, [ms]) for r, ms in enumerate([10.0, 11.0, 12.0])]
    rounds += [round_row(A.cell, 0, [99.0], host="other")]
    found = latencies(results(rounds))
    assert found[A.cell, HOST].seen.ms == pytest.approx(11)
    assert found[A.cell, "other"].seen.ms == pytest.approx(99)
    assert found[A.cell, "other"].seen.low_ms is None


def test_rounds_of_an_earlier_artefact_are_left_out() -> None:
    rounds = [round_row(A.cell, 0, [10.0]), round_row(A.cell, 1, [99.0], content="earlier")]
    stale = Results(Path(), [cell_row(A)], [fact(A.cell, "build", {})], rounds, [], [])
    assert latencies(stale)[A.cell, HOST].seen.ms == pytest.approx(10)
    assert latencies(stale)[A.cell, HOST].rounds == 1
    unbuilt = results(rounds)  # without a build, the latest round says which artefact it is
    assert latencies(unbuilt)[A.cell, HOST].seen.ms == pytest.approx(99)


def test_nothing_measured_is_nothing() -> None:
    assert latencies(results([])) == {}
    assert latencies(results([round_row(A.cell, 0, [], status=Status.FAILED)])) == {}


def test_intervals_hold_what_they_promise() -> None:
    """Over 600 simulated cells of three rounds, 95 % of the true values are inside."""
    random = np.random.default_rng(7)
    drift = random.normal(0, 0.01, 3)
    drift -= np.median(drift)
    cells = [stack(n / 1000) for n in range(600)]
    rounds = [
        round_row(cell.cell, r, [math.exp(random.normal(0, 0.02) + drift[r])])
        for cell in cells
        for r in range(3)
    ]
    found = latencies(Results(Path(), [cell_row(c) for c in cells], [], rounds, [], []))
    inside = [one.seen.low_ms <= 1 <= one.seen.high_ms for one in found.values()]  # type: ignore[operator]
    assert len(inside) == 600
    assert 0.92 < np.mean(inside) < 0.98


def test_the_variance_of_a_median() -> None:
    assert median_variance(3) == pytest.approx(1 - math.sqrt(3) / math.pi, abs=5e-5)
    assert list(MEDIAN_VARIANCE) == sorted(MEDIAN_VARIANCE, reverse=True)
    random = np.random.default_rng(0)
    for n in range(1, 11):
        seen = np.median(random.standard_normal((100_000, n)), axis=1).var()
        assert median_variance(n) == pytest.approx(seen, rel=0.02)
    for n in (11, 51):  # the limit is approached from above
        seen = np.median(stats.norm.rvs(size=(50_000, n), random_state=1), axis=1).var()
        assert seen * 0.98 < median_variance(n) < seen * 1.1


def test_undisturbed_it_is_the_expected_least_of_three_rounds() -> None:
    runs = [[5.0, *([4.0] * 9)], [2.0, *([9.0] * 9)], [3.0] * 10, [70.0] * 12]
    rounds = [round_row(A.cell, r, each) for r, each in enumerate(runs)]
    # the rounds come to 4, 2, 3 and 70; of the four triples three hold the 2, one the 3
    found = latencies(results(rounds))[A.cell, HOST].quiet
    assert found.ms == pytest.approx(math.exp((3 * math.log(2) + math.log(3)) / 4))
    assert found.low_ms is not None and found.high_ms is not None
    assert found.low_ms < found.ms < found.high_ms
    alone = latencies(results(rounds[:1]))[A.cell, HOST].quiet
    assert (alone.ms, alone.low_ms) == (pytest.approx(4), None)


def test_the_interval_shown_is_the_one_that_comparisons_rest_on() -> None:
    """Of rounds that drifted: what is in doubt of the levels is in it, with its own freedom."""
    random = np.random.default_rng(5)
    cells, at = [stack(n / 1000) for n in range(30)], 0
    rounds = []
    for r in range(4):
        for n in random.permutation(len(cells)).tolist():
            ms = math.exp(0.15 * math.sin(at / 9) + abs(random.normal(0, 0.005)))
            row = round_row(cells[n].cell, r, [ms] * 12)
            at += 1
            rounds.append(replace(row, created_at=f"2026-01-01T00:{at // 60:02}:{at % 60:02}"))
    given = Results(Path(), [cell_row(c) for c in cells], [], rounds, [], [])
    found, fit = latencies(given), fits(given, QUIET)[0]
    known = fit.estimates
    assert known is not None and known.sessions == 2
    inner = contrasts.tested(known.mean, known.var, known)
    for row, cell in enumerate(fit.cells):
        one = found[cell, HOST].quiet
        ends = np.exp([inner.low[row], inner.high[row]])
        assert [one.low_ms, one.high_ms] == pytest.approx(list(ends))


def test_undisturbed_intervals_hold_what_they_promise() -> None:
    """Bursts and bad rounds: 95 % of intervals hold what unlimited rounds would come to."""
    random = np.random.default_rng(11)

    def drawn(n: int) -> list[float]:
        bad = random.random(n) < 0.25
        return list(np.exp(np.abs(random.normal(0, 0.01, n)) + bad * random.exponential(0.2, n)))

    true = float(np.exp(expected_least(np.log(drawn(30_000)), 3)))
    cells = [stack(n / 1000) for n in range(300)]
    rounds = [round_row(c.cell, r, [ms]) for c in cells for r, ms in enumerate(drawn(7))]
    found = latencies(Results(Path(), [cell_row(c) for c in cells], [], rounds, [], []))
    inside = [one.quiet.low_ms <= true <= one.quiet.high_ms for one in found.values()]  # type: ignore[operator]
    assert 0.92 < np.mean(inside) < 0.995
    assert np.median([one.quiet.high_ms / one.quiet.ms for one in found.values()]) < 1.03  # type: ignore[operator]
