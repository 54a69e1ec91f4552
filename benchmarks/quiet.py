"""Does the interval of ``quiet_ms`` hold what it claims? Sessions under simulated disturbance.

A session is a minute or three of one machine whose speed changes as its neighbours please; a path
of the speed, by the millisecond, is drawn for each. Cells of 0.2, 2 and 20 ms, of four strata, are
measured in it as ``dlas run`` does: rounds in an order shuffled anew, runs one after another,
until the intervals of a stratum are as narrow as asked. What an interval claims is what the
estimator would come to with unlimited rounds of the same session: it is taken from up to 600
further measurements at random moments of the same path. ``ratios`` are of a cell to another drawn
at random, ``means`` of all cells of a stratum to those of another, as a main effect is. The bias
is against an undisturbed machine.

    python benchmarks/quiet.py [--tables 2000] [--kinds bursts,drift] [--state FILE --minutes 4]

With ``--state`` it goes on where an earlier run stopped; rows say how many sessions stand. The
exit status is 3 where tables are left to be made, else 1 where coverage misses 93 % over all cells
or 90 % in a stratum, or the half width of an undisturbed machine is above 1.5 %.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from slices import LEFT, Refused, Slices, sources

from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contrasts import tested
from dlas.core.disturbed import QUIET_TIMES, SLOW, WIDTH
from dlas.core.least import OF_ROUNDS, OF_RUNS, expected_least
from dlas.core.quieted import quieted
from dlas.run.enough import UNDISTURBED, too_wide

Path = np.ndarray
STRATA = 4
CELLS = 60
DURATIONS = (0.2, 2.0, 20.0)
"""Milliseconds of an inference."""
MIN_ROUNDS, MAX_ROUNDS = 4, 12
REGION_MS, LEAST_RUNS, BESIDE_MS = 40.0, 20, 240.0
"""A round of a cell: timed milliseconds, least runs, and what a measurement costs besides."""
PRECISION = 0.03
JITTER = (0.003, 0.005, 0.008, 0.012)
"""Standard deviation of a run by stratum; always added, never taken off."""
FELT = (1.0, 1.0, 1.3, 1.6)
"""The power of a disturbance that a stratum feels: threads wait for each other."""
ONE_CORE = "two processors on one core"
BY_SOME = {ONE_CORE: (0.0, 0.0, 1.0, 1.6)}
"""The same by kinds that some strata do not feel at all."""
FURTHER = 600


def quiet(rng: np.random.Generator, n: int) -> Path:
    """Return the speed of a machine that nobody disturbs."""
    return np.ones(n)


def bursts(rng: np.random.Generator, n: int) -> Path:
    """Return short interruptions: 3 in a second, of 15 ms on average, half as fast again."""
    path = np.ones(n)
    for start in rng.integers(0, n, rng.poisson(3 * n / 1000)):
        path[start : start + int(rng.exponential(15)) + 1] = 1.5
    return path


def spells(rng: np.random.Generator, n: int) -> Path:
    """Return bad spells of 5 to 30 s, a fifth of the time: whole rounds of many cells."""
    path, at = np.ones(n), 0
    while at < n:
        at += int(rng.exponential(60_000))
        length = int(rng.uniform(5_000, 30_000))
        path[at : at + length] = rng.uniform(1.1, 1.5)
        at += length
    return path


def speeds(rng: np.random.Generator, n: int) -> Path:
    """Return a core of two speeds, 15 % apart, which change every second or so."""
    path, at, slow = np.ones(n), 0, bool(rng.integers(2))
    while at < n:
        length = int(rng.exponential(1_000)) + 50
        path[at : at + length] = 1.15 if slow else 1.0
        at, slow = at + length, not slow
    return path


def drift(rng: np.random.Generator, n: int) -> Path:
    """Return a clock that wanders by some per cent over minutes."""
    steps = np.cumsum(rng.normal(0, 0.003, n // 1000 + 2))
    slow = 0.02 * np.sin(2 * np.pi * (np.arange(len(steps)) / 300 + rng.random()))
    each = np.repeat(np.abs(steps) + 0.02 + slow, 1000)[:n]
    return 1 + each


def sibling(rng: np.random.Generator, n: int) -> Path:
    """Return a second hyper-thread that is busy for 10 s and idle for 10 s."""
    phase = rng.integers(20_000)
    return np.where((np.arange(n) + phase) % 20_000 < 10_000, 1.4, 1.0)


def one_core(rng: np.random.Generator, n: int) -> Path:
    """Return two processors that share a core for 40 % of the time, 20 s on average."""
    path, at, slow = np.ones(n), 0, bool(rng.random() < 0.4)
    while at < n:
        length = int(rng.exponential(20_000 if slow else 30_000)) + 1_000
        path[at : at + length] = 1.6 if slow else 1.0
        at, slow = at + length, not slow
    return path


KINDS: dict[str, Callable[[np.random.Generator, int], Path]] = {
    "none": quiet,
    "bursts": bursts,
    "bad spells": spells,
    "two speeds": speeds,
    "drifting clock": drift,
    "busy hyper-thread": sibling,
    ONE_CORE: one_core,
}


@dataclass(frozen=True)
class Machine:
    """One session of a machine."""

    total: np.ndarray
    """The running sum of its path."""
    felt: tuple[float, ...]
    """The power of it that each stratum feels."""


def measured(
    rng: np.random.Generator, machine: Machine, start: np.ndarray, ms: float, stratum: int
) -> np.ndarray:
    """Return the log of what rounds that start at some moments come to, over the quiet time.

    A run takes as long as the path says on its way.
    """
    runs = max(LEAST_RUNS, int(REGION_MS / ms))
    began = start[:, None] + np.arange(runs) * ms
    slow = (at(machine.total, began + ms) - at(machine.total, began)) / ms
    felt = np.maximum(slow, 1e-9) ** machine.felt[stratum]
    jitter = np.abs(rng.normal(0, JITTER[stratum], began.shape))
    return np.log(expected_least(felt * (1 + jitter), OF_RUNS))


def at(total: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Return a running sum at moments between its milliseconds."""
    whole = np.minimum(moment.astype(np.int64), len(total) - 2)
    low = total[whole]
    return low + (moment - whole) * (total[whole + 1] - low)


