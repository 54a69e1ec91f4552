from __future__ import annotations

import pytest

from dlas.run.measure import sentinel
from dlas.run.measure.sentinel import Drift, Watch


def test_the_workload_yields_the_median_of_its_repetitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, durations = 0.0, iter([9, 9, 1, 2, 3, 4, 5, 6, 7, 8, 90])
    ends = False

    def clock() -> float:
        nonlocal now, ends
        if ends:
            now += next(durations)
        ends = not ends
        return now

    monkeypatch.setattr(sentinel.time, "perf_counter", clock)
    assert sentinel.run({})["seconds"] == 5  # without the first two


def test_the_workload_is_of_some_milliseconds() -> None:
    assert 0 < sentinel.run({})["seconds"] < 5


def test_the_first_readings_have_no_median() -> None:
    watch = Watch()
    assert [watch.see(s) for s in (1.0, 2.0)] == [Drift.NONE, Drift.NONE]


@pytest.mark.parametrize(
    ("seconds", "drift"),
    [
        (1.049, Drift.NONE),
        (1.051, Drift.SLOWER),
        (0.951, Drift.NONE),
        (0.949, Drift.FASTER),
        (3.0, Drift.SLOWER),
    ],
)
def test_more_than_five_percent_off_the_median(seconds: float, drift: Drift) -> None:
    watch = Watch()
    for _ in range(4):
        assert watch.see(1.0) is Drift.NONE
    assert watch.see(seconds) is drift


def test_a_machine_that_recovers_is_good_again() -> None:
    watch = Watch()
    seen = [watch.see(s) for s in (1.0, 1.01, 0.99, 1.2, 1.0, 1.0)]
    assert seen == [*[Drift.NONE] * 3, Drift.SLOWER, Drift.NONE, Drift.NONE]


def test_a_change_that_lasts_becomes_the_median() -> None:
    watch = Watch()
    for _ in range(4):
        watch.see(1.0)
    seen = [watch.see(1.2) for _ in range(8)]
    assert seen[:3] == [Drift.SLOWER] * 3
    assert seen[-1] is Drift.NONE


def test_a_machine_that_is_never_still_is_no_drift_but_a_change_of_it_is() -> None:
    watch = Watch()
    restless = (7.1, 7.7, 6.8, 6.5, 7.7, 8.6, 6.2, 8.0, 7.4, 5.8, 6.9, 7.8)
    assert [watch.see(s) for s in restless[4:]] == [Drift.NONE] * 8
    assert watch.see(14.0) is Drift.SLOWER
    assert watch.see(1.4) is Drift.FASTER
    assert watch.see(7.0) is Drift.NONE


def test_few_bad_readings_do_not_widen_the_spread() -> None:
    still = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98]
    assert sentinel.spread(still) == pytest.approx(1.4826 * 0.01)
    assert sentinel.allowed([*still, 2.0]) == 0.05
    assert sentinel.allowed([0.7, 1.3, 0.8, 1.2, 1.0]) == pytest.approx(3 * 1.4826 * 0.2)
