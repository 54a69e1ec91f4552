"""Does the analysis tell the truth? Synthetic studies whose answers are known.

The generator (first half) shares nothing with ``dlas.analyze``: it knows only the columns of a
study's table. Its rounds have heavy tails (Student's t, 4 degrees of freedom, 3 % standard
deviation), round effects of 2 %, noise that differs by runtime (2.2, 3.0 and 3.6 %), 40 % holes
and a parameter that exists for one technique only. The analysis knows none of this: it pools
variances within runtime and threads and takes t intervals.

    python benchmarks/truth.py [--only PART] [--scale 1.0] [--out docs/truth.md]

It tells how far it is every 20 seconds and keeps its counts in ``out/truth.json`` after every few
tables: the same command goes on where it was stopped, and parts run one after another stand in one
report.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze import analyze, from_study
from dlas.analyze.estimate.estimated import Estimates
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.breakeven import CROSSES, break_evens
from dlas.analyze.parts.curves import AVERAGE
from dlas.analyze.parts.effects import speedups
from dlas.analyze.parts.flips import flips
from dlas.analyze.parts.interactions import interactions
from dlas.analyze.parts.pareto import ON, front
from dlas.analyze.parts.price import price

# ---------------------------------------------------------------- the generator

SPARSITY = (0.5, 0.7, 0.9)
CHOICES = {
    "model": ("m0", "m1", "m2"),
    "optimization": ("none", *(f"thin(sparsity={s})" for s in SPARSITY), "narrow"),
    "algorithm": ("a0", "a1"),
    "software": ("s0", "s1", "s2"),
    "hardware": ("cpu(threads=1)", "cpu(threads=2)", "cpu(threads=4)"),
}
SHAPE = tuple(len(v) for v in CHOICES.values())
NAMES = tuple(CHOICES)
NOISE = (0.022, 0.030, 0.036)
ROUND = 0.02
HOLES = 0.4
ROUNDS = 3
TENTH = float(np.log(1.10))


@dataclass(frozen=True)
class World:
    """A true grid of log latencies, which of its cells exist, and their true accuracy."""

    log: np.ndarray
    there: np.ndarray
    accuracy: np.ndarray


def holes(rng: np.random.Generator) -> np.ndarray:
    """Punch 40 % holes: one runtime lacks an algorithm, the rest at random."""
    there = np.ones(SHAPE, dtype=bool)
    there[:, :, rng.integers(2), rng.integers(3), :] = False
    left = np.flatnonzero(there)
    drop = round(HOLES * there.size) - int((~there).sum())
    there.flat[rng.choice(left, drop, replace=False)] = False
    return there


def along(effect: np.ndarray, *axes: int) -> np.ndarray:
    """Spread an effect of some layers over the whole grid."""
    shape = [1] * len(SHAPE)
    for axis, size in zip(axes, effect.shape, strict=True):
        shape[axis] = size
    return effect.transpose(np.argsort(axes)).reshape(shape)


def mains(rng: np.random.Generator, spread: float = 0.4) -> np.ndarray:
    """Draw main effects for all layers."""
    log = np.zeros(SHAPE)
    for axis, size in enumerate(SHAPE):
        log = log + along(rng.normal(0, spread, size), axis)
    return log


def mixed(rng: np.random.Generator) -> np.ndarray:
    """Draw main effects and interactions of every pair of layers."""
    log = mains(rng)
    for i, j in itertools.combinations(range(len(SHAPE)), 2):
        log = log + along(rng.normal(0, 0.1, (SHAPE[i], SHAPE[j])), i, j)
    return log


def shrinking(rng: np.random.Generator) -> np.ndarray:
    """Let one layer's gaps shrink with another's choice, to almost nothing, never below zero.

    The other layer's own order goes the same way, so that nothing is reversed there either.
    """
    one, other = rng.permutation(len(SHAPE))[:2]
    log = np.zeros(SHAPE)
    for axis, size in enumerate(SHAPE):
        if axis not in (one, other):
            log = log + along(rng.normal(0, 0.4, size), axis)
    gap = rng.permutation(np.concatenate([[0.0], rng.uniform(0.05, 0.6, SHAPE[one] - 1)]))
    order = rng.permutation(SHAPE[other])
    keep = np.sort(rng.uniform(0.0, 1.0, SHAPE[other]))[order]
    keep[np.argmin(keep)] = 0.0
    own = np.sort(rng.uniform(0.0, 0.8, SHAPE[other]))[order]
    return log + along(np.outer(gap, keep), int(one), int(other)) + along(own, int(other))


def whole(log: np.ndarray) -> World:
    """Give a true grid all of its cells."""
    return World(log, np.ones(SHAPE, dtype=bool), np.full(SHAPE, 0.9))


def trapped(rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Let one optimization pay on one runtime alone, by far, and cost anywhere else.

    That runtime costs with every other optimization: whoever moves one of the two layers at a
    time stays away from their best. Returns the grid and the runtime.
    """
    log = mains(rng, 0.1)
    chosen, runtime = int(rng.integers(1, SHAPE[1])), int(rng.integers(SHAPE[3]))
    bump = np.zeros((SHAPE[1], SHAPE[3]))
    bump[chosen] += 0.8
    bump[:, runtime] += 0.8
    bump[chosen, runtime] = -0.8
    return log + along(bump, 1, 3), runtime


