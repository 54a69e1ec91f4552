"""What could be tried here and was not: the catalogue's choices that the rules allow."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dlas.advise.evidence import Evidence, alike
from dlas.advise.found_here import BESIDE, in_the_middle, side_by_side
from dlas.advise.said import DEFINITION, ELSEWHERE, REFUSED, UNKNOWN, Said
from dlas.analyze.tell.words import around, compared, contexts
from dlas.core import registry
from dlas.core.errors import DlasError
from dlas.core.keys import Json
from dlas.core.precision import bits
from dlas.core.protocols import Optimization, Refusal
from dlas.core.stack import Choice, Stack
from dlas.run.executed import Answers

VARIED = ("optimization", "algorithm", "software", "hardware")
"""The layers that are decided; data set and model are the problem itself."""
SHARE = 0.5
"""What a share (of zeros, of channels) is tried at that has no default."""
SHARES: tuple[str, ...] = ("sparsity", "ratio")
OWN = ("map",)
"""Choices that need to be written by a person."""
LOOKED_AT = 40
"""Stacks that a choice is tried with, at most."""


@dataclass(frozen=True)
class Untried:
    """A stack that differs from the best by one choice that nobody tried here."""

    layer: str
    text: str
    """The choice."""
    stack: Stack | None
    """None: the rules refuse it with everything that was tried."""
    reason: str = ""
    """Why, where they do."""


@dataclass
class RuleBook:
    """What the rules say of stacks on this machine; answers are kept."""

    known: Evidence
    answers: Answers = field(default_factory=Answers)
    _said: dict[str, Refusal | None] = field(default_factory=dict)

    def refuse(self, stack: Stack) -> Refusal | None:
        """Return why a stack cannot be here, or None."""
        if stack.cell not in self._said:
            techniques = registry.resolve(stack)
            seen = self.answers.seen(stack, techniques)
            self._said[stack.cell] = registry.refusal(replace(techniques, probed=seen))
        return self._said[stack.cell]


def candidates(known: Evidence, rules: RuleBook) -> list[Untried]:
    """Return every choice of the catalogue that no complete stack here has, layer by layer."""
    found = []
    for layer in VARIED:
        for pipeline in (*_choices(known, layer), *_options(known, layer)):
            found.append(_candidate(known, rules, layer, pipeline))
    return found


def _candidate(known: Evidence, rules: RuleBook, layer: str, steps: tuple[Choice, ...]) -> Untried:
    text = "+".join(step.text for step in steps)
    reason = ""
    for other in _around(known, layer):
        stack = replace(other, **{layer: steps}, sublayers={})
        refusal = rules.refuse(stack)
        if refusal is None:
            return Untried(layer, text, stack)
        reason = reason or refusal.reason
    return Untried(layer, text, None, reason)


def _around(known: Evidence, layer: str) -> list[Stack]:
    """Return what a choice is tried with: the best stack, then the others, the fastest first.

    A runtime's own kernels go with every runtime; and the kernels of a runtime that takes them by
    name may never have run here: they are tried with those runtimes, too.
    """
    best = known.stack
    done = [c for c in known.rows if known.numbers(c)[c]]
    ranked = sorted(done, key=lambda c: float(known.rows[c][known.metric]))
    same = [
        s for c in ranked if (s := known.results.stacks[c]).text("model") == best.text("model")
    ]
    decided = {tuple(s.text(x) for x in VARIED if x != layer): s for s in reversed([best, *same])}
    stacks = [best, *reversed([s for s in decided.values() if s.cell != best.cell])][:LOOKED_AT]
    plain, native = made("optimization", "none"), made("algorithm", "native")
    if layer == "software" and native is not None:
        stacks += [replace(s, algorithm=(native,)) for s in stacks]
    if layer in ("optimization", "algorithm"):
        names = [new for n in registry.names("software") if (new := made("software", n))]
        stacks += [replace(best, software=(new,)) for new in names]
    if layer in ("software", "algorithm") and plain is not None:
        stacks += [replace(s, optimization=(plain,)) for s in stacks]
    return stacks


def _done(known: Evidence) -> list[Stack]:
    """Return the stacks that are complete here."""
    return [
        stack
        for cell, stack in known.results.stacks.items()
        if cell in known.rows and known.rows[cell]["status"] == "complete"
    ]


def _choices(known: Evidence, layer: str) -> Iterable[tuple[Choice, ...]]:
    """Yield the pipelines of a layer whose technique no complete stack here has."""
    tried = {step.name for stack in _done(known) for step in stack.layer(layer)}
    if layer == "hardware":
        yield from _threads(known)
        return
    for name in registry.names(layer):
        if name in tried or name in OWN or name == "none":
            continue
        new = made(layer, name)
        if new is not None:
            yield _pipeline(known, new) if layer == "optimization" else (new,)


def _options(known: Evidence, layer: str) -> Iterable[tuple[Choice, ...]]:
    """Yield the best stack's pipeline with a named option of its last step as nobody tried it."""
    *before, step = known.stack.layer(layer)
    if layer == "hardware" or step.name in OWN:
        return
    every = [each for stack in _done(known) for each in stack.layer(layer)]
    tried = [each for each in every if each.name == step.name]
    for option, new in variants(layer, step):
        if new.params.get(option) not in [each.params.get(option) for each in tried]:
            yield (*before, new)


