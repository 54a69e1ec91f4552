"""Does the analysis tell the truth? Synthetic studies whose answers are known.

The generator (first half) shares nothing with ``dlas.analyze``: it knows only the columns of a
study's table. Its rounds have heavy tails (Student's t, 4 degrees of freedom, 3 % standard
deviation), round effects of 2 %, noise that differs by runtime (2.2, 3.0 and 3.6 %), 40 % holes
and a parameter that exists for one technique only. The analysis knows none of this: it pools
variances within runtime and threads and takes t intervals.

    python benchmarks/truth.py [--scale 1.0] [--out docs/truth.md]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dlas.analyze import analyze, from_study
from dlas.analyze.breakeven import AVERAGE, CROSSES, break_evens
from dlas.analyze.effects import speedups
from dlas.analyze.flips import flips
from dlas.analyze.interactions import interactions
from dlas.analyze.noise import estimate
from dlas.analyze.pareto import ON, front
from dlas.analyze.table import Table

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


def world(rng: np.random.Generator, log: np.ndarray) -> World:
    """Put holes into a true grid and give its cells accuracies."""
    accuracy = np.round(0.9 - 0.05 * rng.random(SHAPE), 4)
    return World(log, holes(rng), accuracy)


def tables(rng: np.random.Generator, true: World) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure a world: the cells and the rounds, as a study writes them."""
    place = np.argwhere(true.there)
    n = len(place)
    cells = pd.DataFrame(
        {x: np.array(CHOICES[x], object)[place[:, i]] for i, x in enumerate(NAMES)}
    )
    sparsity = np.array([np.nan, *SPARSITY, np.nan])[place[:, 1]]
    cells = cells.assign(
        dataset="d", cell=[f"c{i:04d}" for i in range(n)], host="h", status="complete", reason="",
        accuracy=true.accuracy[true.there],
    )  # fmt: skip
    cells["optimization.sparsity"] = sparsity
    cells["hardware.threads"] = np.array([1, 2, 4])[place[:, 4]]
    sd = np.array(NOISE)[place[:, 3]][:, None]
    heavy = rng.standard_t(4, size=(n, ROUNDS)) / np.sqrt(2.0)
    common = rng.normal(0, ROUND, ROUNDS)[None, :]
    seen = np.exp(true.log[true.there][:, None] + common + sd * heavy)
    rounds = pd.DataFrame(
        {
            "cell": np.repeat(cells["cell"].to_numpy(), ROUNDS), "control": 0,
            "round": np.tile(np.arange(ROUNDS), n), "host": "h", "session": "s",
            "latency_ms": seen.ravel(),
        }
    )  # fmt: skip
    return cells.assign(latency_ms=np.median(seen, axis=1)), rounds


# ---------------------------------------------------------------- asking the analysis


def measured(rng: np.random.Generator, true: World) -> Table:
    """Measure a world and load it as a study."""
    cells, rounds = tables(rng, true)
    return from_study(cells, rounds)


def index(layer: str, level: str) -> int:
    return CHOICES[layer].index(level)


# ---------------------------------------------------------------- power


def power_interaction(rng: np.random.Generator) -> bool:
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
    table = measured(rng, true)
    found = interactions(table, estimate(table))
    one, two = NAMES[i], NAMES[j]
    pick = found[
        (found["layer"] == one) & (found["by"] == two)
        & found["a"].isin([CHOICES[one][a], CHOICES[one][b]])
        & found["b"].isin([CHOICES[one][a], CHOICES[one][b]])
        & found["m"].isin([CHOICES[two][m], CHOICES[two][n]])
        & found["n"].isin([CHOICES[two][m], CHOICES[two][n]])
    ]  # fmt: skip
    return bool((pick["q"] < 0.05).all()) and len(pick) == 1


def four(
    there: np.ndarray, i: int, j: int, levels: tuple[int, int], others: tuple[int, int]
) -> int:
    """Count contexts in which all four cells exist."""
    moved = np.moveaxis(there, (i, j), (0, 1))
    return int(np.logical_and.reduce([moved[x, y] for x in levels for y in others]).sum())


