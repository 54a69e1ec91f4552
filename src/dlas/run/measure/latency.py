"""Latency of one built artefact: what happens inside the measured child.

The timed region is one inference: C-contiguous NCHW float32 numpy in, float32 numpy out, so that
wrapping, layout and type conversion count. Real images in turn; garbage collection off. Whether
to go on measuring is decided by counts and seconds, never by the results.

**Warm-up.** At least ``warmup_runs`` runs and ``warmup_seconds`` seconds, then on until two
successive windows differ by less than 2 %, for at most ``warmup_max_seconds``. A window is the
number of runs that fill 25 ms at the present pace, but at least 5; windows are compared by their
medians. So the window of a 50 us network holds 500 runs, and neither the timer (20-50 ns) nor
one interrupt (some us) moves its median by 2 %; a network of 50 ms is judged by 5 runs against
5. Of a network so slow that ``warmup_runs`` take longer than ``warmup_max_seconds`` there is one
comparison, of the last 5 runs with the 5 before.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from dlas.core.errors import StepError
from dlas.core.keys import Json
from dlas.core.protocols import HardwareTechnique, Software
from dlas.core.records import MeasureSettings, Round
from dlas.run.measure import energy, host
from dlas.run.measure.args import JobArgs, Launched, read_args

if TYPE_CHECKING:
    from dlas.core.protocols import Array

IMAGES = 64
"""Different images that a measurement uses in turn."""
STEADY = 0.02
"""Two windows whose medians differ by less, relative to the earlier one, are the same."""
WINDOW_S = 0.025
WINDOW_RUNS = 5
STEAL = 0.01
"""A larger share of stolen time flags the round."""
STOPPED_S, STOPPED_RUNS = 0.5, 10
"""A pause of so many seconds and of so many runs is no run: the process was stopped."""


@dataclass(frozen=True, slots=True)
class Warmup:
    """What the warm-up did."""

    runs: int
    seconds: float
    steady: bool


@dataclass(frozen=True)
class LatencyArgs:
    """What :func:`run` is asked for."""

    artifact: Path
    """A folder."""
    software: Software
    hardware: HardwareTechnique
    inputs: Path
    """.npy, float32 ``(n, C, H, W)``, or a folder with ``samples.npy``."""
    batch: int
    settings: MeasureSettings
    observe: bool
    """Whether to read back, after the timing, what ran."""
    launched: Launched


class LatencyAnswer(TypedDict):
    """What one measurement came to."""

    round: dict[str, Json]
    """A :class:`Round`."""
    ran: dict[str, Json] | None
    """A :class:`~dlas.protocols.Ran`."""
    energy_reason: str
    """Why there is no energy, or ""."""


def run(args: JobArgs) -> LatencyAnswer:
    """Measure one cell once.

    Raises:
        StepError: an output has the wrong shape or type, or is not finite.
    """
    given = read_args(LatencyArgs, args)
    settings, hardware = given.settings, given.hardware
    batches = read_batches(given.inputs, given.batch)
    began = time.perf_counter()
    session = given.software.load(given.artifact, hardware)
    loaded = time.perf_counter()
    first = session(batches[0])
    done = time.perf_counter()
    check_output(first, given.batch)
    gc.collect()
    gc.disable()
    try:
        warmup = warm_up(session, batches, settings)
        gpu = getattr(hardware, "index", 0) if hardware.device == "cuda" else None
        timed = _timed(session, batches, settings, gpu)
    finally:
        gc.enable()
    check_output(timed.last, given.batch)
    measured = _round(
        timed, warmup, given.launched, loaded - began, done - loaded, hardware.threads
    )
    ran = asdict(session.observe(batches[0])) if given.observe else None
    return {"round": measured.to_json(), "ran": ran, "energy_reason": timed.energy.reason}


def _round(
    timed: _Region,
    warmup: Warmup,
    launched: Launched,
    load_s: float,
    first_s: float,
    threads: int,
) -> Round:
    flags = [] if warmup.steady else ["unsteady"]
    if timed.stolen:
        flags.append("steal")
    if was_stopped(timed.samples, timed.wall_s, timed.cpu_s, threads):
        flags.append("stopped")
    return Round(
        samples_s=tuple(timed.samples),
        warmup_runs=warmup.runs,
        warmup_s=warmup.seconds,
        steady=warmup.steady,
        import_s=launched.import_s,
        load_s=load_s,
        first_inference_s=first_s,
        launch=launched.launch,
        cpu_s=timed.cpu_s,
        wall_s=timed.wall_s,
        steal_share=timed.steal,
        involuntary_switches=timed.switches,
        cpus=host.cpus_allowed(),
        threads_seen=host.threads_alive(),
        energy_j=timed.energy.joules,
        energy_source=timed.energy.source or f"not measured: {timed.energy.reason}",
        child_s=load_s + first_s + warmup.seconds + timed.wall_s,
        flags=tuple(flags),
    )


def was_stopped(samples: Sequence[float], wall_s: float, cpu_s: float, threads: int = 1) -> bool:
    """Return whether the process stood still during the timing: stopped, frozen, suspended.

    Then one run (or what lies between two) took very much longer than the others, and the
    processor time, ``cpu_s`` of all ``threads`` together, is no more than what they can use of
    the rest. Threads that are idle at other times may hide that they ran in the pause: such a
    round counts as stopped, which costs a measurement; the reverse would cost the result.
    """
    usual = statistics.median(samples)
    pause = max(max(samples) - usual, wall_s - sum(samples))
    busiest = threads * (wall_s - pause)
    return pause > STOPPED_S + STOPPED_RUNS * usual and cpu_s < busiest + 0.2 * pause


def read_batches(inputs: Path, batch: int) -> list[Array]:
    """Return the first 64 inputs as C-contiguous batches; the last batch starts over.

    ``inputs`` is a ``.npy`` file, or a folder with a ``samples.npy``.
    """
    file = inputs / "samples.npy" if inputs.is_dir() else inputs
    images = np.load(file, mmap_mode="r", allow_pickle=False)[:IMAGES]
    if images.dtype != np.float32 or images.ndim != 4 or not len(images):
        raise StepError(
            f"{file.name}: inputs must be float32 (n, C, H, W), got {images.dtype} {images.shape}"
        )
    starts = range(0, len(images), batch)
    return [
        np.ascontiguousarray(images[np.arange(start, start + batch) % len(images)])
        for start in starts
    ]


def check_output(output: object, batch: int) -> None:
    """Refuse an output that is not finite float32 ``(batch, classes)``.

    Raises:
        StepError: says what it is instead.
    """
    if not isinstance(output, np.ndarray) or output.dtype != np.float32:
        got = getattr(output, "dtype", type(output).__name__)
        raise StepError(f"the output must be a float32 numpy array, got {got}")
    if output.ndim != 2 or len(output) != batch:
        raise StepError(f"the output must have the shape ({batch}, classes), got {output.shape}")
    if not np.isfinite(output).all():
        bad = int(output.size - np.isfinite(output).sum())
        raise StepError(f"{bad} of {output.size} values of the output are NaN or infinite")


def warm_up(
    session: Callable[[Array], Array],
    batches: Sequence[Array],
    settings: MeasureSettings,
    clock: Callable[[], float] = time.perf_counter,
) -> Warmup:
    """Run until the pace is steady, or the time for it is up (see the module's text)."""
    durations: list[float] = []
    began = clock()
    steady = False
    checked = 0
    while True:
        x = batches[len(durations) % len(batches)]
        start = clock()
        session(x)
        end = clock()
        durations.append(end - start)
        spent = end - began
        if len(durations) < settings.warmup_runs or spent < settings.warmup_seconds:
            continue
        width = window(durations)
        if len(durations) >= 2 * width and len(durations) >= checked + width:
            checked = len(durations)
            steady = same(durations[-2 * width : -width], durations[-width:])
        if steady or spent >= settings.warmup_max_seconds:
            return Warmup(len(durations), spent, steady)


def window(durations: Sequence[float]) -> int:
    """Return the number of runs in a window: what fills 25 ms at the present pace, at least 5."""
    pace = statistics.median(durations[-WINDOW_RUNS:])
    return max(WINDOW_RUNS, int(WINDOW_S / max(pace, 1e-9)))


def same(before: Sequence[float], after: Sequence[float]) -> bool:
    """Return whether two windows have the same pace: medians that differ by less than 2 %."""
    first = statistics.median(before)
    return abs(statistics.median(after) - first) < STEADY * first


@dataclass(frozen=True, slots=True)
class _Region:
    """The timed region: samples, and what the counters of process and machine did meanwhile."""

    samples: list[float]
    last: Array
    wall_s: float
    cpu_s: float
    switches: int
    steal: float | None
    stolen: bool
    energy: energy.Spent


def _timed(
    session: Callable[[Array], Array],
    batches: Sequence[Array],
    settings: MeasureSettings,
    gpu: int | None,
) -> _Region:
    samples: list[float] = []
    clock = time.perf_counter
    count = len(batches)
    cpus = host.cpus_allowed()
    # Counters nearest to the region are those that reading the others would disturb.
    power = _energy(settings, gpu)
    ticks = host.cpu_ticks(cpus)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    began = clock()
    until = began + settings.min_seconds
    while True:
        x = batches[len(samples) % count]
        start = clock()
        y = session(x)
        end = clock()
        samples.append(end - start)
        last = y  # the previous output is freed here, outside the timed region
        if end >= until and len(samples) >= settings.min_runs:
            break
    used = resource.getrusage(resource.RUSAGE_SELF)
    after = host.cpu_ticks(cpus)
    spent = _energy(settings, gpu).since(power)
    return _Region(
        samples,
        last,
        wall_s=end - began,
        cpu_s=used.ru_utime + used.ru_stime - usage.ru_utime - usage.ru_stime,
        switches=used.ru_nivcsw - usage.ru_nivcsw,
        steal=after.steal_share_since(ticks),
        stolen=after.stolen_above(STEAL, ticks),
        energy=spent,
    )


def _energy(settings: MeasureSettings, gpu: int | None) -> energy.Reading:
    return energy.read(gpu) if settings.energy else energy.unread("not asked for")
