"""Do the numbers repeat? A/A controls, rounds in turns, and two runs of one study, by estimator.

    dlas run studies/quickstart.yaml --out out/again --store out/quickstart/store --remeasure
    python benchmarks/remeasure.py out/quickstart [out/again] [--json FILE]

Printed, for latency as seen (the median of the rounds' medians) and undisturbed (the expected
least of three rounds of the expected least of ten runs, less the machine's drift): how far A/A
controls differ from their cells in all folders given; how far the even and the odd rounds of the
first folder differ, each as if the other had not been; how far the second folder differs from the
first; and how many second values lie in the first's 95 % prediction interval. As a natural null,
the share of weight-pruned and unpruned pairs on dense float32 runtimes that are called different
(dense kernels do not look at zeros).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dlas.core.drift import drift
from dlas.core.least import OF_ROUNDS, expected_least
from dlas.tables import cells_frame, rounds_frame

Rounds = pd.DataFrame
SEEN, QUIET = "latency_ms", "quiet_ms"
OVER_ROUNDS: dict[str, Callable[[Any], float]] = {
    SEEN: lambda values: float(np.median(values)),
    QUIET: lambda values: float(np.exp(expected_least(np.log(np.asarray(values)), OF_ROUNDS))),
}


def values(rounds: Rounds, metric: str) -> pd.Series:
    """Return what the rounds of each cell and control come to."""
    good = rounds[rounds[metric].notna()]
    if metric == QUIET:
        good = steady(good)
    return good.groupby(["cell", "control"])[metric].agg(OVER_ROUNDS[metric])


def steady(rounds: Rounds) -> Rounds:
    """Take the drift of the machine off, session by session, as the tables do."""
    rounds = rounds.sort_values("created_at").reset_index(drop=True)
    log = np.log(rounds[QUIET].to_numpy(dtype=float))
    unit = rounds.groupby(["cell", "control"]).ngroup().to_numpy()
    one = np.zeros(len(log), dtype=int)
    session = rounds.groupby("session").ngroup().to_numpy()
    log -= drift(log, unit, np.arange(len(log)), one, session).at
    return rounds.assign(**{QUIET: np.exp(log)})


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


def controls(every: Sequence[Rounds], metric: str) -> pd.Series:
    """Return how far the A/A controls of all folders are from their cells."""
    found = []
    for rounds in every:
        known = values(rounds, metric)
        own, other = known.xs(0, level="control"), known.xs(1, level="control")
        found.append(gaps(own, other))
    return pd.concat(found)


def halves(rounds: Rounds, metric: str) -> pd.Series:
    """Return how far even and odd rounds of one session are apart; controls left out."""
    own = rounds[rounds["control"] == 0]
    even, odd = (values(own[own["round"] % 2 == side], metric) for side in (0, 1))
    return gaps(even, odd).droplevel("control")


def runs(first: Rounds, second: Rounds, metric: str) -> pd.Series:
    """Return how far two runs are apart, by cell."""
    one, two = (values(r[r["control"] == 0], metric).droplevel("control") for r in (first, second))
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


def complete(folder: Path) -> pd.DataFrame:
    """Return the complete cells of a folder."""
    frame = cells_frame([folder])
    return frame[(frame["status"] == "complete") & frame[SEEN].notna()].set_index("cell")


def main() -> None:
    """Print everything as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path, nargs="?")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    folders = [f for f in (wanted.first, wanted.second) if f is not None]
    cells = [complete(f) for f in folders]
    rounds = [rounds_frame([f]) for f in folders]
    rounds = [r[r["cell"].isin(c.index)] for r, c in zip(rounds, cells, strict=True)]
    threads = cells[0]["hardware.threads"]
    found: dict[str, Any] = {}
    for metric in (SEEN, QUIET):
        one: dict[str, Any] = {"A/A": summary(controls(rounds, metric))}
        one["rounds in turns"] = told(halves(rounds[0], metric), threads)
        if len(folders) > 1:
            one["two runs"] = told(runs(*rounds, metric), threads)
            one["inside the prediction interval"] = prediction(*cells, metric)
        one["null"] = [null(each, metric) for each in cells]
        found[metric] = one
    print(json.dumps(found, indent=1))
    if wanted.json:
        wanted.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
