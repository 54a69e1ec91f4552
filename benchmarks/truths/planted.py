"""Truths that are easily told wrong: what is planted, and what the findings say.

Each world plants one thing (a runtime that fails on large networks, a straw man, a curve that
returns) and reads the findings as a person would: by their sentences and by what they are said to
compare. Rounds only ever read too much, as in ``worlds.py``; the analysis knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from slices import Slices

from dlas.analyze import Analysis, Finding, analyze, from_study, load_table
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.parts.flips import flips
from dlas.analyze.parts.interactions import interactions
from truths import grids, worlds
from truths.asking import ratio_of_ratios
from truths.counting import Row, counted, each, rate, rates

ROUNDS = 5
NOISE = 0.01
"""What a round reads too much: the size of a normal error, its sign taken off."""
LARGE = 2
"""The model that one runtime does not run."""
RUNTIME = 2


def read(rng: np.random.Generator, log: np.ndarray, noise: float = NOISE) -> np.ndarray:
    """Return the rounds of some cells."""
    return np.asarray(log[:, None] + noise * np.abs(rng.normal(0, 1, (len(log), ROUNDS))))


def study(
    rng: np.random.Generator, log: np.ndarray, there: np.ndarray, fails: np.ndarray | None = None,
    **options: object,
) -> Analysis:  # fmt: skip
    """Measure a grid as a study does; ``fails`` are cells that were tried and did not run."""
    tried = there if fails is None else there | fails
    cells = grids.cells_of(grids.World(log, tried, np.full(grids.SHAPE, 0.9)))
    ran = there[tried]
    cells = cells.assign(
        quiet_ms=np.where(ran, 1.0, np.nan),
        status=np.where(ran, "complete", "failed"),
        reason=np.where(ran, "", "out of memory"),
    )
    names = cells["cell"][ran].tolist()
    rounds = worlds.rows(names, read(rng, log[tried][ran]))
    return analyze(from_study(cells, rounds, **options))  # type: ignore[arg-type]


def holed(rng: np.random.Generator, share: float = 0.2) -> np.ndarray:
    """Return which cells there are, some missing at random."""
    return np.asarray(rng.random(grids.SHAPE) >= share)


# ---------------------------------------------------------------- a runtime that fails


def fails_on_large(
    rng: np.random.Generator, draws: int, gain: float
) -> Iterator[tuple[str, int, int]]:
    """A runtime that is faster (or slower) wherever both run, and fails on the large network.

    Its cells are all of small networks, so that it looks faster where means are compared.
    """
    log = grids.mains(rng, 0.2)
    log += grids.along(np.array([0.0, 0.0, 1.5]), 0)
    moved = np.moveaxis(log, 3, 0)
    moved[RUNTIME] = (np.minimum if gain > 0 else np.maximum)(moved[0], moved[1]) - gain
    there, name = holed(rng), f"software={grids.CHOICES['software'][RUNTIME]}"
    fails = there.copy()
    fails[:LARGE], fails[:, :, :, [s for s in range(3) if s != RUNTIME]] = False, False
    there &= ~fails
    for _ in range(draws):
        found = study(rng, log, there, fails).findings
        better = [f for f in found if f.choices[:1] == (name,) and f.kind in PRAISE]
        if gain < 0:
            yield "told as the better one", int(any(map(whole, better))), 1
            continue
        bare = [f for f in better if not (f.coverage and f.coverage.failed)]
        yield "told without its coverage", int(bool(bare)), 1
        told = [f for f in better if f.coverage and f.coverage.failed and said_so(f, name)]
        yield "told with its coverage", int(bool(told)), 1


PRAISE = ("speed-up", "dominance")
"""Kinds that say that a choice is better over all contexts."""


def whole(f: Finding) -> bool:
    return f.certainty == "significant" and f.kind in PRAISE


def said_so(f: Finding, name: str) -> bool:
    """Say whether a sentence says of the very choice that it was tried and did not run."""
    who = "it" if f.sentence.startswith(f"{name} ") else name.partition("=")[2]
    return f"({who} was tried and did not run in" in f.sentence


def run_fails(n: int, seed: int, slices: Slices | None) -> Iterator[Row]:
    """Measure what is told of a runtime that fails on the large network."""
    who = "planted: a runtime that fails on large networks, "
    ask = partial(fails_on_large, gain=-0.15)
    found = counted(n, (seed, 20), ask, slices, __file__, step=1)
    yield from rate(found, f"{who}slower where both run, told as better", "none")
    ask = partial(fails_on_large, gain=0.15)
    found = counted(n, (seed, 21), ask, slices, __file__, step=1)
    bars = {"told with its coverage": "at least 90 %"}
    yield from rates(
        found, lambda name: (f"{who}faster where both run, {name}", bars.get(name, "none"))
    )


# ---------------------------------------------------------------- straw men


def straw_first(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """A runtime eight times as slow, the first in the file: is it a baseline, or told first?"""
    log = grids.mixed(rng)
    np.moveaxis(log, 3, 0)[0] += np.log(8.0)
    there, straw = holed(rng), grids.CHOICES["software"][0]
    for _ in range(draws):
        found = study(rng, log, there)
        told = [f for f in found.findings if f.choices and f.kind not in ("best", "price")]
        leads = bool(told) and f"software={straw}" in told[0].choices
        first = [f for f in told if any(c.startswith("software=") for c in f.choices)][:1]
        leads = leads or any(f"software={straw}" in f.choices for f in first)
        yield leads or found.table.reference("software") == straw


# ---------------------------------------------------------------- curves

LEVELS = (1, 2, 4, 8, 16, 32)
APART = 0.022
"""How far two choices are apart where they are: three times what is detected between two cells of
these tables (0.7 % in the median)."""
CURVES = {
    "equal, equal, equal, worse, worse, better": ((0, 0, 0, 1, 1, -1),) * 2,
    "only the mean crosses": ((3, 3, 2, 2, 1, 1), (-1, -1, -2, -2, -3, -3)),
    "crosses and returns": ((1, 1, -1, -1, 1, 1),) * 2,
    "both cross once": ((1, 1, 1, -1, -1, -1),) * 2,
}
"""By context the sign of b over a along the levels, in units of ``APART``."""


def curved(rng: np.random.Generator, curves: tuple[tuple[int, ...], ...]) -> pd.DataFrame:
    """Return the rounds of two choices along the levels in two contexts."""
    frames = []
    for context, curve in zip(("p", "q"), curves, strict=True):
        base = rng.normal(0, 0.3) + rng.normal(0, 0.1, len(LEVELS))
        for choice, more in (("a", np.zeros(len(LEVELS))), ("b", APART * np.array(curve))):
            logs = read(rng, base + more)
            frames.append(pd.DataFrame({
                "context": context, "choice": choice, "level": np.repeat(LEVELS, ROUNDS),
                "round": np.tile(np.arange(ROUNDS), len(LEVELS)), "ms": np.exp(logs).ravel(),
            }))  # fmt: skip
    # Other cells, so that there is a noise to be known.
    return pd.concat(frames, ignore_index=True)


def true_crossings(curve: tuple[int, ...]) -> list[tuple[float, float]]:
    """Return between which levels a curve crosses; levels without a difference are passed over."""
    places = [i for i, sign in enumerate(curve) if sign]
    pairs = [(i, j) for i, j in pairwise(places) if curve[i] * curve[j] < 0]
    return [(LEVELS[i], LEVELS[j]) for i, j in pairs]


def breaks(
    rng: np.random.Generator, draws: int, curves: tuple[tuple[int, ...], ...]
) -> Iterator[tuple[str, int, int]]:
    """Say whether break-evens are told where there are none, and where there are some."""
    true = true_crossings(curves[0])
    for _ in range(draws):
        table = load_table(
            curved(rng, curves), layers="context,choice,level", metric="ms", rounds="round"
        )
        found = [
            f for f in analyze(table).findings
            if f.kind == "break-even" and f.layers == ("level", "choice")
        ]  # fmt: skip
        wrong = [
            f for f in found
            if not any(a <= f.numbers["level"] <= b for a, b in true)
        ]  # fmt: skip
        yield "wrong", int(bool(wrong)), 1
        if true:
            sure = [f for f in found if f.coverage and f.coverage.surely == len(curves)]
            yield "told", int(bool(sure) and not wrong), 1
        if len(true) > 1:
            yield "told to turn back", int(any("turns back" in f.sentence for f in found)), 1


def run_curves(n: int, seed: int, slices: Slices | None) -> Iterator[Row]:
    """Measure what is told of curves."""
    for number, (name, curves) in enumerate(CURVES.items()):
        ask = partial(breaks, curves=curves)
        found = counted(n, (seed, 22, number), ask, slices, __file__, step=1)
        bars, told = {"wrong": SELDOM}, f"break-even: {name}"
        yield from rates(
            found,
            lambda what, bars=bars, told=told: (
                f"{told}, {what}", bars.get(what, "at least 80 %")
            ),
        )  # fmt: skip


# ---------------------------------------------------------------- layers that go together


def aliased(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Runtimes that nearly always come with one algorithm, which does nothing by itself."""
    log = grids.mains(rng, 0.1)
    log = log - grids.along(log.mean(axis=(0, 1, 3, 4)), 2)
    log += grids.along(np.array([0.3, 0.0, 0.0]), 3)
    there = np.ones(grids.SHAPE, dtype=bool)
    there[:, :, 1, 0], there[:, :, 0, 1:] = False, False
    again = rng.choice(np.flatnonzero(~there), 4, replace=False)
    there.flat[again] = True
    named = {"algorithm": "a0", "software": "s0"}
    for _ in range(draws):
        found = study(rng, log, there, baseline=named)
        (told,) = [f for f in found.findings if f.kind == "importance"]
        yield "confounded" in told.sentence and "algorithm" in told.sentence.split("confounded")[0]


