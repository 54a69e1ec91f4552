"""The price of tuning layer by layer of one model, worked out step by step from raw rows.

    python benchmarks/price_by_hand.py out/quickstart --model resnet-8

Nothing of ``dlas`` is imported (see ``raw.py``). For every context of the model, every start and
every order of the layers one walks as ``docs/analysis.md`` says: each layer takes its best choice
once, on one half of the rounds, unless the gain is inside the floor of the two stacks; the ratio
to the best of all is read on the other half, both ways, averaged on the log. The walk of the first
start is printed step by step; for every start the price, and its worst order, stand beside what
``dlas analyze`` told in ``findings.json``. The exit status is 1 where they differ by more than
0.1 %.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from raw import Raw, fails, halves, load, meets
from scipy import stats

PLAIN = {"optimization": "none", "algorithm": "native"}
CLOSE = 1e-3


@dataclass
class Context:
    """The stacks of one model on one hardware."""

    stacks: pd.DataFrame
    """A row per stack by cell: the free layers, ``may`` (it may be chosen), its value in either
    half (0, 1), and what is known of its noise."""
    free: list[str]
    inflation: float

    def floor(self, a: str, b: str) -> float:
        """Return the least difference of two stacks, on the log scale, that the study detects."""
        one, two = self.stacks.loc[a], self.stacks.loc[b]
        level = (math.sqrt(one["level"]) - math.sqrt(two["level"])) ** 2
        parts = [(level, one["level_df"])]
        if one["group"] != two["group"]:
            parts += [(one["moved"], one["moved_df"]), (two["moved"], two["moved_df"])]
        if one["df"] == two["df"]:  # of one stratum
            parts.append((one["own"] + two["own"], one["df"]))
        else:
            parts += [(one["own"], one["df"]), (two["own"], two["df"])]
        total = sum(var for var, _ in parts)
        df = total**2 / sum(var**2 / df for var, df in parts if var)
        return float(stats.t.ppf(0.975, df)) * math.sqrt(total) * self.inflation

    def best(self, half: int) -> str:
        """Return the best of all that may be chosen."""
        return str(self.stacks.loc[self.stacks["may"], half].idxmin())

    def step(self, cell: str, layer: str, half: int) -> tuple[str, str]:
        """Return where one layer's best choice leads, and why it stays where it does."""
        here, others = self.stacks.loc[cell], [x for x in self.free if x != layer]
        same = (self.stacks[others] == here[others]).all(axis=1) & self.stacks["may"]
        if not same.any():
            return cell, "nothing may be chosen"
        best = str(self.stacks.loc[same, half].idxmin())
        if best == cell:
            return cell, "it is the best"
        gain = here[half] - self.stacks.loc[best, half]
        if here["may"] and gain <= self.floor(cell, best):
            floor = math.expm1(self.floor(cell, best))
            return cell, f"{math.expm1(gain):.1%} are inside the floor of {floor:.1%}"
        return best, ""

    def walk(
        self, start: str, order: tuple[str, ...], half: int
    ) -> Iterator[tuple[str, str, str]]:
        """Give for each layer where one stands after it, and why one stayed."""
        cell = start
        for layer in order:
            cell, why = self.step(cell, layer, half)
            yield layer, cell, why

    def price(self, start: str) -> tuple[float, float]:
        """Return the median and the worst price over the orders, each read both ways."""
        middle, worst = [], []
        for half, other in ((0, 1), (1, 0)):
            ends = [list(self.walk(start, o, half))[-1][1] for o in permutations(self.free)]
            ends = [cell for cell in ends if self.stacks.loc[cell, "may"]]
            if not ends:
                return math.nan, math.nan
            ends.sort(key=lambda cell, half=half: self.stacks.loc[cell, half])
            read = self.stacks[other] - self.stacks.loc[self.best(half), other]
            of = len(ends)
            middle.append((read[ends[(of - 1) // 2]] + read[ends[of // 2]]) / 2)
            worst.append(read[ends[-1]])
        found = float(np.exp(np.mean(middle)))
        return found, max(found, float(np.exp(np.mean(worst))))


def contexts(raw: Raw, model: str, inflation: float) -> Iterator[tuple[str, Context]]:
    """Give each context of a model, by its hardware."""
    free = layers(raw)
    split = [
        {k: str(v) for k, v in json.loads(s)["sublayers"].items()} for s in raw.cells["stack"]
    ]
    every = raw.cells.assign(**{c: [s.get(c) for s in split] for c in free if "." in c})
    sure, may = (set(raw.done.loc[x, "cell"]) for x in (meets(raw), ~fails(raw)))
    noise = raw.units[raw.units["control"] == 0].set_index("cell")
    columns = ["own", "df", "group", "moved", "moved_df", "level", "level_df"]
    every = every.join(halves(raw), on="cell").join(noise[columns], on="cell")
    for hardware, part in every[every["model"] == model].groupby("hardware", sort=False):
        read = part[0].notna() & part[1].notna()
        within = read & part["cell"].isin(sure)
        within = within if within.any() else read & part["cell"].isin(may)
        if within.any():
            stacks = part.assign(may=within).set_index("cell")
            yield str(hardware), Context(stacks, free, inflation)


def layers(raw: Raw) -> list[str]:
    """Return the layers that are free and vary; where a study has both, pruning and precision."""
    found = []
    for layer in ("optimization", "algorithm", "software"):
        if raw.cells[layer].nunique() < 2:
            continue
        split = [json.loads(s)["sublayers"] for s in raw.cells["stack"]]
        names = sorted(k for k in split[0] if k.startswith(f"{layer}."))
        names = [k for k in names if len({str(s.get(k)) for s in split}) > 1]
        found += names if len(names) > 1 else [layer]
    return found


def starts(raw: Raw, context: Context) -> dict[str, str]:
    """Return the start of every runtime: nothing optimized, the native algorithm."""
    some = context.stacks[context.stacks[0].notna() & context.stacks[1].notna()]
    plain = some[[all(r[x] == v for x, v in PLAIN.items()) for r in some.to_dict("records")]]
    runtime = raw.known["runtime"].reindex(plain.index)
    shortest = plain["software"].str.len().sort_values(kind="stable").index
    first = {runtime[cell]: cell for cell in reversed(shortest)}
    return {kind: first[kind] for kind in raw.known["runtime"].unique() if kind in first}


def told_of(row: pd.Series, names: list[str]) -> str:
    return ", ".join(str(row[x]) for x in names)


def printed(context: Context, start: str) -> None:
    """Print every order of one start, step by step, chosen on the first half of the rounds."""
    stacks, free = context.stacks, context.free
    joint = context.best(0)
    print(f"  start {told_of(stacks.loc[start], free)}: {np.exp(stacks.loc[start, 0]):.4g} ms")
    for order in permutations(free):
        told = []
        for layer, cell, why in context.walk(start, order, 0):
            what = f"stays ({why})" if why else f"-> {stacks.loc[cell, layer]}"
            told.append(f"{layer} {what}, {np.exp(stacks.loc[cell, 0]):.4g} ms")
        print(f"    {'; '.join(told)}")
    print(
        f"  best of all: {told_of(stacks.loc[joint], free)}: {np.exp(stacks.loc[joint, 0]):.4g} ms"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--findings", type=Path, help="default: findings.json in the folder")
    parser.add_argument("--model", required=True)
    asked = parser.parse_args()
    raw = load(asked.folder)
    found = json.loads((asked.findings or asked.folder / "findings.json").read_text())
    known = {(r["context"], r["start"]): r for r in found["tables"]["price_starts"]}
    inflation = float(found["noise"]["inflation"])
    count = wrong = 0
    for hardware, context in contexts(raw, asked.model, inflation):
        print(f"{asked.model} on {hardware}, {int(context.stacks['may'].sum())} candidates")
        for number, (runtime, start) in enumerate(starts(raw, context).items()):
            if not number:
                printed(context, start)
            price, worst = context.price(start)
            row = next(r for (c, s), r in known.items()
                       if s == runtime and f"model={asked.model}," in f"{c},"
                       and f"hardware={hardware}," in f"{c},")  # fmt: skip
            for name, told, here in (
                ("price", row["ratio"], price),
                ("worst", row["worst"], worst),
            ):
                same = told == here or (told is None and math.isnan(here)) or (
                    told is not None and abs(told - here) <= CLOSE * told)  # fmt: skip
                count, wrong = count + 1, wrong + (not same)
                said = "none" if told is None else f"{told:.4f}"
                mark = "" if same else "  DIFFERS"
                print(f"  from {runtime}, {name}: told {said}, by hand {here:.4f}{mark}")
    print(f"{count} numbers, {wrong} differ.")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