def variants(layer: str, step: Choice) -> Iterator[tuple[str, Choice]]:
    """Yield a choice with each other value of each option that takes one of a list."""
    row = next(r for r in registry.catalogue(layer) if r["name"] == step.name)
    for option, described in row["parameters"].items():
        values = described.get("enum", ()) if isinstance(described, dict) else ()
        for value in values if isinstance(values, list) else ():
            new = made(layer, step.name, {**step.params, option: value})
            if new is not None and new != step:
                yield option, new


def made(layer: str, name: str, given: Mapping[str, Json] | None = None) -> Choice | None:
    """Return a technique with its defaults; a share without one is a half, other gaps are left."""
    try:
        cls = registry.find(layer, name)
        params = given or {n: SHARE for n in SHARES if n in registry.fields(cls)}
        return registry.choice(registry.make(layer, name, params))
    except DlasError:
        return None  # it needs what only a person can say


def _pipeline(known: Evidence, made: Choice) -> tuple[Choice, ...]:
    """Return the best stack's pipeline with one more step, one precision at most, that last."""
    technique = registry.optimization(made)
    before = [s for s in known.stack.optimization if s.name != "none"]
    kept = [(s, registry.optimization(s)) for s in before]
    if technique.precision is not None:
        kept = [(s, t) for s, t in kept if t.precision is None]
    every: list[tuple[Choice, Optimization]] = [*kept, (made, technique)]
    return tuple(s for s, t in sorted(every, key=lambda each: each[1].precision is not None))