def tied(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Two layers whose defaults cost exactly the same: is one said to matter more?"""
    log = grids.mains(rng, 0.0)
    log += grids.along(np.array([0.25, 0.0]), 2) + grids.along(np.array([0.25, 0.0, 0.1]), 3)
    there = np.ones(grids.SHAPE, dtype=bool)
    named = {"algorithm": "a0", "software": "s0"}
    for _ in range(draws):
        found = study(rng, log, there, baseline=named)
        (told,) = [f for f in found.findings if f.kind == "importance"]
        yield "cannot be told apart" in told.sentence


# ---------------------------------------------------------------- hosts


def hosts(rng: np.random.Generator, draws: int, disagree: bool) -> Iterator[bool]:
    """Two machines on which a runtime gains and loses alike, or does the same: is it told?"""
    true = grids.World(grids.mains(rng, 0.2), holed(rng), np.full(grids.SHAPE, 0.9))
    cells = grids.cells_of(true)
    late = cells["software"].eq(grids.CHOICES["software"][1]).to_numpy()
    for _ in range(draws):
        parts, rounds = [], []
        for host, sign in (("one", -1.0), ("two", 1.0)):
            log = true.log[true.there] + 0.2 * (sign if disagree else 1.0) * late + 0.3 * sign
            own = worlds.rows(cells["cell"].tolist(), read(rng, log), f"of {host}")
            rounds.append(own.assign(host=host))
            parts.append(cells.assign(host=host, quiet_ms=1.0))
        table = from_study(
            pd.concat(parts, ignore_index=True), pd.concat(rounds, ignore_index=True)
        )
        yield any(
            f.kind in ("interaction", "flip") and "host" in f.layers and f.certainty != "stated"
            for f in analyze(table).findings
        )


# ---------------------------------------------------------------- repeats


def repeats(rng: np.random.Generator, draws: int, alike: bool) -> Iterator[bool]:
    """Repeats that share their cell's error, or real rounds with as large an error: a warning?"""
    true = grids.world(rng, grids.mixed(rng))
    cells = grids.cells_of(true)
    layers = [x for x in grids.NAMES if cells[x].nunique() > 1]
    for _ in range(draws):
        own = rng.normal(0, 0.03, (int(true.there.sum()), 1 if alike else ROUNDS))
        logs = true.log[true.there][:, None] + own + rng.normal(0, 0.004, (len(own), ROUNDS))
        frame = cells[layers].iloc[np.repeat(np.arange(len(cells)), ROUNDS)]
        frame = frame.assign(round=np.tile(np.arange(ROUNDS), len(cells)), ms=np.exp(logs).ravel())
        found = analyze(load_table(frame, layers=layers, metric="ms", rounds="round"))
        yield any("back to back" in note for note in found.table.notes)


# ---------------------------------------------------------------- flips and interactions


def named_flips(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, int, int]]:
    """Flips of a world full of interactions: does the named layer turn the pair by itself?"""
    log = grids.mains(rng, 0.15)
    for i in range(len(grids.SHAPE)):
        for j in range(i):
            log = log + grids.along(rng.normal(0, 0.1, (grids.SHAPE[i], grids.SHAPE[j])), i, j)
    there = holed(rng, 0.4)
    cells = grids.cells_of(grids.World(log, there, np.full(grids.SHAPE, 0.9)))
    for _ in range(draws):
        rounds = worlds.rows(cells["cell"].tolist(), read(rng, log[there], 0.02))
        table = from_study(cells.assign(quiet_ms=1.0), rounds)
        for r in flips(table, estimate(table)).itertuples():
            if r.alone:
                yield "named alone", int(turned_by(log, there, r)), 1