def power_flip(rng: np.random.Generator) -> bool:
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
    table = measured(rng, true)
    found = flips(table, estimate(table))
    layer = NAMES[i]
    pair = {CHOICES[layer][a], CHOICES[layer][b]}
    here = found[(found["layer"] == layer) & found["by"].str.contains(NAMES[j])]
    return any({r.a, r.b} == pair for r in here.itertuples())


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


def overtaken(table: Table) -> pd.DataFrame:
    """Return the average break-even of the technique with a sparsity against the one without."""
    found = break_evens(table, estimate(table))
    return found[
        (found["factor"] == "optimization.sparsity")
        & (found["layer"] == "optimization") & (found["b"] == "none")
        & (found["context"] == AVERAGE)
    ]  # fmt: skip


def power_break_even(rng: np.random.Generator) -> bool:
    """A break-even between a 10 % loss and a 10 % gain, over at least four contexts."""
    true, _ = crossing(rng)
    found = overtaken(measured(rng, true))
    return len(found) == 1 and found["verdict"].iloc[0] == CROSSES


def power_front(rng: np.random.Generator) -> bool:
    """Three cells each 10 % faster than every cell that is as accurate."""
    true = world(rng, mains(rng))
    chosen = rng.choice(np.flatnonzero(true.there), 3, replace=False)
    log, accuracy = true.log.copy(), true.accuracy.copy()
    accuracy.flat[chosen] = [0.95, 0.96, 0.97]
    floor = log[true.there].min() - TENTH
    log.flat[chosen] = floor + TENTH * np.array([0.0, 1.0, 2.0]) - 2 * TENTH
    cells, rounds = tables(rng, World(log, true.there, accuracy))
    table = from_study(cells, rounds)
    found = front(table, estimate(table)).set_index("cell")["front"]
    order = np.flatnonzero(true.there.ravel())
    names = [f"c{int(np.searchsorted(order, c)):04d}" for c in chosen]
    return bool((found[names] == ON).all())


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


def reports_flip(rng: np.random.Generator, kind: str) -> bool:
    """Say whether a table without any flip is said to have one."""
    table = measured(rng, world(rng, NULLS[kind](rng)))
    return len(flips(table, estimate(table))) > 0


def reports_anything(rng: np.random.Generator) -> bool:
    """Say whether a table of equal cells yields any significant finding.

    That more threads do not keep what they promise is true of these tables: it is not counted.
    """
    found = analyze(measured(rng, world(rng, np.zeros(SHAPE)))).findings
    return any(f.certainty == "significant" and f.kind != "expectation" for f in found)


# ---------------------------------------------------------------- coverage


def truth_of(cells: pd.DataFrame, true: World) -> dict[str, float]:
    return dict(zip(cells["cell"], true.log[true.there], strict=True))


