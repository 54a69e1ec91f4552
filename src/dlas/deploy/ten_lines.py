"""What ``dlas optimize`` found, in ten lines: before, after, why, at what price, how sure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dlas.analyze import Analysis, analyze
from dlas.analyze.parts.contrasts import tested
from dlas.core.stack import LAYERS
from dlas.deploy.card import ACCURACY, AGREEMENT
from dlas.deploy.front_door import Journey
from dlas.deploy.picked import METRIC
from dlas.tables import intake
from dlas.tables.read import read

LATENCY = "latency_ms"
"""What is told of a stack; gains are of the undisturbed latency, as everywhere."""
LITTLE = 0.01
"""An effect below this is said to be none."""
CHOICES = 3
"""How many of the choices that made the difference are told."""


def ten_lines(done: Journey) -> str:
    """Return what was found, with the command that ships it."""
    results = read([done.out])
    found = analyze(intake.of_results(results, [done.out], intake.Asked(METRIC)))
    rows = {str(row["cell"]): row for row in found.table.cells.to_dict("records")}
    before, after = rows[done.before], rows[done.exported.cell]
    accuracy = ACCURACY if done.given.labelled else AGREEMENT
    return "\n".join([
        _side("before", before, accuracy, plain=True),
        _side("after", after, accuracy),
        f"gained    {_gain(found, before, after)}",
        *_choices(found, before, after),
        f"price     {_price(found, before, after, accuracy)}",
        f"runner-up {_runner_up(found, rows)}",
        f"how sure  {_sure(found, done)}",
        f"measured  {int(found.table.complete.sum())} of {done.sized.runnable} stacks that this "
        f"machine can run, {done.seconds / 60:.1f} min; study: {done.out / 'optimize.yaml'}",
        f"ship it   {done.exported.folder} runs without dlas: cd {done.exported.folder} && "
        "python3 -m venv venv && venv/bin/pip install -r requirements.txt && "
        "venv/bin/python verify.py",
    ])  # fmt: skip


def _side(word: str, row: Mapping[str, Any], accuracy: str, *, plain: bool = False) -> str:
    """Return the numbers of one stack, each as ``dlas table`` has it."""
    layers = [str(row[layer]) for layer in LAYERS[2:]]
    if not _known(row, LATENCY):
        why = ": ".join(str(row[c]) for c in ("stage", "reason") if isinstance(row.get(c), str))
        return f"{word:9} did not run ({why or row['status']}) [{' '.join(layers)}]"
    told = [_within(row, LATENCY, "latency_low_ms", "latency_high_ms", " ms")]
    told += [f"{row[c]:.4g} MB {what}" for c, what in
             (("memory_mb", "memory"), ("artifact_mb", "on disk")) if _known(row, c)]  # fmt: skip
    if _known(row, "accuracy") and not (plain and accuracy != ACCURACY):
        told.append(f"{accuracy} {_within(row, 'accuracy', 'accuracy_low', 'accuracy_high', '')}")
    return f"{word:9} {', '.join(told)} [{' '.join(layers)}]"


def _known(row: Mapping[str, Any], column: str) -> bool:
    value = row.get(column)
    return isinstance(value, int | float | np.generic) and math.isfinite(float(value))


def _within(row: Mapping[str, Any], name: str, low: str, high: str, unit: str) -> str:
    text = f"{row[name]:.4g}{unit}"
    if not (_known(row, low) and _known(row, high)):
        return text
    return f"{text} ({row[low]:.4g} to {row[high]:.4g})"


def _places(found: Analysis, *cells: str) -> list[int]:
    ids = [str(cell) for cell in found.table.cells["cell"]]
    return [ids.index(cell) for cell in cells]


def _gain(found: Analysis, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return how many times as fast, with its interval."""
    if before["cell"] == after["cell"]:
        return "nothing: the network as it was given is the best found"
    if not _known(before, LATENCY):
        return "cannot be said: the network as it was given did not run"
    one, two = _places(found, str(before["cell"]), str(after["cell"]))
    e = found.estimates
    told = tested(
        np.array([e.mean[one] - e.mean[two]]), e.gap(np.array([one]), np.array([two])), e
    )
    ratio, low, high = (float(np.exp(v[0])) for v in (told.value, told.low, told.high))
    if not math.isfinite(ratio):
        return "cannot be said: the two were never measured in the same session"
    within = f" (95 % interval {low:.3g} to {high:.3g})" if math.isfinite(low) else ""
    return f"{ratio:.3g} times as fast, undisturbed{within}"


