"""An exploration for real, killed twice by ``kill -9`` and taken up: is anything lost or other?

    python benchmarks/killed.py studies/wide.yaml out/killed --full out/wide --budget 15%

Explores the study in a new folder, killed after a fifth and after two fifths of the stacks that
the budget allows, and never before the first. Then: were all rows there at a kill kept as they
were (nothing measured twice), does the chooser, replayed over the stored rows, name the same
stacks in the same order as they were measured in, without measuring anything, how long does
choosing take, and which share of the hypervolume of the whole study (``--full``: the folder of
``dlas run`` on it) do the stacks named hold, valued by the whole run? Exits with 1 where one of
these is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from dlas.core.goals import Goals
from dlas.explore import ended
from dlas.explore.allowance import parse_budget
from dlas.explore.live import BATCH
from dlas.store.results import FILE_NAME, ResultStore, RoundRow

SHARE = 0.99
MOST_S = 0.2
"""What choosing one stack may take."""
Rows = dict[tuple[str, int, int], str]


def rows(out: Path) -> Rows:
    """Return when each round was measured, by cell, control and number."""
    if not (out / FILE_NAME).exists():
        return {}
    with ResultStore(out / FILE_NAME, read_only=True) as store:
        return {(r.cell, r.control, r.round): r.created_at for r in store.rows(RoundRow)}


def first(found: Rows) -> dict[str, str]:
    """Return when each stack was measured first."""
    return {cell: at for (cell, control, number), at in found.items() if control == number == 0}


def command(asked: argparse.Namespace) -> list[str]:
    return [sys.executable, "-m", "dlas.cli", "explore", str(asked.study), "--out",
            str(asked.out), "--budget", asked.budget, "--seed", str(asked.seed), "-q",
            "--format", "json"]  # fmt: skip


def killed_after(asked: argparse.Namespace, stacks: int) -> Rows:
    """Explore until so many stacks were measured, kill it, and return what was there then."""
    process = subprocess.Popen(command(asked), stdout=subprocess.DEVNULL)
    while process.poll() is None and len(first(rows(asked.out))) < stacks:
        time.sleep(0.3)
    if process.poll() is not None:
        raise SystemExit(f"it ended by itself ({process.returncode}) before {stacks} stacks")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(3)  # its children end within two seconds
    found = rows(asked.out)
    print(f"killed with {len(first(found))} stacks and {len(found)} rounds stored", flush=True)
    return found


def to_the_end(asked: argparse.Namespace) -> dict[str, Any]:
    done = subprocess.run(command(asked), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def in_batches(order: list[str], found: Rows) -> bool:
    """Say whether stacks were measured batch after batch in the order in which they are named."""
    at = first(found)
    times = [[at[cell] for cell in order[i : i + BATCH] if cell in at]
             for i in range(0, len(order), BATCH)]  # fmt: skip
    times = [each for each in times if each]
    return all(max(one) <= min(two) for one, two in pairwise(times))


def kills(budget: str, among: int) -> list[int]:
    """Return after how many stacks it is killed: early, since it may end before its budget does.

    Before the first stack there are no rows that a kill could lose.
    """
    most = parse_budget(budget).count(among)
    return [max(1, most * part // 5) for part in (1, 2)]


def shares(finished: ended.Finished, order: list[str], left: list[str]) -> tuple[float, float]:
    """Return the share of the whole study's hypervolume of what was measured, and of the front."""
    at = {cell: place for place, cell in enumerate(finished.cells)}
    named = [[at[cell] for cell in cells if cell in at] for cells in (order, left)]
    return finished.share(named[0]), finished.share(named[1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--full", type=Path, required=True)
    parser.add_argument("--budget", default="15%")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.out.exists():
        raise SystemExit(f"{asked.out} is there already: give a new folder")
    finished = ended.of_folder(asked.full, Goals())
    before = [killed_after(asked, stacks) for stacks in kills(asked.budget, len(finished.cells))]
    outcome = to_the_end(asked)
    after = rows(asked.out)
    again = to_the_end(asked)
    order, chosen = outcome["order"], outcome["settled"]["finals"]
    each_s = again["choosing_s"] / len(order)
    checks = {
        "every row at a kill is kept": all(
            after.get(k) == at for kept in before for k, at in kept.items()
        ),
        "measured is what was named": set(first(after)) <= set(order),
        "measured in the order named": in_batches(order, after),
        "replayed it names the same": again["order"] == order,
        "replayed it measures nothing": rows(asked.out) == after,
        f"choosing takes {each_s:.3f} s a stack (bar {MOST_S})": each_s < MOST_S,
    }
    print(f"{len(order)} of {outcome['stacks']} stacks, {outcome['failed']} failed, "
          f"{len(chosen)} left in the end")  # fmt: skip
    whole, front = shares(finished, order, [each["cell"] for each in chosen])
    checks[f"{whole:.4f} of the full hypervolume measured (bar {SHARE})"] = whole >= SHARE
    print(f"{front:.4f} of it by the stacks that are left in the end")
    for said, good in checks.items():
        print(f"{'ok ' if good else 'NO '} {said}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