def covered(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Yield by kind of interval whether it holds the truth, for one table."""
    true = world(rng, mixed(rng))
    cells, rounds = tables(rng, true)
    table = from_study(cells, rounds)
    noise = estimate(table)
    log = truth_of(cells, true)
    one, contexts = speedups(table, noise)
    each = contexts["baseline_cell"].map(log) - contexts["cell"].map(log)
    yield "paired speed-up in one context", inside(each, contexts)
    keys = [contexts["factor"], contexts["level"]]
    mean = each.groupby(keys, sort=False).mean()
    middle = each.groupby(keys, sort=False).median()
    frame = one.set_index(["factor", "level"])
    yield "main effect (geometric mean of paired speed-ups)", inside(mean[frame.index], frame)
    ends = frame[["median_low", "median_high"]].set_axis(["low", "high"], axis=1)
    yield "median of paired speed-ups", inside(middle[frame.index], ends)
    found = interactions(table, noise)
    yield (
        "pair effect (ratio of ratios)",
        inside(pd.Series([ratio_of_ratios(true, r) for r in found.itertuples()]), found),
    )


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


def covered_break_even(rng: np.random.Generator) -> bool:
    """Say whether the interval of a true break-even holds it."""
    true, level = crossing(rng)
    found = overtaken(measured(rng, true)).iloc[0]
    return bool(found["low"] <= level <= found["high"])


# ---------------------------------------------------------------- the whole


def rate(name: str, hits: int, n: int, bar: str, ok: bool) -> dict[str, object]:
    return {
        "check": name, "tables": n, "measured": f"{100 * hits / n:.1f} %", "bar": bar,
        "reached": "yes" if ok else "NO",
    }  # fmt: skip


def run_power(n: int, seed: int = 1) -> list[dict[str, object]]:
    """Measure the share of tables in which what was planted is found."""
    out = []
    for k, (name, ask) in enumerate(POWERS.items()):
        hits = sum(ask(np.random.default_rng([seed, 1, k, i])) for i in range(n))
        out.append(rate(f"power: {name}", hits, n, "at least 95 %", hits >= 0.95 * n))
    return out


def run_nulls(n: int, seed: int = 1) -> list[dict[str, object]]:
    """Measure the share of tables without a flip that are said to have one."""
    out = []
    for k, name in enumerate(NULLS):
        hits = sum(reports_flip(np.random.default_rng([seed, 2, k, i]), name) for i in range(n))
        out.append(rate(f"null: {name}, any flip", hits, n, "at most 7 %", hits <= 0.07 * n))
    return out


def run_findings(n: int, seed: int = 1) -> list[dict[str, object]]:
    """Measure the share of tables of equal cells with any significant finding."""
    hits = sum(reports_anything(np.random.default_rng([seed, 3, i])) for i in range(n))
    return [
        rate("null: all equal, any significant finding", hits, n, "at most 7 %", hits <= 0.07 * n)
    ]


def run_coverage(n: int, seed: int = 1) -> list[dict[str, object]]:
    """Measure how often 95 % intervals hold the truth, over all intervals of all tables."""
    hits: dict[str, list[int]] = {}
    for i in range(n):
        for name, held in covered(np.random.default_rng([seed, 4, i])):
            seen = hits.setdefault(name, [0, 0])
            seen[0] += int(held.sum())
            seen[1] += len(held)
    out = []
    for name, (good, all_) in hits.items():
        row = rate(f"coverage: {name}", good, all_, "at least 93 %", good >= 0.93 * all_)
        out.append(row | {"tables": f"{n} ({all_} intervals)"})
    good = sum(covered_break_even(np.random.default_rng([seed, 5, i])) for i in range(n))
    out.append(rate("coverage: break-even", good, n, "at least 93 %", good >= 0.93 * n))
    return out


def report(rows: list[dict[str, object]], seconds: float) -> str:
    """Return the rates as the document's text."""
    lines = [
        "# Truth tests of the analysis", "",
        "What `python benchmarks/truth.py` printed. The generator is described at the top of",
        "that file; `docs/analysis.md` says what the intervals and tests are.", "",
        "| check | tables | measured | bar | reached |", "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    lines += [
        f"| {r['check']} | {r['tables']} | {r['measured']} | {r['bar']} | {r['reached']} |"
        for r in rows
    ]
    return "\n".join([*lines, "", f"Took {seconds:.0f} s.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the tables to run")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    parser.add_argument("--only", choices=["power", "nulls", "findings", "coverage"])
    asked = parser.parse_args()
    runs = {
        "power": (run_power, 500), "nulls": (run_nulls, 1000), "findings": (run_findings, 200),
        "coverage": (run_coverage, 2000),
    }  # fmt: skip
    start, rows = time.monotonic(), []
    for name, (ask, n) in runs.items():
        if asked.only in (None, name):
            part = ask(max(1, int(n * asked.scale)))
            rows += part
            for row in part:
                print(row, f"{time.monotonic() - start:.0f} s", flush=True)
    text = report(rows, time.monotonic() - start)
    print(text)
    if asked.out:
        asked.out.write_text(text)
    return 0 if all(r["reached"] == "yes" for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
