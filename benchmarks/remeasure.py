"""Do the numbers repeat? A/A controls, rounds in turns, and two runs of one study, by estimator.

    dlas run studies/quickstart.yaml --out out/again --store out/quickstart/store --remeasure
    python benchmarks/remeasure.py out/quickstart [out/again] [--json FILE]

Printed, for latency as seen (the median of the rounds' medians) and undisturbed, both as the
tables show them: how far A/A controls differ from their cells in all folders given; how far the
even and the odd rounds of the first folder differ, each as if the other had not been (from four
rounds on); how far the second folder differs from the first; and how many second values lie in the
first's 95 % prediction interval. As a natural null, the share of weight-pruned and unpruned pairs
on dense float32 runtimes that are called different (dense kernels do not look at zeros).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dlas.tables import cells_frame, rounds_frame
from dlas.tables.fitted import Fit, fits
from dlas.tables.read import Results, read

SEEN, QUIET = "latency_ms", "quiet_ms"


def values(results: Results, metric: str) -> pd.Series:
    """Return what the tables show of each complete cell, and the same of its controls.

    The index is ``cell, control``. ``quiet_ms`` is that of the tables' fit (:mod:`dlas.tables`),
    ``latency_ms`` the median of the rounds' medians.
    """
    if metric == SEEN:
        rounds = rounds_frame([results])
        good = rounds[rounds[SEEN].notna()]
        found = good.groupby(["cell", "control"])[SEEN].median()
    else:
        found = pd.concat([_quiet(fit) for fit in fits(results, QUIET)])
    known = complete(results).index
    return found[found.index.get_level_values("cell").isin(known)]


def _quiet(fit: Fit) -> pd.Series:
    """Return the undisturbed latencies of a host's cells and controls, as they were fitted."""
    names = ["cell", "control"]
    if fit.estimates is None:
        return pd.Series(index=pd.MultiIndex.from_tuples([], names=names), dtype=float)
    cells = np.asarray(fit.cells, dtype=object)
    pairs = fit.estimates.controls
    row = pairs["row"].to_numpy(dtype=int)
    own = pd.MultiIndex.from_product([cells, [0]], names=names)
    doubles = pd.MultiIndex.from_arrays([cells[row], pairs["control"].astype(int)], names=names)
    quiet = np.exp(fit.estimates.mean)
    ratio = pairs["ratio"].to_numpy(dtype=float)
    both = [pd.Series(quiet, index=own), pd.Series(quiet[row] * ratio, index=doubles)]
    return pd.concat(both).dropna()


def gaps(a: pd.Series, b: pd.Series) -> pd.Series:
    """Return by how much two readings of the same things differ, as logs of ratios."""
    both = a.index.intersection(b.index)
    return np.log(b.loc[both] / a.loc[both])


def summary(log: pd.Series) -> dict[str, float]:
    """Return the usual figures of how far apart pairs are."""
    far = np.expm1(log.abs())
    return {
        "pairs": len(far),
        "median": float(far.median()),
        "90th percentile": float(far.quantile(0.9)),
        "95th percentile": float(far.quantile(0.95)),
        "most": float(far.max()),
        "within 5 %": float((far <= 0.05).mean()),
        "within 8 %": float((far <= 0.08).mean()),
        "within 10 %": float((far <= 0.10).mean()),
    }


def controls(every: Sequence[Results], metric: str) -> pd.Series:
    """Return how far the A/A controls of all folders are from their cells."""
    found = []
    for results in every:
        known = values(results, metric)
        own, other = known.xs(0, level="control"), known.xs(1, level="control")
        found.append(gaps(own, other))
    return pd.concat(found)


def halves(results: Results, metric: str) -> pd.Series:
    """Return how far even and odd rounds of one folder are apart, each as if alone, by cell."""
    even, odd = (
        replace(results, rounds=[r for r in results.rounds if r.round % 2 == side], remembered={})
        for side in (0, 1)
    )
    return runs(even, odd, metric)


def runs(first: Results, second: Results, metric: str) -> pd.Series:
    """Return how far two runs are apart, by cell."""
    one, two = (values(each, metric).xs(0, level="control") for each in (first, second))
    return gaps(one, two)


def told(log: pd.Series, threads: pd.Series) -> dict[str, Any]:
    """Return the figures over all cells, and by thread count."""
    of = threads.reindex(log.index)
    return {"all": summary(log)} | {
        f"{n} thread{'s' if n > 1 else ''}": summary(log[of == n]) for n in sorted(of.unique())
    }


def prediction(first: pd.DataFrame, second: pd.DataFrame, metric: str) -> float:
    """Return the share of second values inside the first's prediction interval."""
    both = first.index.intersection(second.index)
    a, b = first.loc[both], second.loc[both]
    stem = metric.removesuffix("_ms")
    # The interval of an estimate; a second estimate has the same error again.
    half = np.log(a[f"{stem}_high_ms"] / a[f"{stem}_low_ms"]) / 2 * math.sqrt(2)
    return float((np.log(b[metric] / a[metric]).abs() <= half).mean())


def null(frame: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Return how many weight-pruned cells are called different from the same cell unpruned."""
    stem = metric.removesuffix("_ms")
    dense = frame[(frame["ran_precision"] == "float32") & frame["optimization"].notna()]
    key = ["dataset", "model", "algorithm", "software", "hardware"]
    plain = dense[dense["optimization"] == "none"].set_index(key)
    pruned = dense[dense["optimization"].str.fullmatch(r"weight-pruning(\(.*\))?")]
    pairs = different = 0
    for _, row in pruned.iterrows():
        place = tuple(row[k] for k in key)
        if place not in plain.index:
            continue
        mate = plain.loc[[place]].iloc[0]
        both = (row, mate)
        widths = [math.log(r[f"{stem}_high_ms"] / r[f"{stem}_low_ms"]) / 2 for r in both]
        pairs += 1
        different += abs(math.log(row[metric] / mate[metric])) > math.hypot(*widths)
    return {"pairs": pairs, "called different": different / pairs if pairs else None}


def complete(results: Results) -> pd.DataFrame:
    """Return the complete cells of a folder."""
    frame = cells_frame([results])
    return frame[(frame["status"] == "complete") & frame[SEEN].notna()].set_index("cell")


def main() -> None:
    """Print everything as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path, nargs="?")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    every = read([f for f in (wanted.first, wanted.second) if f is not None])
    for results in every:
        if len({host for _, host in results.rounds_of}) > 1:
            parser.error(f"{results.folder}: has rounds of several hosts; give one host's folder")
    cells = [complete(results) for results in every]
    threads = cells[0]["hardware.threads"]
    found: dict[str, Any] = {}
    for metric in (SEEN, QUIET):
        one: dict[str, Any] = {"A/A": summary(controls(every, metric))}
        if all(len(rows) > 3 for rows in every[0].rounds_of.values() if rows):
            one["rounds in turns"] = told(halves(every[0], metric), threads)
        if len(every) > 1:
            one["two runs"] = told(runs(every[0], every[1], metric), threads)
            one["inside the prediction interval"] = prediction(*cells, metric)
        one["null"] = [null(each, metric) for each in cells]
        found[metric] = one
    print(json.dumps(found, indent=1))
    if wanted.json:
        wanted.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
