"""Which summary of a round's runs, and of a cell's rounds, repeats best?

    python benchmarks/summaries.py out/first [out/again]
    python benchmarks/summaries.py --simulate 200

Of real folders: how far A/A controls are from their cells in all of them, and how far the second
folder is from the first, by summary; the last row is the table's ``quiet_ms``, from which the
machine's drift was taken off. Simulated: a session as in ``quiet.py``, in which each cell is
measured twice in turns, for the same time, in few long rounds or in more short ones; how far the
two are apart (the 90th percentile), and the bias against an undisturbed machine.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from quiet import BY_SOME, DURATIONS, FELT, JITTER, KINDS, LEAST_RUNS, at
from remeasure import QUIET, complete, gaps, summary, values

from dlas.core.least import OF_ROUNDS, OF_RUNS, expected_least
from dlas.tables.read import Results, read

Summary = Callable[[np.ndarray], float]


def _of(k: int) -> Summary:
    return lambda readings: float(expected_least(readings, k))


def _quantile(readings: np.ndarray) -> float:
    return float(np.quantile(readings, 0.05))


def _median(readings: np.ndarray) -> float:
    return float(np.median(readings))


def _least(readings: np.ndarray) -> float:
    return float(readings.min())


SUMMARIES: dict[str, tuple[Summary, Summary]] = {
    "median, median": (_median, _median),
    "5 % quantile, median": (_quantile, _median),
    "least, median": (_least, _median),
    "least, least": (_least, _least),
    "expected least of ten, median": (_of(OF_RUNS), _median),
    "expected least of ten, of three": (_of(OF_RUNS), _of(OF_ROUNDS)),
}
"""Of the runs of a round, of the rounds of a cell."""
SCHEMES = {"3 rounds of 250 ms": (3, 250.0), "7 rounds of 40 ms": (7, 40.0)}
"""As long together, with what a measurement costs besides."""
BESIDE_MS, CELLS = 180.0, 30


def of_cells(results: Results, name: str) -> pd.Series:
    """Return what a summary makes of each complete cell and of its controls."""
    within, over = SUMMARIES[name]
    rounds: dict[tuple[str, int], list[float]] = defaultdict(list)
    known = set(complete(results).index)
    for row in results.rounds:
        if row.samples and row.cell in known:
            rounds[row.cell, row.control].append(within(np.asarray(row.samples)))
    found = {key: over(np.asarray(each)) for key, each in rounds.items()}
    index = pd.MultiIndex.from_tuples(found, names=["cell", "control"])
    return pd.Series(list(found.values()), index=index)


def real(folders: Sequence[Path]) -> None:
    """Print the table of real folders."""
    every = read(list(folders))
    print("| summary | A/A: median, 90th percentile, most | two runs: within 5 %, 10 %, "
          "95th percentile |\n| --- | --- | --- |")  # fmt: skip
    asked = {name: partial(of_cells, name=name) for name in SUMMARIES}
    asked["`quiet_ms` of the tables"] = partial(values, metric=QUIET)
    for name, ask in asked.items():
        known = [ask(results) for results in every]
        own, other = (
            pd.concat(
                [each.xs(control, level="control") for each in known], keys=range(len(known))
            )
            for control in (0, 1)
        )
        same = summary(gaps(own, other))
        told = f"{same['median']:.1%}, {same['90th percentile']:.1%}, {same['most']:.1%}"
        again = ""
        if len(known) > 1:
            two = summary(gaps(*(each.xs(0, level="control") for each in known[:2])))
            again = f"{two['within 5 %']:.0%}, {two['within 10 %']:.0%}"
            again += f", {two['95th percentile']:.1%}"
        print(f"| {name} | {told} | {again} |", flush=True)
    pairs = sum(int((of_cells(r, "least, least").index.get_level_values("control") == 1).sum())
                for r in every)  # fmt: skip
    print(f"\n{pairs} A/A pairs; {', '.join(map(str, folders))}")


def session(rng: np.random.Generator, kind: str, scheme: str) -> dict[str, np.ndarray]:
    """Measure cells twice in turns; return by summary the logs of both over the quiet time."""
    rounds, region = SCHEMES[scheme]
    each = [max(LEAST_RUNS * ms, region) + BESIDE_MS for ms in DURATIONS]
    length = int(2 * rounds * sum(each) * CELLS / len(DURATIONS)) + 2_000
    total = np.concatenate([[0.0], np.cumsum(KINDS[kind](rng, length))])
    runs: dict[tuple[int, int], list[np.ndarray]] = defaultdict(list)
    now = 0.0
    for turn in range(2 * rounds):
        for cell in rng.permutation(CELLS).tolist():
            ms, stratum = DURATIONS[cell % 3], cell // 3 % len(FELT)
            began = now + BESIDE_MS + np.arange(max(LEAST_RUNS, int(region / ms))) * ms
            slow = (at(total, began + ms) - at(total, began)) / ms
            jitter = np.abs(rng.normal(0, JITTER[stratum], began.shape))
            runs[cell, turn % 2].append(
                np.maximum(slow, 1e-9) ** BY_SOME.get(kind, FELT)[stratum] * (1 + jitter)
            )
            now = began[-1] + ms
    found = {}
    for name, (within, over) in SUMMARIES.items():
        both = [[over(np.array([within(x) for x in runs[cell, side]])) for side in (0, 1)]
                for cell in range(CELLS)]  # fmt: skip
        found[name] = np.log(np.asarray(both))
    return found


def simulated(sessions: int) -> None:
    """Print how far two measurements are apart under each disturbance, by summary and scheme."""
    for scheme in SCHEMES:
        print(f"\n{scheme}, {sessions} sessions of each kind: the 90th percentile, and the bias\n")
        print(f"| summary | {' | '.join(KINDS)} |\n| --- {'| --- ' * len(KINDS)}|")
        rows: dict[str, list[str]] = {name: [] for name in SUMMARIES}
        for kind in KINDS:
            seen = [session(np.random.default_rng([7, s]), kind, scheme) for s in range(sessions)]
            for name, told in rows.items():
                logs = np.concatenate([each[name] for each in seen])
                apart = float(np.expm1(np.quantile(np.abs(logs[:, 0] - logs[:, 1]), 0.9)))
                told.append(f"{apart:.1%}, {np.expm1(logs.mean()):+.1%}")
        for name, told in rows.items():
            print(f"| {name} | {' | '.join(told)} |", flush=True)


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--simulate", type=int, default=0, metavar="SESSIONS")
    asked = parser.parse_args()
    if asked.simulate:
        simulated(asked.simulate)
    elif asked.folders:
        real(asked.folders)
    else:
        parser.error("give folders of a study, or --simulate SESSIONS")


if __name__ == "__main__":
    main()