def _threads(known: Evidence) -> Iterable[tuple[Choice, ...]]:
    """Yield the device of the best stack with numbers of threads that nobody tried."""
    (device,) = known.stack.hardware
    if "threads" not in device.params:
        return
    tried = {stack.hardware[0].params.get("threads") for stack in _done(known)}
    cores = len(os.sched_getaffinity(0))
    for count in dict.fromkeys((1, 2, cores // 2, cores)):
        if 1 <= count <= cores and count not in tried:
            params = {**device.params, "threads": count}
            yield (registry.choice(registry.make("hardware", device.name, params)),)


# ---------------------------------------------------------------- what it may give


def expectation(known: Evidence, elsewhere: Iterable[Evidence], one: Untried) -> list[Said]:
    """Return what an untried choice can be expected to give, and how that is known."""
    found = [said for other in elsewhere if (said := _seen(known, other, one)) is not None]
    found += [said] if (said := _by_definition(one)) is not None else []
    if not found:
        what = _option_told(known, one) or _summary(one)
        found.append(Said(f"{one.text}: {what}; nothing here or given says what it gives",
                          UNKNOWN, one.text))  # fmt: skip
    return found


def _seen(known: Evidence, other: Evidence, one: Untried) -> Said | None:
    """Return what another folder measured of a choice, against what is best here where it can."""
    found = _against(other, one, known.stack.text(one.layer))
    if found is None:
        return None
    row, against, gain, low, high = found
    table = other.analysis.table
    _, pair = in_the_middle(other, row)
    pair = pair if row["level"] == one.text else pair[::-1]
    numbers = other.numbers(*pair, columns=(other.metric, *BESIDE))
    # By a third both were set against the baseline there: the pair and the contexts are of that.
    third = against not in (row["level"], row["baseline"])
    by = f", by what each is against {row['baseline']}" if third else ""
    over = f"; against {row['baseline']} over" if third else ", over"
    return Said(
        f"{one.text} is {compared(table, gain)} {against} there{around(table, gain, low, high)}"
        f"{by} ({alike(known, other)}){over} {contexts(int(row['contexts']))}, for example "
        f"{side_by_side(numbers, *pair)}",
        ELSEWHERE, one.text, gain, low if math.isfinite(low) else None,
        high if math.isfinite(high) else None, pair, numbers,
    )  # fmt: skip


def _against(
    other: Evidence, one: Untried, base: str
) -> tuple[dict[str, Any], str, float, float, float] | None:
    """Return an effect of a choice there, what it is against, and the gain with its interval.

    Against ``base`` where that was measured there, too: by a third, without an interval, where it
    is not the baseline of that folder. The choice may be the baseline itself.
    """
    rows = other.analysis.speedups
    mine = rows[rows["factor"] == one.layer]
    own, there = mine[mine["level"] == one.text], mine[mine["level"] == base]
    if own.empty:
        turned = mine[mine["baseline"] == one.text]
        if turned.empty:
            return None
        row = (there if len(there) else turned).iloc[0].to_dict()
        ends = 1 / float(row["ratio"]), 1 / float(row["high"]), 1 / float(row["low"])
        return row, str(row["level"]), *ends
    row = own.iloc[0].to_dict()
    against, gain = str(row["baseline"]), float(row["ratio"])
    if against != base and len(there):
        return row, base, gain / float(there.iloc[0]["ratio"]), math.nan, math.nan
    return row, against, gain, float(row["low"]), float(row["high"])


def _by_definition(one: Untried) -> Said | None:
    """Return what follows from what a choice is: the width of its numbers, its threads."""
    if one.stack is None:
        return None
    if one.layer == "hardware":
        count = one.stack.hardware[0].params.get("threads", 1)
        return Said(
            f"{one.text}: at most {count} times as fast as one thread", DEFINITION, one.text
        )
    if one.layer == "optimization":
        asked = registry.resolve(one.stack).precision
        width = bits(asked)
        if width is not None and width < 32:
            return Said(f"{one.text}: weights take {width} of 32 bits", DEFINITION, one.text)
    return None


def _option_told(known: Evidence, one: Untried) -> str:
    """Return in which options a choice differs from what is best here; else nothing."""
    if one.stack is None:
        return ""
    here, new = known.stack.layer(one.layer)[-1], one.stack.layer(one.layer)[-1]
    if here.name != new.name:
        return ""
    return ", ".join(
        f"{option} {value} in place of {here.params[option]}"
        for option, value in new.params.items()
        if option in here.params and here.params[option] != value
    )


def _summary(one: Untried) -> str:
    """Return the first line of what a choice's technique says of itself."""
    name = (one.stack.layer(one.layer)[-1].name if one.stack else one.text).partition("(")[0]
    try:
        doc = inspect.getdoc(registry.find(one.layer, name)) or ""
    except DlasError:
        return ""
    return doc.partition("\n")[0].replace("``", "`").rstrip(".")


def refused(found: Iterable[Untried], layer: str) -> tuple[Said, ...]:
    """Return what the rules refuse with all that was tried: it is never advised."""
    return tuple(
        Said(f"{one.text}: {one.reason}", REFUSED, one.text)
        for one in found
        if one.layer == layer and one.stack is None
    )
