"""Verdicts on claims, recomputed by hand from a study's raw rows by pandas alone.

    dlas check studies/claims/dlas-2024.yaml out/case-study-small -o verdicts.json
    python benchmarks/verdicts.py out/case-study-small verdicts.json

Nothing of ``dlas`` is imported. Contexts, pairs and ratios are worked out anew from
``results.sqlite``; errors in another, simpler way than the analysis does: differences paired round
by round with a t interval of their own (no pooling), drops of accuracy with a normal interval
paired by image. Each verdict is printed beside the one by hand, context by context. The machine's
drift is worked out and taken off anew (``raw.py``). The exit status is 1 where a number by hand is
outside of the interval told, a context is surely so here and surely not so there, or a verdict is
another one (of a claim that would be sure if it stood alone in its file: that one).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sentences import LAYERS, Raw, load

SURE = 0.025
Rows = pd.DataFrame
"""By context: ``value``, ``low``, ``high``, and the one-sided p values ``yes`` and ``no``."""


def paired(raw: Raw, first: pd.Series, second: pd.Series, weights: float = 1.0) -> pd.Series:
    """Return the differences of logarithms of two lists of cells, round by round, their mean."""
    wide = raw.rounds.pivot(index="round", columns="cell", values="log")
    each = [wide[a] - wide[b] for a, b in zip(first, second, strict=True)]
    return (pd.concat(each, axis=1).mean(axis=1) * weights).dropna()


def row(value: float, differences: pd.Series, shift: float = 0.0) -> dict[str, float]:
    """Return a log ratio with its interval, and how sure it is that it is below or above zero."""
    se = float(differences.std(ddof=1) / math.sqrt(len(differences)))
    df = len(differences) - 1
    half = float(stats.t.ppf(1 - SURE, df)) * se
    middle = value + shift
    return {
        "value": math.exp(middle), "low": math.exp(middle - half),
        "high": math.exp(middle + half), "below": float(stats.t.cdf(middle / se, df)),
        "above": float(stats.t.sf(middle / se, df)),
    }  # fmt: skip


def names(context: Any, columns: list[str]) -> str:
    """Return a context in words, as the report of dlas orders it."""
    values = context if isinstance(context, tuple) else (context,)
    return ", ".join(f"{c}={v}" for c, v in zip(columns, values, strict=True))


# ---------------------------------------------------------------- the claims


def ratios(raw: Raw, level: str, base: str, cost: str = "") -> Rows:
    """Return by context how many times as fast a choice of the optimization is as another one.

    ``cost`` divides it by the ratio of a column, the promise. ``level`` is what its name begins
    with: of several such choices in one context the mean counts.
    """
    others = [x for x in LAYERS if x != "optimization"]
    out = {}
    for context, cells in raw.done.groupby(others):
        base_cells = cells[cells["optimization"] == base]
        mine = cells[cells["optimization"].str.startswith(level)]
        if len(base_cells) != 1 or not len(mine):
            continue
        one = base_cells.iloc[0]
        value = float(np.log(one["quiet_ms"] / mine["quiet_ms"]).mean())
        shift = -float(np.log(one[cost] / mine[cost]).mean()) if cost else 0.0
        gaps = paired(raw, pd.Series([one["cell"]] * len(mine)), mine["cell"])
        out[names(context, others)] = row(value, gaps, shift)
    return pd.DataFrame(out).T


def h2(raw: Raw) -> Rows:
    """Eight bits slower than float32 in TVM: the speed-up is below 1."""
    found = ratios(raw, "int8", "none")
    found = found[[", software=tvm" in context for context in found.index]]
    return found.assign(yes=found["below"], no=found["above"])


def h5(raw: Raw) -> Rows:
    """The speed-up of channel pruning is below what its multiply-accumulates promise."""
    found = ratios(raw, "channel-pruning", "none", "macs")
    return found.assign(yes=found["below"], no=found["above"])


def h1(raw: Raw) -> Rows:
    """CSR is still worse than dense at 60 % of zeros, or somewhere beyond."""
    zeros = raw.done["optimization"].str.extract(r"sparsity=([\d.]+)", expand=False)
    csr = raw.done["algorithm"].str.contains("weights=csr")
    cells = raw.done.assign(sparsity=zeros.astype(float), csr=csr)
    cells = cells[cells["sparsity"].notna() & cells["algorithm"].str.startswith("spatial-pack")]
    columns = ["dataset", "model", "software", "hardware"]
    out = {}
    for context, some in cells.groupby(columns):
        both = some.pivot(index="sparsity", columns="csr", values="cell").dropna()
        if len(both) < 2:
            continue
        quiet = some.set_index("cell")["quiet_ms"]
        curve = [
            math.log(quiet[a] / quiet[b]) for a, b in zip(both[True], both[False], strict=True)
        ]
        gaps = [paired(raw, pd.Series([a]), pd.Series([b]))
                for a, b in zip(both[True], both[False], strict=True)]  # fmt: skip
        xs = both.index.to_numpy()
        i = int(np.searchsorted(xs, 0.6))
        share = (0.6 - xs[i - 1]) / (xs[i] - xs[i - 1])
        value = (1 - share) * curve[i - 1] + share * curve[i]
        at = row(value, ((1 - share) * gaps[i - 1] + share * gaps[i]).dropna())
        beyond = [at, *(row(v, g) for v, g in zip(curve[i:], gaps[i:], strict=True))]
        at["yes"] = len(beyond) * min(each["above"] for each in beyond)
        at["no"] = max(each["below"] for each in beyond)
        out[names(context, columns)] = at
    return pd.DataFrame(out).T


def drops(raw: Raw, model: str) -> Rows:
    """Return the accuracy that each pruning loses on networks of a kind."""
    cells = raw.done[raw.done["model"].str.contains(model)]
    cells = cells[cells["optimization"].str.contains("pruning")]
    error = np.sqrt((cells["changed"] / cells["seen"] - cells["drop"] ** 2) / cells["seen"])
    out = cells.assign(error=error).groupby("optimization")[["drop", "error"]].mean()
    out.index = [f"optimization={x}" for x in out.index]
    z = stats.norm.ppf(1 - SURE)
    score = (out["drop"] - 0.02) / out["error"]
    return pd.DataFrame({
        "value": out["drop"], "low": out["drop"] - z * out["error"],
        "high": out["drop"] + z * out["error"],
        "above": stats.norm.sf(score), "below": stats.norm.cdf(score),
    })  # fmt: skip


def h6_mobile(raw: Raw) -> Rows:
    """MobileNets lose more than two points by pruning."""
    found = drops(raw, "mobilenet")
    return found.assign(yes=found["above"], no=found["below"])


def h6_residual(raw: Raw) -> Rows:
    """ResNets lose less than two points by pruning."""
    found = drops(raw, "resnet")
    return found.assign(yes=found["below"], no=found["above"])


@dataclass(frozen=True)
class ByHand:
    """The tests of one claim, and in how many contexts each has to hold."""

    tests: tuple[Callable[[Raw], Rows], ...]
    how: str


CLAIMS = {
    "H1": ByHand((h1,), "most"),
    "H2": ByHand((h2,), "some"),
    "H5": ByHand((h5,), "most"),
    "H6": ByHand((h6_mobile, h6_residual), "most"),
}


# ---------------------------------------------------------------- side by side


def sure(one: pd.Series) -> str:
    return "yes" if one["yes"] < SURE else "no" if one["no"] < SURE else "undecided"


def decided(found: Rows, how: str) -> str:
    """Return what a quantifier makes of the contexts by hand, each at 95 %."""
    return quantified([sure(one) for _, one in found.iterrows()], how)


def quantified(said: list[str], how: str) -> str:
    """Return what a quantifier makes of what is said of each context."""
    yes, no, n = said.count("yes"), said.count("no"), len(said)
    if n < 3:
        return "cannot tell"
    if how == "some":
        return "reproduced" if yes else "not reproduced" if no == n else "cannot tell"
    return "reproduced" if 2 * yes > n else "not reproduced" if 2 * no >= n else "cannot tell"


def together(verdicts: list[str]) -> str:
    """Return the verdict on a claim of several tests, all of which must hold."""
    for worst in ("not reproduced", "cannot tell"):
        if worst in verdicts:
            return worst
    return "reproduced"


def alone(one: dict[str, Any], how: str) -> str:
    """Return the verdict that dlas told, of a claim that is sure if it stood alone that one.

    By hand each claim stands alone; `dlas check` holds the error over all claims of the file.
    """
    if "sure if it stood alone" not in one["reason"]:
        return str(one["verdict"])
    return together([quantified([c["answer"] for c in t["contexts"]], how) for t in one["tests"]])


def compare(told: dict[str, Any], found: Rows) -> int:
    """Print a test's contexts side by side; return how many differ."""
    wrong = 0
    said = {names(tuple(c["context"].values()), list(c["context"])): c for c in told["contexts"]}
    for context in sorted({*said, *found.index}):
        if context not in said or context not in found.index:
            print(f"    {context}: only {'told' if context in said else 'by hand'}  DIFFERS")
            wrong += 1
            continue
        a, b = said[context], found.loc[context]
        close = a["low"] <= b["value"] <= a["high"] and {a["answer"], sure(b)} != {"yes", "no"}
        wrong += not close
        print(
            f"    {context}\n"
            f"        dlas {a['value']:.4g} ({a['low']:.4g} to {a['high']:.4g}) {a['answer']}; "
            f"by hand {b['value']:.4g} ({b['low']:.4g} to {b['high']:.4g}) {sure(b)}"
            f"{'' if close else '  DIFFERS'}"
        )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("verdicts", type=Path, help="what `dlas check ... -o FILE.json` wrote")
    asked = parser.parse_args()
    raw, judged = load(asked.folder), json.loads(asked.verdicts.read_text())
    wrong = 0
    for one in judged["claims"]:
        hand = CLAIMS.get(one["id"])
        if hand is None:
            continue
        tables = [test(raw) for test in hand.tests]
        verdict = together([decided(found, hand.how) for found in tables])
        own = alone(one, hand.how)
        same = verdict == own
        wrong += not same
        print(f"{one['id']}. {one['claim']}")
        for told, found in zip(one["tests"], tables, strict=True):
            print(f"  {told['test']}")
            wrong += compare(told, found)
        among = "" if own == one["verdict"] else f" (alone: {own})"
        told_verdict = f"{one['verdict']}{among}"
        print(f"  dlas: {told_verdict}; by hand: {verdict}{'' if same else '  DIFFERS'}\n")
    print(f"{len(CLAIMS)} claims recomputed by hand, {wrong} differences.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
