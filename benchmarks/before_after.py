"""Whether networks became slower between two commits: both sides alive, in turns of milliseconds.

    python benchmarks/before_after.py --before e126789 --models resnet18 mobilenetv2_100

Each commit builds the network in a process of its own, once; then the two run in turns, in random
order, and each turn gives one ratio, after over before. A shared machine changes its speed within
seconds, so that two runs of `models.py`, one after the other, do not tell two per cent.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np
from local_engine import SIDES, trees

SERVE = """
import sys, time
import numpy as np
from models import EVERYONE, make

name, size, threads, *runtimes = sys.argv[1:]
x = np.random.default_rng(0).standard_normal((1, 3, int(size), int(size))).astype(np.float32)
model = make(name, int(size), 0.0, False)
runs = {runtime: EVERYONE[runtime](model, x, int(threads)) for runtime in runtimes}
print("ready", flush=True)
for line in sys.stdin:
    run, took = runs[line.strip()], []
    run(x)  # the other side's data is out of the cache again
    for _ in range(3):
        began = time.perf_counter()
        run(x)
        took.append(time.perf_counter() - began)
    print(min(took), flush=True)
"""


class Side:
    """A commit's programs of one network, waiting to be run."""

    def __init__(self, source: Path, given: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE, *given], cwd=source.parent / "benchmarks", text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(source)},
        )  # fmt: skip

    def ready(self) -> None:
        """Wait until everything is built."""
        while self._line() != "ready":
            pass

    def run(self, runtime: str) -> float:
        """Return the seconds of one run, the best of three in a row."""
        stdin: IO[str] = self._process.stdin  # type: ignore[assignment]
        stdin.write(runtime + "\n")
        stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _line(self) -> str:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit(f"a side ended by itself (exit code {self._process.wait()})")
        return line.strip()


def compare(sources: dict[str, Path], given: argparse.Namespace, model: str) -> None:
    """Print a row for a network: the median of ratios of each runtime, and where most lie."""
    told = [model, str(given.size), str(given.threads), *given.runtimes]
    sides = {}
    try:
        for side in SIDES:  # one after the other: building has both processors
            sides[side] = Side(sources[side], told)
            sides[side].ready()
        for runtime in given.runtimes:
            ratios, before = [], []
            for _ in range(given.rounds):
                seen = {}
                for side in random.sample(SIDES, 2):
                    time.sleep(0.005)  # threads that wait busily have stopped
                    seen[side] = sides[side].run(runtime)
                ratios.append(seen["after"] / seen["before"])
                before.append(seen["before"])
            low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
            print(
                f"| {model} | {runtime} | {1e3 * statistics.median(before):.2f} | {middle:.3f} | "
                f"{low:.3f} to {high:.3f} |",
                flush=True,
            )
    finally:
        for each in sides.values():
            each.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True, metavar="COMMIT")
    parser.add_argument("--after", default="HEAD", metavar="COMMIT")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument(
        "--runtimes", nargs="+", default=["dlas-spatial-pack", "dlas-winograd", "dlas-gemm"]
    )
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    given = parser.parse_args()
    print("| network | runtime | before, ms | after / before | half of the turns |")
    print("| --- | --- | --- | --- | --- |")
    with trees(given.before, given.after) as sources:
        for model in given.models:
            compare(dict(sources), given, model)


if __name__ == "__main__":
    main()
