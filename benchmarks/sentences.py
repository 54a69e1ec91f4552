"""Twenty sentences of a study's findings, recomputed from its raw rows by pandas alone.

    python benchmarks/sentences.py out/quickstart [--findings FILE] [--most 20]

Nothing of ``dlas`` is imported: ``raw.py`` beside this works the undisturbed latencies out from
``results.sqlite``; contexts, ratios and the limits of the goals are worked out here, in other ways
than the analysis does. ``findings.json`` is what ``dlas analyze DIR`` wrote. Every sentence is
printed with the numbers that it tells, the same recomputed, and what a practitioner would do on
reading it. The exit status is 1 where a number differs by more than 0.1 %.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from raw import LAYERS, Raw, fails, halves, load, meets

GIVEN = ["dataset", "model", "hardware"]
PLAIN = {"optimization": "none", "algorithm": "native"}
CLOSE = 1e-3
A_KIND = 5
"""Sentences of one kind that are recomputed at most."""
Number = tuple[str, float, float]
"""What it is, as told, as recomputed."""


# ---------------------------------------------------------------- contexts


def wide(
    raw: Raw, layer: str, value: str = "quiet_ms", *, all_cells: bool = False
) -> pd.DataFrame:
    """Return a value by context (all other layers) and level of one layer."""
    others = [x for x in LAYERS if x != layer]
    cells = raw.cells if all_cells else raw.done
    return cells.pivot(index=others, columns=layer, values=value)


def pair(raw: Raw, good: str, bad: str) -> tuple[pd.DataFrame, str, str, str]:
    """Return the contexts of two choices, ``layer=level`` each, that hold both."""
    name, _, one = good.partition("=")
    two = bad.partition("=")[2]
    found = wide(raw, name) if name in LAYERS else of_parameter(raw, name)
    return found[[one, two]].dropna(), name, one, two


def of_parameter(raw: Raw, name: str) -> pd.DataFrame:
    """Return the time by level of a parameter and context: the techniques, and all else.

    Of a sub-layer: the other sub-layers, and all else, where that names a cell.
    """
    layer = name.partition(".")[0]
    parts = {p for s in raw.done["stack"] for p in json.loads(s).get("sublayers", {})}
    if name in parts:
        beside = sorted(p for p in parts if p.startswith(f"{layer}.") and p != name)
        index = [*(x for x in LAYERS if x != layer), *beside]
        known = raw.known.loc[raw.done["cell"], [*beside, name]].set_index(raw.done.index)
        cells = raw.done.assign(**{c: known[c] for c in known})
        if not cells.duplicated([*index, name]).any():
            return cells.pivot(index=index, columns=name, values="quiet_ms")
    own = [c for c in raw.known if c.startswith(f"{layer}.") and c not in {name, *parts}]
    kinds = ["+".join(t["name"] for t in json.loads(s)[layer]) for s in raw.done["stack"]]
    known = raw.known.loc[raw.done["cell"], [*own, name]].set_index(raw.done.index)
    cells = raw.done.drop(columns=layer).assign(kind=kinds, **{c: known[c] for c in known})
    cells = cells[cells[name] != ""]
    index = [*(x for x in LAYERS if x != layer), "kind", *own]
    return cells.pivot(index=index, columns=name, values="quiet_ms")


def geo(ratio: pd.Series) -> float:
    return float(np.exp(np.log(ratio).mean()))


def where(frame: pd.DataFrame, conditions: str) -> pd.DataFrame:
    """Return the contexts in which all of ``layer=level, layer=level`` hold."""
    for condition in conditions.split(", ") if conditions else []:
        layer, _, level = condition.partition("=")
        frame = frame[frame.index.get_level_values(layer) == level]
    return frame


# ---------------------------------------------------------------- the kinds


def speed_up(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    both, name, good, bad = pair(raw, *f["choices"])
    ratio = both[bad] / both[good]
    yield "ratio", f["ratio"], geo(ratio)
    yield "contexts", f["coverage"]["contexts"], len(both)
    if name in LAYERS:
        yield "contexts of the other", f["coverage"]["of"], int(wide(raw, name)[bad].notna().sum())
        for cost in f["costs"]:
            value = cost["name"]
            if value not in raw.done:
                continue
            known = wide(raw, name, value)[[good, bad]].loc[both.index].dropna()
            if cost["unit"] == "points":
                told = float((known[good] - known[bad]).mean())
            else:
                told = geo(known[good] / known[bad])
            yield f"{value}, {cost['unit']}", cost["change"], told
        if f["meets"] >= 0:
            kept = raw.done.assign(ok=meets(raw)).pivot(
                index=[x for x in LAYERS if x != name], columns=name, values="ok"
            )
            yield "contexts within the goals", f["meets"], int(kept[good].loc[both.index].sum())


def flip(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    both, _, a, b = pair(raw, *f["choices"])
    n = f["numbers"]
    for which, place in (("better", n["better_at"]), ("worse", n["worse_at"])):
        here = where(both, place)
        yield f"second over first at {place}", n[which], geo(here[b] / here[a])


def interaction(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    (layer, by), n = f["layers"], f["numbers"]
    rest = [x for x in LAYERS if x not in (layer, by)]
    found = raw.done.pivot(index=rest, columns=[layer, by], values="quiet_ms")
    found = found[[(n[x], n[y]) for x in "ab" for y in "mn"]].dropna()
    at = {y: found[n["a"], n[y]] / found[n["b"], n[y]] for y in "mn"}
    ratio = geo(at["m"] / at["n"])
    yield "ratio of ratios", f["ratio"], max(ratio, 1 / ratio)


def loss(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    found = wide(raw, f["layers"][0])
    found = found[found.notna().sum(axis=1) >= 2]
    ordered = np.sort(found.to_numpy(), axis=1)
    # of an even number of contexts the one in the middle of two is their geometric mean
    middle = np.exp(np.median(np.log(ordered[:, 1] / ordered[:, 0])))
    yield "second over best, median", f["ratio"], float(middle)


def dominance(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    layer, _, level = f["choices"][0].partition("=")
    every = wide(raw, layer)
    found = every[every.notna().sum(axis=1) >= 2]
    own = found[found[level].notna()]
    yield "contexts", f["coverage"]["contexts"], len(own)
    alone = int((every[level].notna() & (every.notna().sum(axis=1) == 1)).sum())
    yield "contexts in which any ran", f["coverage"]["of"], len(every) - alone
    best = own.idxmin(axis=1) == level
    yield "of them the best in", f["coverage"]["contexts"], int(best.sum())


def scaling(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    if f["layers"][0] not in ("hardware.threads", "hardware"):
        return
    cells = raw.done.assign(hardware=raw.done["threads"].astype(str))
    found = cells.pivot(index=LAYERS[:-1], columns="hardware", values="quiet_ms").dropna()
    here = where(found, ", ".join(f["choices"]))
    gains = sorted(here[here.columns[0]] / here[here.columns[-1]])
    if "gains" in f["numbers"]:
        told = sorted(f["numbers"]["gains"])
        yield "contexts", len(told), len(gains)
        yield "least gain", told[0], gains[0]
        yield "largest gain", told[-1], gains[-1]


def expectation(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    n = f["numbers"]
    if n["cost"] not in raw.done:
        return
    if f["choices"][0].partition("=")[0] not in LAYERS:
        return
    better_first = f["numbers"]["observed"] >= 1
    both, name, level, base = pair(raw, *f["choices"][:: 1 if better_first else -1])
    cost = wide(raw, name, n["cost"])[[level, base]].loc[both.index]
    promise = cost[base] / cost[level]
    use = np.abs(np.log(promise)) > math.log(1.05)
    yield "promised", n["expected"], geo(promise[use])
    yield "measured", n["observed"], geo((both[base] / both[level])[use])


def best(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    own = raw.done[raw.done["cell"] == f["cells"][0]].iloc[0]
    yield "quiet_ms", f["numbers"]["value"], own["quiet_ms"]
    ok = raw.done[meets(raw)]
    top = raw.done[raw.done["cell"] == f["numbers"]["fastest"]].iloc[0]
    yield "quiet_ms of the fastest that meets the goals", top["quiet_ms"], ok["quiet_ms"].min()
    yield "what it loses to that, at most", 1.0, float(own["quiet_ms"] <= 1.1 * top["quiet_ms"])


def importance(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    """Choose on every other round, read on the others, both ways; by model and hardware."""
    cells = raw.done[meets(raw)].join(halves(raw), on="cell").dropna(subset=[0, 1])
    for layer, told in f["numbers"]["regrets"].items():
        default = PLAIN.get(layer) or baseline_of(raw, f, layer)
        if default is None:
            continue
        logs = []
        for _, group in cells.groupby(GIVEN):
            kept = group[group[layer] == default]
            if not len(kept):
                continue
            ways = [(0, 1), (1, 0)]
            logs.append(np.mean([
                kept.loc[kept[a].idxmin(), b] - group.loc[group[a].idxmin(), b] for a, b in ways
            ]))  # fmt: skip
        yield f"{layer} left at {default}", told, float(np.exp(np.mean(logs)))


def baseline_of(raw: Raw, f: dict[str, Any], layer: str) -> str | None:
    """Return the default that the sentence itself names."""
    text = f["sentence"]
    named = [x for x in raw.cells[layer].unique() if f"{layer} left at {x}," in text]
    first = [x for x in raw.cells[layer].unique() if text.startswith(f"{layer} matters")
             and f": left at {x}," in text]  # fmt: skip
    return (named or first or [None])[0]


def front(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    cells = raw.done[~fails(raw)]
    cells = cells[cells[raw.goals].notna().all(axis=1)]
    values = cells[raw.goals].to_numpy()
    on = [
        not ((values <= row).all(axis=1) & (values < row).any(axis=1)).any() for row in values
    ]  # fmt: skip
    yield "on the front", f["numbers"]["on"], int(np.sum(on))


def failures(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    status = f["sentence"].split(" are ")[1].split()[0].rstrip(".:(")
    yield "cells", f["numbers"]["cells"], int((raw.cells["status"] == status).sum())


def correlation(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    name = f["sentence"].split("order by ")[1].split()[0]
    both = raw.done[[name, "quiet_ms"]].dropna()
    ranks = both.rank()
    told = float(ranks[name].corr(ranks["quiet_ms"]))
    yield "Spearman's correlation", f["numbers"]["spearman"], told


def waterfall(raw: Raw, f: dict[str, Any]) -> Iterator[Number]:
    level = f["sentence"].split("promise of ")[1].split(" over ")[0]
    base = f["sentence"].split(" over ")[1].split(" (")[0]
    both = wide(raw, "optimization")[[level, base]].dropna()
    yield "measured", f["numbers"]["left"], geo(both[base] / both[level])


KINDS: dict[str, Callable[[Raw, dict[str, Any]], Iterator[Number]]] = {
    "best": best, "importance": importance, "speed-up": speed_up, "flip": flip,
    "interaction": interaction, "loss": loss, "dominance": dominance, "scaling": scaling,
    "expectation": expectation, "front": front, "failures": failures,
    "correlation": correlation, "waterfall": waterfall,
}  # fmt: skip


# ---------------------------------------------------------------- what one would do


def advice(f: dict[str, Any]) -> str:
    """Return what a practitioner would do on reading a sentence."""
    some, choices = f.get("coverage") or {}, f.get("choices") or ["", ""]
    good, bad = choices[0], choices[-1]
    if f["kind"] == "speed-up":
        paid = [c["name"] for c in f["costs"] if c["worse"]]
        if not f["contender"]:
            return f"rule out {bad}, unless nothing else runs there; it says little of the others"
        if some.get("against"):
            return f"not take {good} blindly: look up which of the contexts is one's own"
        price = f", if {' and '.join(paid)} may be paid" if paid else ""
        only = " where it runs" if some.get("failed") else ""
        return f"take {good} rather than {bad}{only}{price}"
    return {
        "best": "deploy this stack, or a rival if something else speaks for it",
        "importance": "tune the first layer first, and leave the last ones at their defaults",
        "flip": f"fix {f['numbers'].get('by', '')} before choosing between {good} and {bad}",
        "interaction": "not carry the gain over from one of the two to the other: measure there",
        "loss": f"spend time on {f['layers'][0] if f['layers'] else ''} in proportion to this",
        "dominance": f"take {good} without a search, where it runs",
        "scaling": "keep the lower setting there",
        "expectation": "not count on the promise: ask what ran, and measure",
        "front": "choose among these by what a unit of each goal is worth",
        "failures": "not plan with these stacks",
        "correlation": "not choose by this proxy",
        "waterfall": "work on the step that loses most of the promise",
    }[f["kind"]]


def told(
    findings: list[dict[str, Any]], raw: Raw, most: int
) -> Iterator[tuple[Any, list[Number]]]:
    """Give the first findings that can be recomputed, no kind more than a few times."""
    seen: dict[str, int] = {}
    for f in findings:
        if f["kind"] not in KINDS or seen.get(f["kind"], 0) >= A_KIND or most <= 0:
            continue
        numbers = list(KINDS[f["kind"]](raw, f))
        if not numbers:
            print(f"(not recomputed here: {f['kind']}, rank {f['rank']})\n")
        if numbers:
            seen[f["kind"]] = seen.get(f["kind"], 0) + 1
            most -= 1
            yield f, numbers


def close(a: float, b: float) -> bool:
    return abs(a - b) <= CLOSE * max(abs(a), abs(b), 1e-9) or abs(a - b) < 1e-9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--findings", type=Path, help="default: findings.json in the folder")
    parser.add_argument("--most", type=int, default=20)
    asked = parser.parse_args()
    raw = load(asked.folder)
    path = asked.findings or asked.folder / "findings.json"
    findings = json.loads(path.read_text())["findings"]
    count, wrong = 0, 0
    for f, numbers in told(findings, raw, asked.most):
        count += 1
        print(f"{count}. [{f['kind']}, rank {f['rank']}] {f['sentence']}")
        for what, a, b in numbers:
            same = close(float(a), float(b))
            wrong += not same
            print(f"   {what}: told {a:.4g}, recomputed {b:.4g}{'' if same else '  DIFFERS'}")
        print(f"   On reading it one would {advice(f)}.\n")
    print(f"{count} sentences, {wrong} numbers differ.")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
