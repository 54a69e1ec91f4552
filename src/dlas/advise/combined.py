"""Combinations of what was tried that nobody measured: what main effects say of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from dlas.advise.evidence import Evidence
from dlas.advise.said import MODEL, Said
from dlas.advise.untried import VARIED, RuleBook
from dlas.core.stack import Choice, Stack

MOST = 3
"""Combinations that are worth their time, at most."""
LOOKED_AT = 60
"""The likeliest combinations are held against the rules until so many were."""
LARGE = 100_000


@dataclass(frozen=True)
class Combination:
    """A stack of choices that were all tried, but not together."""

    stack: Stack
    said: Said


def combinations(known: Evidence, rules: RuleBook) -> list[Combination]:
    """Return combinations for the best stack's problem that may be faster by more than the noise.

    The model: the logarithm of the latency is a sum of one effect for each choice, fitted to the
    stacks measured for the same data set and network; its error is the spread of what it leaves
    of stacks that it was not fitted to, each left out in turn. It knows no interactions, so every
    two choices of a combination were measured together: what an algorithm gains on one runtime
    says nothing of it on another. Choices whose accuracy surely misses the goals in all that was
    measured are left out.
    """
    fit = _fitted(known)
    if fit is None:
        return []
    measured = set(known.results.stacks)
    found: list[Combination] = []
    least = math.log1p(max(known.analysis.table.floor, fit.floor))
    ranked = sorted(_unmeasured(known, fit, measured), key=lambda each: -each[0])[:LOOKED_AT]
    for gain, stack in ranked:
        if gain <= least:
            break
        if rules.refuse(stack) is None:
            found.append(Combination(stack, _said(known, fit, stack, gain)))
        if len(found) == MOST:
            break
    return found


@dataclass(frozen=True)
class _MainEffects:
    effects: dict[tuple[str, str], float]
    """By layer and choice, on the logarithm."""
    sd: float
    floor: float
    levels: dict[str, dict[str, tuple[Choice, ...]]]
    stacks: int
    together: frozenset[frozenset[tuple[str, str]]]
    """Every two choices, of two layers, that some stack has."""
    best: float
    """What the model says of the best stack."""

    def of(self, texts: Iterable[tuple[str, str]]) -> float:
        return sum(self.effects[each] for each in texts)


def _fitted(known: Evidence) -> _MainEffects | None:
    best, log = known.stack, known.analysis.estimates.mean
    cells = [str(c) for c in known.analysis.table.cells["cell"]]
    stacks = {c: known.results.stacks[c] for c in cells}
    rows = [
        (stacks[c], float(v))
        for c, v in zip(cells, log, strict=True)
        if math.isfinite(v)
        and all(stacks[c].text(x) == best.text(x) for x in ("dataset", "model"))
    ]
    missing = _missing(known)
    levels: dict[str, dict[str, tuple[Choice, ...]]] = {layer: {} for layer in VARIED}
    for stack, _ in rows:
        for layer in VARIED:
            if not (layer == "optimization" and stack.text(layer) in missing):
                levels[layer][stack.text(layer)] = stack.layer(layer)
    names = [(layer, s.text(layer)) for layer in VARIED for s, _ in rows]
    order = {name: at for at, name in enumerate(dict.fromkeys(names))}
    if len(rows) < len(order):
        return None
    design = np.zeros((len(rows), len(order)))
    for at, (stack, _) in enumerate(rows):
        for layer in VARIED:
            design[at, order[layer, stack.text(layer)]] = 1.0
    values = np.array([v for _, v in rows])
    ridge = np.vstack([design, 1e-3 * np.eye(len(order))])
    middle = values.mean()
    found, *_ = np.linalg.lstsq(
        ridge, np.append(values - middle, np.zeros(len(order))), rcond=None
    )
    left = values - middle - design @ found
    # How much of each value the fit takes from that value itself: the rest is its own guess.
    own = np.einsum("ij,ji->i", design, np.linalg.pinv(ridge)[:, : len(rows)])
    sd = float(np.sqrt(np.mean((left / np.maximum(1 - own, 1e-3)) ** 2)))
    effects = {name: float(found[at]) for name, at in order.items()}
    noise = known.analysis.estimates.floor() if known.analysis.estimates.known else 0.0
    met = frozenset(
        frozenset(pair)
        for stack, _ in rows
        for pair in itertools.combinations([(x, stack.text(x)) for x in VARIED], 2)
    )
    fit = _MainEffects(effects, sd, float(noise), levels, len(rows), met, 0.0)
    return replace(fit, best=fit.of((layer, best.text(layer)) for layer in VARIED))


def _missing(known: Evidence) -> set[str]:
    """Return the optimizations whose accuracy misses the goals in every stack measured."""
    limits = [b for c, b in known.goals.at_most if c == "accuracy_drop"]
    if not limits:
        return set()
    found: dict[str, list[float]] = {}
    for cell, row in known.rows.items():
        drop = known.numbers(cell, columns=("accuracy_drop",))[cell].get("accuracy_drop")
        if drop is not None:
            found.setdefault(str(row["optimization"]), []).append(drop)
    return {text for text, drops in found.items() if min(drops) > min(limits)}


def _unmeasured(
    known: Evidence, fit: _MainEffects, measured: set[str]
) -> Iterable[tuple[float, Stack]]:
    """Yield the log gain that the model expects over the best stack, and the stack."""
    best = known.stack
    if math.prod(len(fit.levels[layer]) for layer in VARIED) > LARGE:
        return
    for texts in itertools.product(*(fit.levels[layer] for layer in VARIED)):
        pairs = list(zip(VARIED, texts, strict=True))
        gain = fit.best - fit.of(pairs)
        if gain <= 0 or any(
            frozenset(two) not in fit.together for two in itertools.combinations(pairs, 2)
        ):
            continue
        steps = {layer: fit.levels[layer][text] for layer, text in pairs}
        stack = replace(best, **steps, sublayers={})
        if stack.cell not in measured:
            yield gain, stack


def _said(known: Evidence, fit: _MainEffects, stack: Stack, gain: float) -> Said:
    best = known.stack
    others = [x for x in VARIED if stack.text(x) != best.text(x)]
    what = ", ".join(f"{x} {stack.text(x)} instead of {best.text(x)}" for x in others)
    low, high = (math.exp(gain + sign * 1.96 * fit.sd) for sign in (-1, 1))
    return Said(
        f"{what}: expected {math.exp(gain):.3g} times as fast as the best ({low:.3g} to "
        f"{high:.3g}), by the main effects of {fit.stacks} stacks of the same network",
        MODEL, " ".join(stack.text(x) for x in VARIED), math.exp(gain), low, high, (known.best,),
        known.numbers(known.best),
    )  # fmt: skip