def _choices(found: Analysis, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the choices that made the difference: their effect, all else equal."""
    layers = [layer for layer in LAYERS if before[layer] != after[layer]]
    told = found.speedups
    rows = []
    for layer in layers:
        mine = told[(told["factor"] == layer) & (told["level"] == after[layer])]
        if len(mine):
            rows.append(mine.iloc[0])
    rows.sort(key=lambda r: -abs(math.log(r["ratio"])))
    return [
        f"because   {r['factor']}: {r['level']} instead of {r['baseline']} {_effect(r)}"
        for r in rows[:CHOICES]
    ] or ["because   no choice could be compared with everything else equal"]


def _effect(row: Mapping[str, Any]) -> str:
    """Return how many times as fast a choice is, over how many pairs, how far they are apart."""
    told = f"is {row['ratio']:.3g} times as fast"
    if abs(math.log(row["ratio"])) < LITTLE:
        told = "makes no difference"
    if row["contexts"] == 1:
        return f"{told} (1 pair)"
    between = f"{row['least']:.3g} to {row['most']:.3g}"
    return f"{told} on average ({between} in {row['contexts']} pairs)"


def _price(
    found: Analysis, before: Mapping[str, Any], after: Mapping[str, Any], accuracy: str
) -> str:
    """Return what was given up, and whether the limits are surely met."""
    parts = []
    if _known(after, "accuracy_drop"):
        parts.append(f"{accuracy} less {after['accuracy_drop']:.4g}")
    if _known(after, "flips"):
        parts.append(f"{int(after['flips'])} of {int(after['accuracy_n'])} labels changed")
    for column, what in (("memory_mb", "memory"), ("artifact_mb", "on disk")):
        if _known(after, column) and _known(before, column) and after[column] > before[column]:
            parts.append(f"{what} {after[column] - before[column]:.4g} MB more")
    verdicts = found.best.verdicts
    mine = verdicts[verdicts["cell"] == after["cell"]]
    parts += [
        f"{str(r.limit).replace('accuracy_drop', f'loss of {accuracy}')} {r.bound:g}: {r.verdict}"
        for r in mine.itertuples()
    ]
    return "; ".join(parts) or "nothing that was measured"


def _runner_up(found: Analysis, rows: Mapping[str, Mapping[str, Any]]) -> str:
    near = found.best.runners_up
    if near.empty:
        return "none: every other stack is surely slower, or misses a limit"
    one = near.iloc[0]
    row = rows[str(one["cell"])]
    layers = " ".join(str(row[layer]) for layer in LAYERS[2:])
    stack = f"{row[LATENCY]:.4g} ms [{layers}], cell {one['cell']}"
    if one["meets"] or one["ratio"] >= 1:
        return f"{stack}, {one['ratio']:.3g} times the best's latency"
    return (
        f"{stack}, {1 / one['ratio']:.3g} times as fast as the best, but whether it meets every "
        "limit cannot be told: more test images would"
    )


def _sure(found: Analysis, done: Journey) -> str:
    rivals, noise = found.best.runners_up, found.noise()
    near = int(rivals["meets"].sum()) if len(rivals) else 0
    words = [
        "every limit is surely met" if found.best.sure else "whether a limit is met is not sure"
    ]
    words.append(
        "no other stack that surely meets them could be as fast"
        if not near
        else f"{near} other {'stack' if near == 1 else 'stacks'} may be as fast"
    )
    if noise["detectable"]:
        words.append(f"differences below {100 * noise['detectable']:.2g} % cannot be told")
    words.append(f"{int(done.exported.card['numbers']['rounds'])} rounds")
    return ", ".join([*words, *_since(done)])


def _since(done: Journey) -> list[str]:
    """Return what rounds say that no choice looked at, of the stack that is exported."""
    finals = done.settled.finals if done.settled else ()
    mine = [each for each in finals if each.cell == done.exported.cell and each.rounds]
    return [
        f"undisturbed {each.quiet_ms:.4g} ms ({each.low_ms:.4g} to {each.high_ms:.4g}) in the "
        f"{each.rounds} of them since it was chosen"
        for each in mine
        if each.low_ms is not None and each.high_ms is not None
    ]