def turned_by(log: np.ndarray, there: np.ndarray, r: object) -> bool:
    """Say whether in truth contexts equal but for one layer hold both orders of a pair."""
    layer, by = grids.NAMES.index(r.layer), grids.NAMES.index(r.by)  # type: ignore[attr-defined]
    a, b = (grids.index(r.layer, x) for x in (r.a, r.b))  # type: ignore[attr-defined]
    gap = np.take(log, a, layer) - np.take(log, b, layer)
    both = np.take(there, a, layer) & np.take(there, b, layer)
    axis = by - (by > layer)
    one = (both & (gap < 0)).any(axis=axis)
    two = (both & (gap > 0)).any(axis=axis)
    return bool((one & two).any())


def largest(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, int, int]]:
    """The largest interaction of two noisy layers: is its likely size above the true one?"""
    true = grids.World(
        grids.mixed(rng), np.ones(grids.SHAPE, dtype=bool), np.full(grids.SHAPE, 0.9)
    )
    cells = grids.cells_of(true)
    for _ in range(draws):
        # rounds far noisier than usual, and few
        log = true.log[true.there]
        seen = log[:, None] + rng.normal(0, 0.3, (len(log), 3))
        rounds = worlds.rows(cells["cell"].tolist(), seen)
        table = from_study(
            cells.assign(latency_ms=1.0), rounds.rename(columns={"quiet_ms": "latency_ms"})
        )
        found = interactions(table, estimate(table))
        for _, part in found.groupby(["layer", "by"]):
            r = part.iloc[int(np.abs(np.log(part["ratio"])).to_numpy().argmax())]
            sign = 1.0 if r["ratio"] > 1 else -1.0
            size = sign * ratio_of_ratios(true, r)
            yield "as measured", int(sign * np.log(r["ratio"]) > size), 1
            yield "likely", int(sign * np.log(r["likely"]) > size), 1


