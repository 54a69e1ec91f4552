from __future__ import annotations

import dataclasses
import gc
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dlas.core.errors import StepError
from dlas.core.protocols import HardwareTechnique, Ran, Software
from dlas.core.records import MeasureSettings, Round
from dlas.run.measure import args as job_args
from dlas.run.measure import latency

SETTINGS = MeasureSettings(
    min_runs=7, min_seconds=0.02, warmup_runs=3, warmup_seconds=0.01, warmup_max_seconds=0.5
)


class FakeClock:
    """Time that passes only when a run takes it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def warm(durations: Any, **changes: Any) -> latency.Warmup:
    clock = FakeClock()
    each = iter(durations)

    def session(x: Any) -> Any:
        clock.now += next(each)
        return x

    settings = MeasureSettings(**changes)
    return latency.warm_up(session, [np.zeros((1, 1, 1, 1), np.float32)], settings, clock)


def forever(value: float) -> Any:
    while True:
        yield value


def falling(start: float, factor: float) -> Any:
    value = start
    while True:
        yield value
        value *= factor


def test_a_steady_network_warms_up_for_the_least() -> None:
    done = warm(forever(0.011))
    assert done.steady
    assert done.runs == 10
    assert done.seconds == pytest.approx(0.11)


def test_a_small_network_is_judged_by_long_windows() -> None:
    done = warm(forever(1e-4))
    assert done.steady
    # 25 ms windows of 250 runs fit four times into the least warm-up of 0.1 s.
    assert done.runs == pytest.approx(1000, abs=1)


def test_timer_noise_does_not_make_a_small_network_unsteady() -> None:
    noise = np.random.default_rng(0)

    def durations() -> Any:
        while True:
            yield 5e-5 * (1 + 0.2 * noise.random())

    assert warm(durations()).steady


def test_warming_up_goes_on_while_the_pace_changes() -> None:
    def durations() -> Any:
        for run in range(60):
            yield 0.02 * (1 - run / 120)
        yield from forever(0.01)

    done = warm(durations())
    assert done.steady
    assert done.runs > 60


def test_a_pace_that_never_settles_is_unsteady() -> None:
    done = warm(falling(0.05, 0.95), warmup_max_seconds=0.8)
    assert not done.steady
    assert 0.8 <= done.seconds < 0.9


def test_a_slow_network_gets_one_comparison() -> None:
    assert warm(forever(0.5)) == latency.Warmup(10, pytest.approx(5.0), True)
    slowing = warm([0.5] * 5 + [0.6] * 5)
    assert (slowing.runs, slowing.steady) == (10, False)


def test_windows_differ_by_two_percent() -> None:
    assert latency.same([1.0] * 5, [1.0, 1.019, 1.019, 1.019, 9.0])
    assert not latency.same([1.0] * 5, [1.021] * 5)
    assert not latency.same([1.0] * 5, [0.979] * 5)


# ---------------------------------------------------------------- inputs and outputs


def test_batches_hold_every_image_once_and_start_over(tmp_path: Path) -> None:
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    np.save(tmp_path / "samples.npy", images)
    for place in (tmp_path, tmp_path / "samples.npy"):
        batches = latency.read_batches(place, 4)
        assert [b.ravel().tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
        assert all(b.flags["C_CONTIGUOUS"] and b.dtype == np.float32 for b in batches)


def test_64_images_are_used(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.random.default_rng(0).random((100, 3, 2, 2), np.float32))
    batches = latency.read_batches(tmp_path / "in.npy", 1)
    assert len(batches) == 64
    assert len({b.tobytes() for b in batches}) == 64


def test_a_batch_may_exceed_the_images(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((3, 1, 2, 2), np.float32))
    (only,) = latency.read_batches(tmp_path / "in.npy", 8)
    assert only.shape == (8, 1, 2, 2)


def test_inputs_of_another_kind_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((3, 1, 2, 2)))
    with pytest.raises(StepError, match=r"float32 \(n, C, H, W\), got float64"):
        latency.read_batches(tmp_path / "in.npy", 1)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ([[1.0]], "must be a float32 numpy array, got list"),
        (np.zeros((1, 3)), "got float64"),
        (np.zeros((2, 3), np.float32), r"the shape \(1, classes\), got \(2, 3\)"),
        (np.zeros(3, np.float32), r"got \(3,\)"),
        (np.array([[1, np.nan, np.inf]], np.float32), "2 of 3 values of the output"),
    ],
)
def test_outputs_are_checked(output: Any, message: str) -> None:
    with pytest.raises(StepError, match=message):
        latency.check_output(output, 1)


# ---------------------------------------------------------------- a whole measurement


class FakeRuntime:
    """Loads to a session that notes what it is given; answers with ``answer``."""

    def __init__(self, answer: Any = None) -> None:
        self.given: list[float] = []
        self.collecting: list[bool] = []
        self.answer = np.ones((1, 2), np.float32) if answer is None else answer

    def load(self, folder: Path, hardware: Any) -> FakeRuntime:
        return self

    def __call__(self, x: Any) -> Any:
        self.given.append(float(x.ravel()[0]))
        self.collecting.append(gc.isenabled())
        sum(range(20_000))
        return self.answer

    def observe(self, x: Any) -> Ran:
        return Ran(precision="float32", threads=1)


def measure(
    runtime: FakeRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int = 1,
    **changes: Any,
) -> dict[str, Any]:
    np.save(tmp_path / "in.npy", np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1))
    monkeypatch.setitem(job_args._FROM_JSON, Software, lambda choice: runtime)
    cpu = SimpleNamespace(device="cpu", threads=threads)
    monkeypatch.setitem(job_args._FROM_JSON, HardwareTechnique, lambda choice: cpu)
    args: dict[str, Any] = {
        "artifact": str(tmp_path),
        "inputs": str(tmp_path / "in.npy"),
        "batch": 1,
        "software": {},
        "hardware": {},
        "settings": SETTINGS.model_dump(),
        "observe": True,
        "launched": {"launch": "fork", "import_s": 1.5},
    }
    return latency.run({**args, **changes})


def test_a_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = FakeRuntime()
    value = measure(runtime, tmp_path, monkeypatch)
    seen = Round.from_json(value["round"])
    assert len(seen.samples_s) >= 7
    assert sum(seen.samples_s) <= seen.wall_s
    assert seen.wall_s >= 0.02
    assert seen.warmup_runs >= 3
    assert (seen.launch, seen.import_s) == ("fork", 1.5)
    assert seen.load_s >= 0
    assert seen.first_inference_s > 0
    assert seen.cpus
    assert seen.threads_seen >= 1
    assert seen.cpu_s >= 0
    assert seen.involuntary_switches >= 0
    assert seen.child_s >= seen.warmup_s + seen.wall_s
    assert seen.steady is ("unsteady" not in seen.flags)
    assert value["ran"]["threads"] == 1
    if seen.energy_j is None:
        assert "RAPL" in value["energy_reason"]
    # First inference, warm-up, samples; what is read back comes afterwards.
    assert len(runtime.given) == 1 + seen.warmup_runs + len(seen.samples_s)


def test_images_come_in_turn_and_nothing_is_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = FakeRuntime()
    seen = Round.from_json(measure(runtime, tmp_path, monkeypatch)["round"])
    timed = runtime.given[-len(seen.samples_s) :]
    assert timed == [float(i % 5) for i in range(len(timed))]
    assert runtime.collecting[0] is True
    assert not any(runtime.collecting[1:])
    assert gc.isenabled()


def test_what_ran_is_read_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure(FakeRuntime(), tmp_path, monkeypatch, observe=False)["ran"] is None


def test_energy_may_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SETTINGS.model_copy(update={"energy": False}).model_dump()
    value = measure(FakeRuntime(), tmp_path, monkeypatch, settings=settings)
    assert value["round"]["energy_j"] is None
    assert value["energy_reason"] == "not asked for"


def test_an_output_that_becomes_nan_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Decays(FakeRuntime):
        def __call__(self, x: Any) -> Any:
            super().__call__(x)
            return np.full((1, 2), np.nan if len(self.given) > 1 else 1, np.float32)

    with pytest.raises(StepError, match="2 of 2 values"):
        measure(Decays(), tmp_path, monkeypatch)
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("samples", "wall_s", "cpu_s", "stopped"),
    [
        ([0.01] * 30, 0.3, 0.3, False),
        ([0.01] * 29 + [1.0], 1.29, 0.3, True),  # stopped in a run
        ([0.01] * 30, 1.3, 0.3, True),  # between two
        ([0.01] * 29 + [1.0], 1.29, 1.28, False),  # a slow run, but it ran
        ([0.01] * 29 + [1.0], 1.29, 2.5, False),  # on two processors
        ([0.01] * 29 + [0.4], 0.69, 0.3, False),  # a neighbour: that is `steal`'s affair
        ([2.0, 2.1, 4.0], 8.1, 0.5, False),  # a network on a GPU that is slow by itself
    ],
)
def test_a_pause_without_processor_time_is_no_run(
    samples: list[float], wall_s: float, cpu_s: float, stopped: bool
) -> None:
    assert latency.was_stopped(samples, wall_s, cpu_s) is stopped


@pytest.mark.parametrize(
    ("samples", "wall_s", "cpu_s", "threads", "stopped"),
    [
        ([0.01] * 29 + [1.0], 1.29, 0.6, 2, True),  # two threads, of which neither ran
        ([0.01] * 29 + [1.0], 1.29, 1.2, 4, True),
        ([0.01] * 100, 2.0, 2.0, 2, True),  # between two: as much time as one thread could use
        ([0.01] * 29 + [1.0], 1.29, 2.5, 2, False),  # both ran
        ([0.01] * 29 + [1.0], 1.29, 1.6, 2, False),  # one of them ran
        ([0.01] * 30, 0.3, 0.3, 2, False),  # no pause, whatever the other thread does
    ],
)
def test_a_pause_is_told_from_the_time_of_all_threads(
    samples: list[float], wall_s: float, cpu_s: float, threads: int, stopped: bool
) -> None:
    assert latency.was_stopped(samples, wall_s, cpu_s, threads) is stopped


@pytest.mark.parametrize(("threads", "stopped"), [(1, False), (2, True)])
def test_a_round_is_judged_by_the_threads_of_its_hardware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, stopped: bool
) -> None:
    real = latency._timed

    def paused(*given: Any) -> Any:
        samples = [0.01] * 29 + [1.0]
        return dataclasses.replace(real(*given), samples=samples, wall_s=1.29, cpu_s=0.6)

    monkeypatch.setattr(latency, "_timed", paused)
    seen = measure(FakeRuntime(), tmp_path, monkeypatch, threads=threads)["round"]
    assert ("stopped" in seen["flags"]) is stopped


STOPPED = """
import sys, time
import numpy as np
from dlas.core.records import MeasureSettings
from dlas.run.measure import latency
def session(x):
    until = time.process_time() + 0.005
    while time.process_time() < until:
        pass
    return x
settings = MeasureSettings(min_runs=40, min_seconds=0.4, energy=False)
print("begin", flush=True)
timed = latency._timed(session, [np.zeros((1, 1), np.float32)], settings, None)
print(latency.was_stopped(timed.samples, timed.wall_s, timed.cpu_s), flush=True)
"""


def test_a_process_that_is_stopped_while_it_measures_says_so() -> None:
    process = subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60)[0] == "True\n"
