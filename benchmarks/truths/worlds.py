"""Worlds in which an analysis is easily wrong: undisturbed latency of a study.

Unlike the other worlds, rounds only ever read too much (a neighbour takes time, none gives any),
by amounts that differ by model, by session, and in whole rounds now and then. The analysis knows
none of it. Here, too, nothing of ``dlas.analyze`` makes the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from slices import Slices

from dlas.analyze import Analysis, Finding, analyze, from_study
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.effects import speedups
from dlas.analyze.parts.expected import OVER, UNDER
from truths import grids
from truths.asking import inside
from truths.counting import Counted, Row, counted, each, rate, rates

ROUNDS = 5
BURST = 0.25
"""How much a disturbed round reads too much, at most."""


@dataclass(frozen=True)
class Kind:
    """How rounds are disturbed."""

    by_model: tuple[float, ...] = (0.01, 0.01, 0.01)
    """Standard deviation of what a round reads too much, by model."""
    bad_rounds: float = 0.0
    """Share of whole rounds that are bad for every cell."""
    outliers: float = 0.0
    """Share of single rounds of single cells that are bad."""
    bursts: float = 0.0
    """Share of rounds in which a tenth of the cells, measured one after another, is bad."""


KINDS = {
    "noise by model, one eight times as noisy": Kind(by_model=(0.005, 0.005, 0.04)),
    "outlier rounds": Kind(outliers=0.1),
    "bad rounds": Kind(bad_rounds=0.2),
    "bursts": Kind(bursts=0.4),
}


def table_of(rng: np.random.Generator, true: grids.World, kind: Kind) -> Table:
    """Measure a world as a study does, in one session."""
    cells = grids.cells_of(true)
    log = true.log[true.there]
    model = np.argwhere(true.there)[:, 0]
    sd = np.array(kind.by_model)[model][:, None]
    more = np.abs(rng.normal(0, 1, (len(log), ROUNDS))) * sd
    more += (rng.random((len(log), ROUNDS)) < kind.outliers) * rng.uniform(
        0, BURST, (len(log), ROUNDS)
    )
    for k in np.flatnonzero(rng.random(ROUNDS) < kind.bursts):
        # Cells are measured in a new order every round; a neighbour is busy for a while.
        order, length = rng.permutation(len(log)), max(1, len(log) // 10)
        start = rng.integers(len(log) - length + 1)
        more[order[start : start + length], k] += rng.uniform(0.05, 2 * BURST)
    bad = rng.random(ROUNDS) < kind.bad_rounds
    more += bad * rng.uniform(0, BURST, (1, ROUNDS))
    return from_study(
        cells.assign(quiet_ms=1.0), rows(cells["cell"].tolist(), log[:, None] + more)
    )


def rows(names: list[str], logs: np.ndarray, session: str = "one") -> pd.DataFrame:
    """Return rounds as a study writes them."""
    count = logs.shape[1]
    return pd.DataFrame({
        "cell": np.repeat(names, count), "control": 0,
        "round": np.tile(np.arange(count), len(names)),
        "host": "h", "session": session, "quiet_ms": np.exp(logs).ravel(),
    })  # fmt: skip


def covered(rng: np.random.Generator, draws: int, kind: Kind) -> Iterator[tuple[str, int, int]]:
    """Say by level of every layer whether paired speed-ups in one context are held."""
    true = grids.world(rng, grids.mixed(rng))
    log = dict(zip(grids.cells_of(true)["cell"], true.log[true.there], strict=True))
    for _ in range(draws):
        table = table_of(rng, true, kind)
        _, contexts = speedups(table, estimate(table))
        each = contexts["baseline_cell"].map(log) - contexts["cell"].map(log)
        held = inside(each, contexts)
        for layer in grids.NAMES:
            level_of = table.cells.set_index("cell")[layer]
            places = contexts["cell"].map(level_of).to_numpy()
            for level in grids.CHOICES[layer]:
                own = held[places == level]
                yield f"{layer}={level}", int(own.sum()), len(own)


def run_levels(n: int, seed: int, slices: Slices | None) -> Iterator[Row]:
    """Measure coverage for the worst of all levels of all layers."""
    for number, (name, kind) in enumerate(KINDS.items()):
        found = counted(n, (seed, 6, number), partial(covered, kind=kind), slices, __file__)
        if found.counts:
            level = min(
                found.counts, key=lambda x: found.counts[x][0] / max(found.counts[x][1], 1)
            )
            worst = Counted({level: found.counts[level]}, found.tables, found.wanted)
            told = f"coverage: {name}, worst of all levels ({level})"
            yield from rates(worst, lambda _, told=told: (told, "at least 93 %"), "intervals")


# ---------------------------------------------------------------- sessions

SHIFT, OWN = 0.08, 0.027
"""How much slower the later session is, and by how much each cell differs between sessions."""


def later(rng: np.random.Generator, true: grids.World, anchors: int) -> Table:
    """Measure the last runtime in a later session, with so many anchors."""
    cells = grids.cells_of(true)
    late = cells["software"].eq(grids.CHOICES["software"][-1]).to_numpy()
    log = true.log[true.there]
    names = cells["cell"].to_numpy()

    def session(chosen: np.ndarray, name: str, shift: float) -> pd.DataFrame:
        own = rng.normal(0, OWN / np.sqrt(2), len(chosen))[:, None]
        more = np.abs(rng.normal(0, 0.01, (len(chosen), ROUNDS)))
        return rows(names[chosen].tolist(), log[chosen][:, None] + shift + own + more, name)

    again = rng.choice(np.flatnonzero(~late), anchors, replace=False)
    parts = [
        session(np.flatnonzero(~late), "one", 0.0),
        session(np.concatenate([np.flatnonzero(late), again]), "two", SHIFT),
    ]
    rounds = pd.concat(parts, ignore_index=True)
    first = {"software": grids.CHOICES["software"][0]}
    return from_study(cells.assign(quiet_ms=1.0), rounds, baseline=first)


def across(rng: np.random.Generator, draws: int, anchors: int) -> Iterator[tuple[str, int, int]]:
    """Say whether the speed-up of the runtime of the later session is held."""
    true = grids.world(rng, grids.mixed(rng))
    log = dict(zip(grids.cells_of(true)["cell"], true.log[true.there], strict=True))
    level = grids.CHOICES["software"][-1]
    for _ in range(draws):
        table = later(rng, true, anchors)
        one, contexts = speedups(table, estimate(table))
        mine = one[(one["layer"] == "software") & (one["level"] == level)]
        if not anchors:
            yield "claims", len(mine), 1
            continue
        each = contexts["baseline_cell"].map(log) - contexts["cell"].map(log)
        own = (contexts["factor"] == "software") & (contexts["level"] == level)
        held = inside(each[own].groupby(level=0).mean(), contexts[own])
        yield "in one context", int(held.sum()), len(held)
        mean = pd.Series([each[own].mean()])
        yield "main effect", int(inside(mean, mine).sum()), 1


def run_sessions(n: int, seed: int, slices: Slices | None) -> Iterator[Row]:
    """Measure coverage across sessions with anchors, and claims without."""
    for anchors, number in ((18, 7), (4, 10), (2, 11)):
        found = counted(n, (seed, number), partial(across, anchors=anchors), slices, __file__)
        told = f"coverage: runtime of a later session, {anchors} anchors, "
        yield from rates(
            found, lambda name, told=told: (told + name, "at least 93 %"), "intervals"
        )
    found = counted(n, (seed, 8), partial(across, anchors=0), slices, __file__)
    yield from rate(found, "claims across sessions without anchors", "none")


# ---------------------------------------------------------------- nothing to be found


def false(rng: np.random.Generator, draws: int, additive: bool, kind: Kind) -> Iterator[bool]:
    """Say whether a claim of any kind is not true, or the layer that matters most.

    Where all cells are equal tuning layer by layer costs nothing, either; what it costs in tables
    with holes that are additive is not known here (``prices`` has them whole).

    How noisy a model is belongs to its undisturbed latency, too: where models differ in that, what
    names them is not counted.
    """
    log = grids.mains(rng) if additive else np.zeros(grids.SHAPE)
    alike = len(set(kind.by_model)) == 1
    for _ in range(draws):
        true = grids.world(rng, log)
        found = analyze(table_of(rng, true, kind))
        dear = not additive and bool((found.price["low"] > 1).any())
        yield (
            dear
            or mattering(found, true)
            or any(
                claims(f) and (alike or "model" not in f.layers) and untrue(f, log)
                for f in found.findings
            )
        )


def mattering(found: Analysis, true: grids.World) -> bool:
    """Say whether a layer is told to matter most whose default costs nothing, where it is reached.

    Models and hardware are given; the rest is chosen, among the cells that there are.
    """
    told = [f for f in found.findings if f.kind == "importance" and "matters most" in f.sentence]
    if not told:
        return False
    layer = told[0].layers[0]
    default = found.regrets.set_index("layer").loc[layer, "default"]
    log = np.moveaxis(np.where(true.there, true.log, np.inf), grids.NAMES.index(layer), 0)
    chosen = tuple(
        i for i, x in enumerate((layer, *(x for x in grids.NAMES if x != layer)))
        if x not in ("model", "hardware")
    )  # fmt: skip
    best = log.min(axis=chosen)
    kept = log[grids.index(layer, default)].min(axis=tuple(i - 1 for i in chosen[1:]))
    return not (kept - best)[np.isfinite(kept)].mean() > 1e-9


def claims(f: Finding) -> bool:
    """Say whether a finding claims a difference: tested, or stated as a loss or as surely so."""
    if f.kind == "ways":
        return any(f.numbers["surely"].values())
    return f.certainty == "significant" or f.kind == "loss"


def untrue(f: Finding, log: np.ndarray) -> bool:
    """Say whether a finding claims what an additive grid has not."""
    if f.kind == "expectation":
        good, bad = (effect(choice, log) for choice in f.choices)
        gained = bad - good if f.numbers["observed"] >= 1 else good - bad  # the better comes first
        kept = gained - np.log(f.numbers["expected"])
        wrong = {OVER: kept > -1e-9, UNDER: kept < 1e-9}
        return bool(wrong.get(f.numbers["verdict"], False))
    if f.kind == "break-even":
        return f.layers[0].partition(".")[0] != f.layers[1] or not crosses(f, log)
    if f.kind == "scaling":
        # Some higher level is really worse than some lower one.
        rising = along(f.layers[0], log)
        return not (rising > np.minimum.accumulate(rising) + 1e-9).any()
    if f.kind == "loss":
        made = means(log, grids.NAMES.index(f.layers[0]))
        return bool(made.max() - made.min() < 1e-9)
    if f.kind == "speed-up":
        good, bad = (effect(choice, log) for choice in f.choices)
        return bool(good >= bad - 1e-9)
    if f.kind == "dominance":
        layer = f.choices[0].partition("=")[0]
        axis = grids.NAMES.index(layer)
        return bool(effect(f.choices[0], log) > means(log, axis).min() + 1e-9)
    return True


def means(log: np.ndarray, axis: int) -> np.ndarray:
    """Return what each level of a layer makes of an additive grid."""
    return np.asarray(log.mean(axis=tuple(i for i in range(log.ndim) if i != axis)))


def along(factor: str, log: np.ndarray) -> np.ndarray:
    """Return what the levels of an ordered factor make of it, the lowest first."""
    axis = grids.NAMES.index(factor.partition(".")[0])
    effects = means(log, axis)
    return effects[1:4] if factor.startswith("optimization") else effects


def effect(choice: str, log: np.ndarray) -> float:
    """Return what a choice, or a parameter's level, makes of it."""
    layer, _, level = choice.partition("=")
    name, _, parameter = layer.partition(".")
    levels = grids.CHOICES[name]
    text = next(x for x in levels if f"({parameter}={level})" in x) if parameter else level
    return float(means(log, grids.NAMES.index(name))[levels.index(text)])


def crosses(f: Finding, log: np.ndarray) -> bool:
    """Say whether the technique with a sparsity really overtakes, or is overtaken."""
    other = next(c.partition("=")[2] for c in f.choices if not c.endswith("=thin"))
    gap = along("optimization.sparsity", log) - effect(f"optimization={other}", log)
    return bool(gap.min() < 0 < gap.max())


def run_false(n: int, seed: int, slices: Slices | None) -> Iterator[Row]:
    """Measure how often equal and additive tables are said to hold effects they do not hold."""
    for number, (name, kind) in enumerate(KINDS.items()):
        for additive in (False, True):
            what = "additive, any untrue finding" if additive else "equal, any finding"
            ask = each(partial(false, additive=additive, kind=kind))
            found = counted(n, (seed, 9, 2 * number + additive), ask, slices, __file__, step=1)
            yield from rate(found, f"null: {what}; {name}", "at most 5 %")


def run(n: int, seed: int = 1, slices: Slices | None = None) -> Iterator[Row]:
    """Measure all of it."""
    yield from run_levels(n, seed, slices)
    yield from run_sessions(n, seed, slices)
    yield from run_false(max(1, n // 2), seed, slices)