Rounds = dict[int, list[tuple[float, int]]]
"""By cell: what its rounds came to, and the place in time of each."""


def session(rng: np.random.Generator, kind: str) -> tuple[Rounds, Estimates, np.ndarray]:
    """Measure one session; return rounds by cell, their estimate, and the claim's truth."""
    each = [max(LEAST_RUNS * ms, REGION_MS) + BESIDE_MS for ms in DURATIONS]
    length = int(MAX_ROUNDS * sum(each) * CELLS / len(DURATIONS)) + 2_000
    total = np.concatenate([[0.0], np.cumsum(KINDS[kind](rng, length))])
    machine = Machine(total, BY_SOME.get(kind, FELT))
    rounds: Rounds = defaultdict(list)
    due, now, number = list(range(CELLS)), 0.0, 0
    while due and number < MAX_ROUNDS:
        for cell in rng.permutation(due).tolist():
            ms, stratum = DURATIONS[cell % 3], cell // 3 % STRATA
            found = measured(rng, machine, np.array([now + BESIDE_MS]), ms, stratum)
            rounds[cell].append((float(found[0]), int(now)))
            now += max(LEAST_RUNS * ms, REGION_MS) + BESIDE_MS
        number += 1
        if number >= MIN_ROUNDS:
            due = _due(rounds)
    known = estimate(table_of(rounds))
    return rounds, known, unlimited(rng, machine, now, known.disturbed is not None)


def unlimited(rng: np.random.Generator, machine: Machine, end: float, calm: bool) -> np.ndarray:
    """Return what unlimited rounds of a session come to, by duration and stratum.

    Measurements at random moments of its path; where the estimate leaves disturbed ones out
    (``calm``) only those of quiet times, as what is measured around them would tell.
    """
    truth = np.empty((3, STRATA))
    start = rng.uniform(0, end, FURTHER)
    for alike in _alike(machine):
        quiet = np.ones(FURTHER, dtype=bool)
        if calm:
            around = _around(rng, machine, start, end, alike)
            quiet = around <= np.quantile(around, QUIET_TIMES) + SLOW
        for d, ms in enumerate(DURATIONS):
            for s in alike:
                found = measured(rng, machine, start[quiet], ms, s)
                truth[d, s] = expected_least(found, OF_ROUNDS)
    return truth