def world(rng: np.random.Generator, log: np.ndarray) -> World:
    """Put holes into a true grid and give its cells accuracies."""
    accuracy = np.round(0.9 - 0.05 * rng.random(SHAPE), 4)
    return World(log, holes(rng), accuracy)


def cells_of(true: World) -> pd.DataFrame:
    """Return the cells of a world, as a study writes them, without their latency."""
    place = np.argwhere(true.there)
    n = len(place)
    cells = pd.DataFrame(
        {x: np.array(CHOICES[x], object)[place[:, i]] for i, x in enumerate(NAMES)}
    )
    names = [f"c{i:04d}" for i in range(n)]
    fixed = {"dataset": "d", "host": "h", "status": "complete", "reason": ""}
    cells = cells.assign(cell=names, accuracy=true.accuracy[true.there], **fixed)
    cells["optimization.sparsity"] = np.array([np.nan, *SPARSITY, np.nan])[place[:, 1]]
    cells["hardware.threads"] = np.array([1, 2, 4])[place[:, 4]]
    return cells


def draw(rng: np.random.Generator, true: World) -> np.ndarray:
    """Measure every cell of a world in every round: log latencies by cell and round."""
    log = true.log[true.there][:, None]
    sd = np.array(NOISE)[np.argwhere(true.there)[:, 3]][:, None]
    # Student's t with 4 degrees of freedom has variance 2.
    heavy = rng.standard_t(4, size=(len(log), ROUNDS)) / np.sqrt(2.0)
    common = rng.normal(0, ROUND, ROUNDS)[None, :]
    return np.asarray(log + common + sd * heavy)


def rounds_of(cells: pd.DataFrame, seen: np.ndarray) -> pd.DataFrame:
    """Return measured rounds as a study writes them."""
    n = len(cells)
    return pd.DataFrame(
        {
            "cell": np.repeat(cells["cell"].to_numpy(), ROUNDS),
            "control": 0,
            "round": np.tile(np.arange(ROUNDS), n),
            "host": "h",
            "session": "s",
            "latency_ms": np.exp(seen).ravel(),
        }
    )


# ---------------------------------------------------------------- asking the analysis


def measured(
    rng: np.random.Generator, true: World, draws: int
) -> Iterator[tuple[Table, Estimates]]:
    """Measure a world several times over; every time is one table.

    The first table is loaded as a study is; the others have other rounds in the same cells.
    """
    cells = cells_of(true)
    first = draw(rng, true)
    latency = np.exp(np.median(first, axis=1))
    table = from_study(cells.assign(latency_ms=latency), rounds_of(cells, first))
    yield table, estimate(table)
    assert table.samples is not None
    for _ in range(draws - 1):
        samples = table.samples.assign(log=draw(rng, true).ravel())
        yield table, estimate(replace(table, samples=samples))