MOSTLY, SELDOM = "at least 95 %", "at most 5 %"


def run_told(n: int, seed: int, slices: Slices | None) -> Iterator[Row]:
    """Measure what is told, yes or no, of the other worlds."""
    asked = {
        "a straw man first in the file leads": (straw_first, "none"),
        "layers that go together are said to be confounded": (aliased, "at least 90 %"),
        "layers that cost the same are not told apart": (tied, "at least 90 %"),
        "hosts that disagree are said to": (partial(hosts, disagree=True), MOSTLY),
        "hosts that agree are said to disagree": (partial(hosts, disagree=False), SELDOM),
        "repeats given as rounds are warned of": (partial(repeats, alike=True), MOSTLY),
        "real rounds are warned of": (partial(repeats, alike=False), SELDOM),
    }
    for number, (name, (ask, bar)) in enumerate(asked.items()):
        found = counted(n, (seed, 23, number), each(ask), slices, __file__, step=1)
        yield from rate(found, f"planted: {name}", bar)


def run_sizes(n: int, seed: int, slices: Slices | None) -> Iterator[Row]:
    """Measure which layers flips name, and how large the largest interaction is said to be."""
    found = counted(n, (seed, 24), named_flips, slices, __file__, step=1)
    check = "flip: the layer that is named turns the pair by itself"
    yield from rates(found, lambda _: (check, MOSTLY), "flips")
    found = counted(max(1, n // 4), (seed, 25), largest, slices, __file__, step=1)
    bars = {"likely": "at most 60 %"}
    yield from rates(
        found,
        lambda name: (
            f"interaction: the largest of two layers, noisy, {name}, above the true one",
            bars.get(name, "beside it"),
        ),
        "pairs",
    )


def run(n: int, seed: int = 1, slices: Slices | None = None) -> Iterator[Row]:
    """Measure all of it."""
    yield from run_fails(n, seed, slices)
    yield from run_told(n, seed, slices)
    yield from run_curves(n, seed, slices)
    yield from run_sizes(n, seed, slices)