def _alike(machine: Machine) -> list[list[int]]:
    """Return the strata that feel a machine's path, and those that do not."""
    felt = [[s for s in range(STRATA) if bool(machine.felt[s]) is so] for so in (True, False)]
    return [some for some in felt if some]


def _around(
    rng: np.random.Generator, machine: Machine, start: np.ndarray, end: float, alike: list[int]
) -> np.ndarray:
    """Return by moment the weighted median of what cells of some strata would read around it."""
    apart = np.array([k for k in range(-3 * WIDTH, 3 * WIDTH + 1) if k])
    each = float(np.mean([max(LEAST_RUNS * ms, REGION_MS) + BESIDE_MS for ms in DURATIONS]))
    moments = np.clip(start[:, None] + apart * each, 0, end)
    over = np.empty(moments.shape)
    kinds = rng.integers(3 * len(alike), size=moments.shape)
    for kind in range(3 * len(alike)):
        own = kinds == kind
        read = measured(rng, machine, moments[own], DURATIONS[kind % 3], alike[kind // 3])
        over[own] = read - np.quantile(read, 1 / (MAX_ROUNDS + 1))
    weight = np.broadcast_to(np.exp(-0.5 * (apart / WIDTH) ** 2), over.shape)
    ranked = np.argsort(over, axis=1)
    sums = np.cumsum(np.take_along_axis(weight, ranked, axis=1), axis=1)
    middle = np.argmax(sums >= sums[:, -1:] / 2, axis=1)[:, None]
    chosen = np.take_along_axis(ranked, middle, axis=1)
    return np.take_along_axis(over, chosen, axis=1)[:, 0]


def _due(rounds: Rounds) -> list[int]:
    """Return the cells that are measured once more, as ``dlas.run.enough`` tells."""
    found = []
    units = np.concatenate([np.full(len(own), cell) for cell, own in rounds.items()])
    logs, order = np.array([each for own in rounds.values() for each in own]).T
    of, nobody = units // 3 % STRATA, np.zeros(len(units), dtype=np.int64)
    calm = quieted(logs, units, order.astype(np.int64), of, [of], nobody)
    good = np.bincount(units, ~calm.told, minlength=CELLS)
    for stratum in range(STRATA):
        own = [cell for cell in range(CELLS) if cell // 3 % STRATA == stratum]
        wide = too_wide([calm.logs[(units == cell) & calm.kept] for cell in own], PRECISION)
        few = [good[cell] < UNDISTURBED for cell in own]
        found += [c for c, *why in zip(own, wide, few, strict=True) if any(why)]
    return found


def table_of(rounds: Rounds) -> Table:
    """Return the table that the analysis would see."""
    frame = pd.DataFrame({
        "cell": [f"c{c}" for c in range(CELLS)], "host": "h", "status": "complete", "reason": "",
        "value": 1.0, "software": [f"s{c // 3 % STRATA}" for c in range(CELLS)],
        "model": [f"m{c % 3}" for c in range(CELLS)],
    })  # fmt: skip
    samples = [
        (c, 0, r, log, at) for c, logs in rounds.items() for r, (log, at) in enumerate(logs)
    ]
    return Table(
        cells=frame, layers=("software", "model"), parameters=(), metric="quiet_ms", least=True,
        samples=pd.DataFrame(samples, columns=["row", "control", "round", "log", "order"]),
        strata=("software",),
    )  # fmt: skip


def asked_of(kind: str, seed: int, number: int) -> dict[str, Any]:
    """Measure one session and return what its intervals hold, how wide they are, and the bias."""
    rng = np.random.default_rng([seed, number, list(KINDS).index(kind)])
    rounds, known, truth = session(rng, kind)
    inner = tested(known.mean, known.var, known)
    cells = np.arange(CELLS)
    true = truth[cells % 3, cells // 3 % STRATA]
    inside = (inner.low <= true) & (true <= inner.high)
    widths, counts = np.unique((inner.high - inner.low) / 2, return_counts=True)
    return {
        "inside": np.bincount(cells // 3 % STRATA, inside, minlength=STRATA).astype(int).tolist(),
        "ratios": _ratios(known, true, rng),
        "means": _means(known, true),
        "half": [widths.tolist(), counts.tolist()],
        "rounds": float(np.mean([len(r) for r in rounds.values()])),
        "level": [float(known.mean[cells % 3 == d].mean()) for d in range(len(DURATIONS))],
    }


def _ratios(known: Estimates, true: np.ndarray, rng: np.random.Generator) -> float:
    """Return how many of the cells' ratios to another lie in their interval."""
    a, b = np.arange(CELLS), rng.permutation(CELLS)
    a, b = a[a != b], b[a != b]
    found = tested(known.mean[a] - known.mean[b], known.gap(a, b), known)
    gap = true[a] - true[b]
    return float(np.mean((found.low <= gap) & (gap <= found.high)))


def _means(known: Estimates, true: np.ndarray) -> float:
    """Return how many means of one stratum over another, cell by cell, lie in their interval."""
    own = [np.flatnonzero(np.arange(CELLS) // 3 % STRATA == s) for s in range(STRATA)]
    inside = []
    for a, b in combinations(own, 2):
        total, apart = (of(a, b).sum(axis=0, keepdims=True) for of in (known.gap, known.apart))
        var = known.averaged(total, np.array([float(len(a))]), apart)
        found = tested(np.array([(known.mean[a] - known.mean[b]).mean()]), var, known)
        gap = (true[a] - true[b]).mean()
        inside.append(found.low[0] <= gap <= found.high[0])
    return float(np.mean(inside))


def summed(found: list[dict[str, Any]]) -> dict[str, float]:
    """Return coverage, widths and bias over the sessions of one kind."""
    inside = np.sum([one["inside"] for one in found], axis=0) / len(found)
    of = np.bincount(np.arange(CELLS) // 3 % STRATA)
    widths, counts = (np.concatenate([one["half"][i] for one in found]) for i in (0, 1))
    level = np.expm1(np.mean([one["level"] for one in found], axis=0))
    return {
        "coverage": float(inside.sum() / CELLS),
        "worst stratum": float((inside / of).min()),
        "ratios": float(np.mean([one["ratios"] for one in found])),
        "means": float(np.mean([one["means"] for one in found])),
        "half width": float(np.median(np.repeat(widths, counts.astype(int)))),
        "rounds": float(np.mean([one["rounds"] for one in found])),
        **{f"bias {ms:g} ms": float(bias) for ms, bias in zip(DURATIONS, level, strict=True)},
    }


def missed(kind: str, row: dict[str, float]) -> bool:
    """Say whether a kind misses a bar."""
    narrow = kind != "none" or row["half width"] <= 0.015
    return not (row["coverage"] >= 0.93 and row["worst stratum"] >= 0.90 and narrow)


def told(rows: dict[str, dict[str, float]], stand: dict[str, str]) -> str:
    """Return a row for each kind of disturbance."""
    names = list(next(iter(rows.values())))
    lines = [f"| disturbance | sessions | {' | '.join(names)} |"]
    lines += ["| --- | --- |" + " --- |" * len(names)]
    for kind, row in rows.items():
        cells = [f"{row[n]:.1f}" if n == "rounds" else f"{100 * row[n]:.1f} %" for n in names]
        lines.append(f"| {kind} | {stand[kind]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Print a row for each kind of disturbance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", type=int, default=2000, help="sessions of each kind")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which, with commas")
    parser.add_argument("--seed", type=int, default=0)
    Slices.arguments(parser)
    asked = parser.parse_args()
    rows, stand = {}, {}
    try:
        slices = Slices.of(asked)
        for kind in asked.kinds.split(","):
            make = partial(asked_of, kind, asked.seed)
            found = slices.fill(f"{kind} {asked.seed}", asked.tables, make, sources(__file__))
            if found:
                some = len(found) < asked.tables
                stand[kind] = f"{len(found)} of {asked.tables}" if some else f"{len(found)}"
                rows[kind] = summed(found)
    except Refused as error:
        parser.error(str(error))
    if rows:
        print(told(rows, stand))
    return LEFT if slices.left else int(any(missed(kind, row) for kind, row in rows.items()))


if __name__ == "__main__":
    sys.exit(main())