def index(layer: str, level: str) -> int:
    return CHOICES[layer].index(level)


# ---------------------------------------------------------------- power


def power_interaction(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """A ratio of ratios of 1.10 between two levels of two layers, in at least four contexts."""
    while True:
        i, j = sorted(rng.choice(len(SHAPE), 2, replace=False))
        a, b = rng.choice(SHAPE[i], 2, replace=False)
        m, n = rng.choice(SHAPE[j], 2, replace=False)
        log = mains(rng)
        bump = np.zeros((SHAPE[i], SHAPE[j]))
        bump[a, m] = TENTH * rng.choice([-1, 1])
        true = world(rng, log + along(bump, i, j))
        if four(true.there, i, j, (a, b), (m, n)) >= 4:
            break
    one, two = NAMES[i], NAMES[j]
    levels = [CHOICES[one][a], CHOICES[one][b]], [CHOICES[two][m], CHOICES[two][n]]
    for table, noise in measured(rng, true, draws):
        found = interactions(table, noise)
        pick = found[
            (found["layer"] == one)
            & (found["by"] == two)
            & found[["a", "b"]].isin(levels[0]).all(axis=1)
            & found[["m", "n"]].isin(levels[1]).all(axis=1)
        ]
        assert len(pick) == 1
        yield bool(pick["q"].iloc[0] < 0.05)


def four(
    there: np.ndarray, i: int, j: int, levels: tuple[int, int], others: tuple[int, int]
) -> int:
    """Count contexts in which all four cells exist."""
    moved = np.moveaxis(there, (i, j), (0, 1))
    return int(np.logical_and.reduce([moved[x, y] for x in levels for y in others]).sum())


def power_flip(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Choice a 10 % better than b at one level of another layer and 10 % worse at another."""
    while True:
        i, j = rng.choice(len(SHAPE), 2, replace=False)
        a, b = rng.choice(SHAPE[i], 2, replace=False)
        m, n = rng.choice(SHAPE[j], 2, replace=False)
        log = mains(rng)
        moved = np.moveaxis(log, (i, j), (0, 1))
        moved[a] = moved[b]
        moved[a, m] = moved[b, m] - TENTH
        moved[a, n] = moved[b, n] + TENTH
        true = world(rng, log)
        sides = np.moveaxis(true.there, (i, j), (0, 1))
        if min(int((sides[a, x] & sides[b, x]).sum()) for x in (m, n)) >= 4:
            break
    layer = NAMES[i]
    pair = {CHOICES[layer][a], CHOICES[layer][b]}
    for table, noise in measured(rng, true, draws):
        found = flips(table, noise)
        here = found[(found["layer"] == layer) & found["by"].str.contains(NAMES[j])]
        yield any({r.a, r.b} == pair for r in here.itertuples())


def crossing(rng: np.random.Generator) -> tuple[World, float]:
    """Let the technique with a sparsity overtake the one without, from +10 % to -10 %."""
    while True:
        true = world(rng, mains(rng))
        moved = np.moveaxis(true.log, 1, 0)
        at = rng.uniform(-0.6, 0.6)
        ends = np.array([TENTH, TENTH * at, -TENTH])
        for k, gap in enumerate(ends):
            moved[1 + k] = moved[0] + gap
        whole = np.moveaxis(true.there, 1, 0)[:4].all(axis=0)
        if int(whole.sum()) >= 4:
            break
    x = np.array(SPARSITY)
    k = 0 if ends[1] < 0 else 1
    level = x[k] + (x[k + 1] - x[k]) * ends[k] / (ends[k] - ends[k + 1])
    return true, float(level)


def overtaken(table: Table, noise: Estimates) -> pd.Series:
    """Return the average break-even of the technique with a sparsity against the one without."""
    found = break_evens(table, noise)
    pick = found[
        (found["factor"] == "optimization.sparsity")
        & (found["layer"] == "optimization")
        & (found["b"] == "none")
        & (found["context"] == AVERAGE)
    ]
    assert len(pick) == 1
    return pick.iloc[0]


def power_break_even(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """A break-even between a 10 % loss and a 10 % gain, over at least four contexts."""
    true, _ = crossing(rng)
    for table, noise in measured(rng, true, draws):
        yield overtaken(table, noise)["verdict"] == CROSSES


def power_front(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Three cells each 10 % faster than every cell that is as accurate."""
    true = world(rng, mains(rng))
    chosen = rng.choice(np.flatnonzero(true.there), 3, replace=False)
    log, accuracy = true.log.copy(), true.accuracy.copy()
    accuracy.flat[chosen] = [0.95, 0.96, 0.97]
    log.flat[chosen] = log[true.there].min() + TENTH * np.array([-3.0, -2.0, -1.0])
    order = np.flatnonzero(true.there.ravel())
    names = [f"c{int(np.searchsorted(order, c)):04d}" for c in chosen]
    for table, noise in measured(rng, World(log, true.there, accuracy), draws):
        found = front(table, noise).set_index("cell")["front"]
        yield bool((found[names] == ON).all())


POWERS = {
    "interaction, ratio of ratios 1.10, four contexts or more": power_interaction,
    "flip, 10 % each way, four contexts or more each": power_flip,
    "break-even between +10 % and -10 %, four contexts or more": power_break_even,
    "three front members, 10 % apart": power_front,
}

# ---------------------------------------------------------------- nulls


def equal(rng: np.random.Generator) -> np.ndarray:
    """Draw a grid whose cells are all the same."""
    return np.zeros(SHAPE)


NULLS = {
    "all equal": equal,
    "main effects only": mains,
    "gaps that shrink and never reverse": shrinking,
}


def reports_flip(rng: np.random.Generator, draws: int, kind: str) -> Iterator[bool]:
    """Say whether tables without any flip are said to have one."""
    for table, noise in measured(rng, world(rng, NULLS[kind](rng)), draws):
        yield len(flips(table, noise)) > 0


def reports_anything(rng: np.random.Generator) -> bool:
    """Say whether a table of equal cells yields any significant finding.

    That more threads do not keep what they promise is true of these tables: it is not counted.
    """
    ((table, _),) = measured(rng, world(rng, np.zeros(SHAPE)), 1)
    found = analyze(table).findings
    return any(f.certainty == "significant" and f.kind != "expectation" for f in found)


# ---------------------------------------------------------------- coverage


def covered(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield by kind of interval whether it holds the truth, table by table."""
    true = world(rng, mixed(rng))
    log = dict(zip(cells_of(true)["cell"], true.log[true.there], strict=True))
    pairs = None
    for table, noise in measured(rng, true, draws):
        one, contexts = speedups(table, noise)
        each = contexts["baseline_cell"].map(log) - contexts["cell"].map(log)
        yield "paired speed-up in one context", inside(each, contexts)
        grouped = each.groupby([contexts["factor"], contexts["level"]], sort=False)
        frame = one.set_index(["factor", "level"])
        mean, middle = grouped.mean()[frame.index], grouped.median()[frame.index]
        yield "main effect (geometric mean of paired speed-ups)", inside(mean, frame)
        ends = frame[["median_low", "median_high"]].set_axis(["low", "high"], axis=1)
        yield "median of paired speed-ups", inside(middle, ends)
        found = interactions(table, noise)
        if pairs is None:
            pairs = pd.Series([ratio_of_ratios(true, r) for r in found.itertuples()])
        yield "pair effect (ratio of ratios)", inside(pairs, found)


def inside(true_log: pd.Series, ends: pd.DataFrame) -> np.ndarray:
    value = np.exp(true_log.to_numpy(dtype=float))
    return (ends["low"].to_numpy() <= value) & (value <= ends["high"].to_numpy())


def ratio_of_ratios(true: World, r: object) -> float:
    """Return the true log ratio of ratios over the contexts that hold all four cells."""
    layer, by = NAMES.index(r.layer), NAMES.index(r.by)
    log = np.moveaxis(true.log, (layer, by), (0, 1))
    there = np.moveaxis(true.there, (layer, by), (0, 1))
    a, b = index(r.layer, r.a), index(r.layer, r.b)
    m, n = index(r.by, r.m), index(r.by, r.n)
    whole = there[a, m] & there[a, n] & there[b, m] & there[b, n]
    gap = (log[a, m] - log[b, m]) - (log[a, n] - log[b, n])
    return float(gap[whole].mean())


def covered_break_even(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Say whether the intervals of a true break-even hold it."""
    true, level = crossing(rng)
    for table, noise in measured(rng, true, draws):
        found = overtaken(table, noise)
        yield bool(found["low"] <= level <= found["high"])


# ---------------------------------------------------------------- the price


def additive_price(rng: np.random.Generator, draws: int, spread: float) -> Iterator[bool]:
    """Say whether tuning layer by layer is said to cost where no layer minds another.

    By the number that is told first: by model, the median over starts.
    """
    for table, noise in measured(rng, whole(mains(rng, spread)), draws):
        found, _ = price(table, noise)
        yield bool((found["low"] > 1).any())


def trapped_price(rng: np.random.Generator, draws: int) -> Iterator[bool]:
    """Say whether a trap is told from every start outside it, with the layers to blame."""
    log, runtime = trapped(rng)
    for table, noise in measured(rng, whole(log), draws):
        _, found = price(table, noise)
        caught = found[found["start"] != CHOICES["software"][runtime]]
        yield bool(
            len(caught)
            and (caught["low"] > 1).all()
            and caught["blame"].str.contains("optimization and software", regex=False).all()
        )


PRICES = {"layers of all sizes": 0.4, "layers that matter little": 0.1, "all equal": 0.0}


def run_prices(
    n: int, seed: int = 1, progress: Progress | None = None
) -> Iterator[dict[str, object]]:
    """Measure how often a price is told where there is none, and where there is one."""
    for k, (name, spread) in enumerate(PRICES.items()):
        ask = each(name, partial(additive_price, spread=spread))
        ((hits, _),) = counted(n, (seed, 16, k), ask, progress).values()
        yield rate(
            f"price: {name}, additive, interval above 1", hits, n, "at most 5 %", hits <= 0.05 * n
        )
    name = "price: a trap of two layers, told and blamed"
    ((hits, _),) = counted(n, (seed, 17), each(name, trapped_price), progress).values()
    yield rate(name, hits, n, "at least 95 %", hits >= 0.95 * n)


# ---------------------------------------------------------------- the whole


def rate(name: str, hits: int, n: int, bar: str, ok: bool) -> dict[str, object]:
    """Return a row; so few tables that a single one would miss the bar do not show it."""
    most = re.match(r"at most (\d+) %", bar)
    few = most is not None and n * int(most[1]) < 100
    return {
        "check": name, "tables": n, "measured": f"{100 * hits / n:.1f} %", "bar": bar,
        "reached": "NO" if not ok else "too few" if few else "yes",
    }  # fmt: skip


DRAWS = 5
"""Tables measured of one world: the truth and its holes are shared, the noise is not."""


Counts = dict[str, list[int]]
"""By check: how often it held, of how many times."""


def _sources() -> str:
    """Hash the files that make the tables, and those that read them."""
    import dlas.analyze

    here, analysis = Path(__file__).parent, Path(dlas.analyze.__file__).parent
    made = [here / name for name in ("truth.py", "worlds.py", "planted.py")]
    found = hashlib.sha256()
    core = analysis.parent / "core"
    for path in [*made, *sorted(analysis.rglob("*.py")), *sorted(core.rglob("*.py"))]:
        found.update(path.read_bytes())
    return found.hexdigest()


class Progress:
    """Counts kept in a file after every world, so that the whole can be taken up again."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.start = time.monotonic()
        known = json.loads(path.read_text()) if path and path.is_file() else {}
        fits = known.get("generator") == self.generator
        self.seconds: float = known.get("seconds", 0.0) if fits else 0.0
        self.parts: dict[str, dict[str, Any]] = known.get("parts", {}) if fits else {}
        self.rows: dict[str, dict[str, Any]] = known.get("rows", {}) if fits else {}
        """What was measured by check, with the part that it is of and when and how."""
        self.told = 0.0

    generator = _sources()
    """Counts of another version of these files, or of the analysis, are not taken up."""

    def part(self, key: str) -> dict[str, Any]:
        return self.parts.setdefault(key, {"next": 0, "counts": {}})

    def spent(self) -> float:
        return self.seconds + time.monotonic() - self.start

    def save(self, name: str, done: int, n: int) -> None:
        if self.path is None:
            return
        kept = {
            "generator": self.generator, "seconds": self.spent(), "parts": self.parts,
            "rows": self.rows,
        }  # fmt: skip
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(kept))
        part.replace(self.path)
        if time.monotonic() - self.told > 20:
            self.told = time.monotonic()
            print(f"  {name}: {done} of {n} tables, {self.spent():.0f} s in all", flush=True)


Ask = Callable[[np.random.Generator, int], Iterator[tuple[str, int, int]]]


def counted(
    n: int, seed: tuple[int, ...], ask: Ask, progress: Progress | None, step: int = DRAWS
) -> Counts:
    """Count over n tables, a world of ``step`` tables at a time, each world of its own seed."""
    progress = progress or Progress()
    part = progress.part(f"{seed} {n}")
    for i in range(part["next"], n, step):
        for name, held, of in ask(np.random.default_rng([*seed, i]), min(step, n - i)):
            seen = part["counts"].setdefault(name, [0, 0])
            seen[0] += held
            seen[1] += of
        part["next"] = i + step
        progress.save(str(seed), min(i + step, n), n)
    return part["counts"]


def each(name: str, ask: Callable[[np.random.Generator, int], Iterator[bool]]) -> Ask:
    """Return what counts yes and no, table by table."""

    def asked(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, int, int]]:
        yield from ((name, int(yes), 1) for yes in ask(rng, draws))

    return asked


def run_power(
    n: int, seed: int = 1, progress: Progress | None = None
) -> Iterator[dict[str, object]]:
    """Measure the share of tables in which what was planted is found."""
    for k, (name, ask) in enumerate(POWERS.items()):
        ((hits, _),) = counted(n, (seed, 1, k), each(name, ask), progress).values()
        yield rate(f"power: {name}", hits, n, "at least 95 %", hits >= 0.95 * n)


def run_nulls(
    n: int, seed: int = 1, progress: Progress | None = None
) -> Iterator[dict[str, object]]:
    """Measure the share of tables without a flip that are said to have one."""
    for k, name in enumerate(NULLS):
        ask = each(name, partial(reports_flip, kind=name))
        ((hits, _),) = counted(n, (seed, 2, k), ask, progress).values()
        yield rate(f"null: {name}, any flip", hits, n, "at most 7 %", hits <= 0.07 * n)


def run_findings(
    n: int, seed: int = 1, progress: Progress | None = None
) -> Iterator[dict[str, object]]:
    """Measure the share of tables of equal cells with any significant finding."""
    name = "null: all equal, any significant finding"
    ask = each(name, lambda rng, _draws: iter([reports_anything(rng)]))
    ((hits, _),) = counted(n, (seed, 3), ask, progress, step=1).values()
    yield rate(name, hits, n, "at most 7 %", hits <= 0.07 * n)


def run_coverage(
    n: int, seed: int = 1, progress: Progress | None = None
) -> Iterator[dict[str, object]]:
    """Measure how often 95 % intervals hold the truth, over all intervals of all tables."""

    def ask(rng: np.random.Generator, draws: int) -> Iterator[tuple[str, int, int]]:
        yield from ((name, int(held.sum()), len(held)) for name, held in covered(rng, draws))

    for name, (good, all_) in counted(n, (seed, 4), ask, progress).items():
        row = rate(f"coverage: {name}", good, all_, "at least 93 %", good >= 0.93 * all_)
        yield row | {"tables": f"{n} ({all_} intervals)"}
    name = "coverage: break-even"
    ((good, _),) = counted(n, (seed, 5), each(name, covered_break_even), progress).values()
    yield rate(name, good, n, "at least 93 %", good >= 0.93 * n)


def report(progress: Progress) -> str:
    """Return all rates measured so far as the document's text."""
    rows = list(progress.rows.values())
    lines = [
        "# Truth tests of the analysis",
        "",
        "What `benchmarks/truth.py` printed. The generator is described at the top of that file,",
        "the worlds in which an analysis is easily wrong in `benchmarks/worlds.py`, what is",
        f"planted and easily told wrong in `benchmarks/planted.py`; up to {DRAWS} tables share a",
        "truth and its holes, not their noise. `docs/analysis.md` says what intervals and tests",
        "are. The interval of a median of paired speed-ups is made of the contexts' own intervals",
        "and covers more than 95 %.",
        "",
        "| check | tables | measured | bar | reached |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r['check']} | {r['tables']} | {r['measured']} | {r['bar']} | {r['reached']} |"
        for r in rows
    ]
    lines += ["", "| part | command | machine | day |", "| --- | --- | --- | --- |"]
    told = dict.fromkeys(tuple(r[c] for c in ("part", "command", "machine", "day")) for r in rows)
    lines += [f"| {part} | `{how}` | {machine} | {day} |" for part, how, machine, day in told]
    return "\n".join([*lines, "", f"Took {progress.spent():.0f} s in all.", ""])


def machine() -> str:
    """Return this machine in words."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} processors"


def run_worlds(
    n: int, seed: int = 1, progress: Progress | None = None
) -> Iterator[dict[str, object]]:
    """Measure the worlds of ``worlds.py``."""
    import worlds

    yield from worlds.run(n, seed, progress)


def run_planted(
    n: int, seed: int = 1, progress: Progress | None = None
) -> Iterator[dict[str, object]]:
    """Measure what is told of the worlds of ``planted.py``."""
    import planted

    yield from planted.run(n, seed, progress)


RUNS: dict[str, tuple[Callable[..., Iterator[dict[str, object]]], int]] = {
    "nulls": (run_nulls, 1000),
    "power": (run_power, 500),
    "coverage": (run_coverage, 2000),
    "findings": (run_findings, 200),
    "worlds": (run_worlds, 400),
    "planted": (run_planted, 200),
    "prices": (run_prices, 500),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the tables to run")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    parser.add_argument("--only", choices=list(RUNS))
    parser.add_argument(
        "--state", type=Path, default=Path("out/truth.json"),
        help="what is counted so far; the same command goes on from there",
    )  # fmt: skip
    asked = parser.parse_args()
    asked.state.parent.mkdir(parents=True, exist_ok=True)
    progress, rows = Progress(asked.state), []
    for name, (ask, n) in RUNS.items():
        if asked.only not in (None, name):
            continue
        how = f"python benchmarks/truth.py --only {name} --scale {asked.scale:g}"
        around = {
            "part": name,
            "command": how,
            "machine": machine(),
            "day": f"{datetime.now(UTC).date()}",
        }
        # a part's rows are all told again, so that none of an earlier scale is left among them
        progress.rows = {k: r for k, r in progress.rows.items() if r["part"] != name}
        for row in ask(max(1, int(n * asked.scale)), progress=progress):
            rows.append(row)
            progress.rows[str(row["check"])] = row | around
            progress.save(name, 1, 1)
            print(*row.values(), f"{progress.spent():.0f} s", sep=" | ", flush=True)
    text = report(progress)
    print(text)
    if asked.out:
        asked.out.write_text(text)
    return 0 if all(r["reached"] == "yes" for r in rows) else 1


if __name__ == "__main__":
    sys.modules["truth"] = sys.modules["__main__"]  # worlds.py is about these very classes
    sys.exit(main())
