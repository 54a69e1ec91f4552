"""Do the numbers repeat? Two runs of one study on the same artefacts, compared.

    dlas run studies/quickstart.yaml --out out/again --store out/quickstart/store --remeasure
    python benchmarks/remeasure.py out/quickstart out/again [--json FILE]

Printed: the share of cells whose second latency is within 10 % (one thread) or 20 % (more) of the
first; the share of second values inside the first run's 95 % prediction interval; and, as a
natural null, the share of weight-pruned and unpruned pairs on dense float32 runtimes that are
called different (dense kernels do not look at zeros, so they should not be).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dlas.tables import cells_frame

WITHIN = {"one thread": 0.10, "more threads": 0.20}


def complete(folder: Path) -> pd.DataFrame:
    frame = cells_frame([folder])
    frame = frame[(frame["status"] == "complete") & frame["latency_ms"].notna()]
    return frame.set_index("cell")


def repeats(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """Return how the second run's latencies lie to the first's."""
    both = first.index.intersection(second.index)
    a, b = first.loc[both], second.loc[both]
    log = np.log(b["latency_ms"] / a["latency_ms"])
    # The interval of an estimate; a second estimate has the same error again.
    half = np.log(a["latency_high_ms"] / a["latency_low_ms"]) / 2 * math.sqrt(2)
    one = a["hardware.threads"] == 1
    found: dict[str, Any] = {"cells": len(both), "median_ratio": float(np.exp(log.median()))}
    for name, rows in (("one thread", one), ("more threads", ~one)):
        limit = math.log1p(WITHIN[name])
        found[f"within, {name}"] = float((log[rows].abs() <= limit).mean())
        found[f"cells, {name}"] = int(rows.sum())
    found["inside the prediction interval"] = float((log.abs() <= half).mean())
    return found


def null(frame: pd.DataFrame) -> dict[str, Any]:
    """Return how many weight-pruned cells are called different from the same cell unpruned."""
    dense = frame[(frame["ran_precision"] == "float32") & frame["optimization"].notna()]
    key = ["dataset", "model", "algorithm", "software", "hardware"]
    plain = dense[dense["optimization"] == "none"].set_index(key)
    pairs = different = 0
    for _, row in dense[
        dense["optimization"].str.fullmatch(r"weight-pruning(\(.*\))?")
    ].iterrows():
        place = tuple(row[k] for k in key)
        if place not in plain.index:
            continue
        mate = plain.loc[[place]].iloc[0]
        gap = abs(math.log(row["latency_ms"] / mate["latency_ms"]))
        halves = [math.log(r["latency_high_ms"] / r["latency_low_ms"]) / 2 for r in (row, mate)]
        pairs += 1
        different += gap > math.hypot(*halves)
    return {"pairs": pairs, "called different": different / pairs if pairs else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    first, second = complete(wanted.first), complete(wanted.second)
    found = {
        "repeats": repeats(first, second),
        "null, first run": null(first),
        "null, second run": null(second),
    }
    print(json.dumps(found, indent=1))
    if wanted.json:
        wanted.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
