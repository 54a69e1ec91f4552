"""How long an analysis and a report of 2,000 cells take, and how much memory.

Makes an output folder of 2,000 cells over all six layers (the synthetic study of the report's
tests, grown), then runs `dlas analyze` and `dlas report` on it, each in a process of its own,
and prints seconds of wall clock and of processor, the peak of memory and the page's size.

    python benchmarks/large.py [--cells 2000] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fakes"))
import made_study

DATASETS = ("fashion-mnist", "digits")
THREADS = (1, 2, 4, 8)


def make(folder: Path, cells: int) -> int:
    """Fill a folder with so many cells and return how many they are."""
    for index in range(4):
        made_study.MODELS[f"net-{index}"] = (1.0 + index, 1e7 * (1 + index), 0.9 - 0.01 * index)
    plain = product(
        made_study.MODELS, made_study.PIPELINES, made_study.SOFTWARE, THREADS, ["native"]
    )
    floats = ("none", "weight-pruning", "channel-pruning")
    algorithms = product(made_study.MODELS, floats, ["tvm"], THREADS, ["direct", "gemm"])
    each = [*plain, *algorithms]
    left = cells
    for dataset in DATASETS:
        chosen = each[:left]
        left -= len(chosen)
        made_study.fill(folder, made_study.rows(chosen, dataset=dataset))
    return cells - left


def run(*command: str) -> None:
    """Run a command of dlas and print what it took."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "dlas.cli", *command], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(
            f"dlas {' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}"
        )
    processor = used.ru_utime + used.ru_stime
    print(
        f"dlas {command[0]}: {seconds:.1f} s ({processor:.1f} s of processor), "
        f"peak {used.ru_maxrss * 1024 / 1e6:.0f} MB"
    )


def main() -> None:
    """Make the folder and time the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary) / "large"
        print(f"{make(folder, given.cells)} cells")
        run("analyze", str(folder))
        page = folder / "report.html"
        run("report", str(folder), "-o", str(page))
        print(f"the page: {page.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
