"""How good the model and the samplers of ``dlas explore`` are, on finished tables.

    python benchmarks/explore.py models TABLES
    python benchmarks/explore.py search TABLES dlas,random,tpe,nsga2
    python benchmarks/explore.py search TABLES gp --seeds 10 --cap 120
    python benchmarks/explore.py front out/quickstart --seeds 20
    python benchmarks/explore.py speed

TABLES is the folder with the five tables of configurable systems of "Predicting Software
Performance with Divide-and-Learn" (Gong and Chen, ESEC/FSE 2023; repository ideas-labo/DaL).
``models``: the model's error on what it did not see, from random draws, beside that of DaL.
``search``: distinct stacks measured until one is within 1 % of the best, the start included.
``front``: the share of a study's hypervolume after each budget, and how many make 99 %.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean, median

import numpy as np
import threadpoolctl

from dlas.core.goals import Goals
from dlas.core.sampler import Axis, StackSpace
from dlas.explore import ended, names, surrogate
from dlas.explore.improvement import expected, free
from dlas.explore.replay import Finished, play

SYSTEMS = {
    "x264": "x264_AllNumeric.csv",
    "BDB-C": "BDBC_AllNumeric.csv",
    "VP8": "VP8.csv",
    "Apache": "Apache_AllNumeric.csv",
    "HSMGP": "hsmgp_AllNumeric.csv",
}
MAXIMIZED = ("Apache",)
DAL = {
    "x264": {16: 8.0, 48: 1.7, 80: 0.8},
    "BDB-C": {54: 5.7, 90: 2.1},
    "VP8": {121: 1.6},
    "HSMGP": {77: 4.7, 173: 2.7},
    "Apache": {27: 7.2, 45: 6.0},
}
"""Published: median over 30 draws of the mean relative error in %."""
CAP = 400
CAPS = {"Apache": 192}


def table(folder: Path, system: str) -> Finished:
    path = folder / SYSTEMS[system]
    with path.open() as handle:
        *layers, metric = handle.readline().strip().split(",")
    best = Goals(maximize=(metric,)) if system in MAXIMIZED else Goals(minimize=(metric,))
    return ended.of_table(path, layers, best)


def models(folder: Path, draws: int) -> None:
    ratios = []
    for system, published in DAL.items():
        finished = table(folder, system)
        for n, dal in published.items():
            errors = [
                finished.error(play(finished, names.find("random"), seed, n))
                for seed in range(draws)
            ]
            ratios.append(median(errors) / dal)
            print(
                f"{system:<7} {n:>4} stacks: median error {median(errors):5.2f} %, DaL {dal:4.1f} "
                f"%, ratio {ratios[-1]:.2f}, worst draw {max(errors):.2f} %",
                flush=True,
            )
    print(f"geometric mean of the ratios {geometric_mean(ratios):.3f}, largest {max(ratios):.2f}")


def search(folder: Path, samplers: Sequence[str], seeds: int, cap: int) -> None:
    for name in samplers:
        for system in SYSTEMS:
            finished, most = table(folder, system), min(cap, CAPS.get(system, CAP))
            began = time.perf_counter()
            counts = []
            for seed in range(seeds):
                order = play(finished, names.find(name), seed, most, stop=finished.found)
                counts.append(len(order))
            each = (time.perf_counter() - began) / seeds
            print(
                f"{name:<7} {system:<7} median {median(counts):6.1f}, from {min(counts)} to "
                f"{max(counts)}, at the cap {sum(c >= most for c in counts)} of {seeds}, "
                f"{each:.1f} s a run",
                flush=True,
            )


def front(folder: Path, samplers: Sequence[str], seeds: int) -> None:
    finished = ended.of_folder(folder, Goals())
    among = len(finished.candidates)
    print(f"{among} stacks, {int(finished.good.sum())} meet the limits")
    budgets = [max(1, round(share * among)) for share in (0.02, 0.05, 0.1, 0.15)]
    for name in samplers:

        def ended_at(order: list[int]) -> bool:
            return len(order) >= budgets[-1] and finished.found(order)

        orders, reached = [], []
        for seed in range(seeds):
            orders.append(play(finished, names.find(name), seed, among, stop=ended_at))
            reached.append(finished.enough(orders[-1]) or among)
            print(f"{name} {seed}: 99 % after {reached[-1]}", file=sys.stderr, flush=True)
        shares = [[finished.share(order[:n]) for order in orders] for n in budgets]
        told = ", ".join(
            f"{n}: {median(each):.3f} (worst {min(each):.3f})"
            for n, each in zip(budgets, shares, strict=True)
        )
        print(
            f"{name:<7} {told}; 99 % after {median(reached):.1f} "
            f"({median(reached) / among:.1%}), from {min(reached)} to {max(reached)}",
            flush=True,
        )


def speed() -> None:
    rng = np.random.default_rng(0)
    axes = tuple(Axis(f"f{i}", ("0", "1")) for i in range(16))
    codes = np.unique(rng.integers(0, 2, (16_000, 16)), axis=0)[:13_000]
    candidates = StackSpace(axes, codes)
    at = rng.permutation(len(codes))[:200]
    values = codes[at] @ rng.normal(size=16) / 4 + codes[at, 0] * codes[at, 1]
    began = time.perf_counter()
    model = surrogate.fit(candidates, at, values + 0.01 * rng.normal(size=200))
    fitted = time.perf_counter()
    beliefs = [model.predict()] * 2
    points = np.stack([values, -values], axis=1)
    gains = expected(beliefs, free(points, points.max(0) + 0.1))
    ended_at = time.perf_counter()
    print(
        f"200 stacks of 16 factors fitted in {fitted - began:.2f} s; the best of {len(codes)} "
        f"({int(gains.argmax())}) chosen in {ended_at - fitted:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("models", "search", "front", "speed"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("samplers", nargs="?", default="dlas,random,tpe,nsga2")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--cap", type=int, default=CAP)
    asked = parser.parse_args()
    samplers = asked.samplers.split(",")
    with threadpoolctl.threadpool_limits(1):
        if asked.what == "speed":
            speed()
        elif asked.what == "models":
            models(asked.folder, asked.seeds)
        elif asked.what == "search":
            search(asked.folder, samplers, asked.seeds, asked.cap)
        else:
            front(asked.folder, samplers, asked.seeds)


if __name__ == "__main__":
    main()
