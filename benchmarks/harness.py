"""What the harness itself costs, and whether forked and exec'd measurements agree.

    python benchmarks/harness.py out/quickstart [--repeats 9] [--json FILE]

For each runtime of a finished study one one-thread cell is measured alternately in a forked and in
an exec'd process. Printed: both medians, their ratio with a 95 % interval from the paired rounds,
and the share of a CPU that the parent and its servers use while a child is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy import stats

from dlas.run.measure import host
from dlas.run.plan import plan as planning
from dlas.run.process.isolate import Pool
from dlas.run.process.tasks import Job
from dlas.run.run import STORE
from dlas.store.artifacts import ArtifactStore
from dlas.store.results import FILE_NAME, CellRow, ResultStore
from dlas.study.study import Study

LONG_S = 10.0
"""Timed seconds of the one long measurement of each runtime."""


def chosen_cells(folder: Path) -> list[planning.Runnable]:
    """Return one complete one-thread cell for each runtime."""
    study = Study.load(folder / "study.yaml")
    with ResultStore(folder / FILE_NAME, read_only=True) as results:
        complete = {r.cell for r in results.rows(CellRow) if r.status == "complete"}
    found: dict[str, planning.Runnable] = {}
    for cell in planning.make(study).runnable:
        if cell.cell in complete and cell.techniques.hardware.threads == 1:
            found.setdefault(cell.stack.text("software"), cell)
    return list(found.values())


def others_cpu_s() -> float:
    """Return the CPU seconds of this process and its servers (not of measured children)."""
    me = psutil.Process()
    total = sum(me.cpu_times()[:2])
    for process in me.children(recursive=True):
        try:
            names = " ".join(process.cmdline())
            if "--serve" in names and process.parent().pid != process.pid:
                parent = " ".join(process.parent().cmdline())
                if "--serve" in parent:
                    continue  # a forked child: its command line is its server's
            total += sum(process.cpu_times()[:2])
        except (psutil.NoSuchProcess, AttributeError):
            continue
    return total


def measure(
    pool: Pool, cell: planning.Runnable, store: ArtifactStore, launch: str, seconds: float = 0.5
) -> dict[str, float]:
    """Measure a cell once, for so many timed seconds."""
    built, inputs = store.get(cell.build), store.get(cell.inputs)
    if built is None or inputs is None:
        raise SystemExit(
            f"{cell.stack.text('software')}: its artefact is no longer in the store (a technique "
            "or a library has changed since); run the study again"
        )
    cpus, parent = host.placement(1)
    os.sched_setaffinity(0, parent)
    args: dict[str, Any] = {
        "artifact": str(store.path(built.content)),
        "software": cell.stack.software[0].to_json(),
        "hardware": cell.stack.hardware[0].to_json(),
        "inputs": str(store.path(inputs.content) / "samples.npy"),
        "batch": cell.techniques.dataset.batch,
        "settings": {"min_seconds": seconds},
        "observe": False,
    }
    job = Job("dlas.run.measure.latency:run", args, "measure", 120.0, 8192, cpus)
    before, start = others_cpu_s(), time.perf_counter()
    outcome = pool.run(cell.server, job, launch)  # type: ignore[arg-type]
    wall, used = time.perf_counter() - start, others_cpu_s() - before
    if not outcome.ok:
        raise SystemExit(f"{cell.stack.text('software')}: {outcome.reason}")
    seen = outcome.value["round"]
    return {
        "median_s": statistics.median(seen["samples_s"]),
        "overhead_s": wall - seen["child_s"],
        "others_cpu_s": used,
        "wall_s": wall,
    }


def compare(
    cell: planning.Runnable, rounds: list[dict[str, dict[str, float]]], long: dict[str, float]
) -> dict[str, Any]:
    """Return the paired comparison of fork and exec over rounds.

    What parent and servers use while a child is timed is what a long region costs them more than
    a short one, over the time that it lasts longer: start and result are in both.
    """
    short = {
        k: statistics.median(r["fork"][k] for r in rounds) for k in ("others_cpu_s", "wall_s")
    }
    extra = (long["others_cpu_s"] - short["others_cpu_s"]) / (long["wall_s"] - short["wall_s"])
    logs = np.log([r["fork"]["median_s"] / r["exec"]["median_s"] for r in rounds])
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    return {
        "software": cell.stack.text("software"),
        "model": cell.stack.text("model"),
        "fork_ms": 1e3 * statistics.median(r["fork"]["median_s"] for r in rounds),
        "exec_ms": 1e3 * statistics.median(r["exec"]["median_s"] for r in rounds),
        "ratio": float(np.exp(logs.mean())),
        "low": float(np.exp(logs.mean() - half)),
        "high": float(np.exp(logs.mean() + half)),
        "fork_overhead_s": statistics.median(r["fork"]["overhead_s"] for r in rounds),
        "exec_overhead_s": statistics.median(r["exec"]["overhead_s"] for r in rounds),
        "parent_and_servers_cpu": extra,
        "parent_and_servers_cpu_s_a_measurement": short["others_cpu_s"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the output folder of a finished study")
    parser.add_argument("--store", type=Path, help="where its artefacts are, if shared")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    store = ArtifactStore(wanted.store or wanted.folder / STORE)
    rows = []
    for cell in chosen_cells(wanted.folder):
        rounds = []
        with Pool(store.scratch()) as pool:
            measure(pool, cell, store, "fork")  # starts the server
            for _ in range(wanted.repeats):
                rounds.append({k: measure(pool, cell, store, k) for k in ("fork", "exec")})
            long = measure(pool, cell, store, "fork", LONG_S)
        row = compare(cell, rounds, long)
        rows.append(row)
        print(
            f"{row['software']:<16} fork {row['fork_ms']:8.4f} ms  exec {row['exec_ms']:8.4f} ms  "
            f"fork/exec {row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})  "
            f"overhead {row['fork_overhead_s']:.2f} s fork, {row['exec_overhead_s']:.2f} s exec  "
            f"parent and servers {100 * row['parent_and_servers_cpu']:.2f} % of a CPU while timed",
            flush=True,
        )
    if wanted.json:
        wanted.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
