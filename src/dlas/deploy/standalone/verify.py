"""Check this folder on this machine: `python verify.py`.

Are the files those that were exported, are the outputs of the 16 stored inputs the same within the
stack's tolerance, and how long does an inference take here against there? Exits with 1 if files
or outputs differ (or, where `--at-most` is given, if it takes longer than so many times as there).
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from predict import HERE, STACK, network, outputs

WARM_S, TIMED_S, LEAST_RUNS = 0.5, 1.0, 20


def changed_files(folder: Path = HERE) -> list[str]:
    """Return what is wrong with the files of the folder: changed or missing, by name."""
    problems = []
    for name, expected in STACK["files"].items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            problems.append(f"{name} is not the file that was exported: its content has changed")
    return problems


def different(found: Any, expected: Any) -> str:
    """Return how outputs differ beyond the stack's tolerance, or an empty text."""
    allowed = STACK["tolerance"]
    if found.shape != expected.shape:
        return f"outputs have the shape {found.shape}, expected {expected.shape}"
    if not np.isfinite(found).all():
        return "outputs are not finite"
    error = float(np.abs(found - expected).max())
    if "absolute" in allowed:
        most = max(allowed["absolute"], allowed["of_largest"] * float(np.abs(expected).max()))
        return "" if error <= most else f"outputs differ by {error:.3g}, allowed are {most:.3g}"
    base = expected - expected.mean(axis=1, keepdims=True)
    scale = float(np.linalg.norm(base)) or 1.0
    relative = float(np.linalg.norm(found - found.mean(axis=1, keepdims=True) - base)) / scale
    if relative <= allowed["relative"]:
        return ""
    return f"outputs differ by {relative:.3g} of their size, allowed are {allowed['relative']:g}"


def latency_ms(inputs: Any) -> float:
    """Return the median time of one inference in ms, warmed up, inputs in turn."""
    batch = STACK["input"]["shape"][0]
    batches = [np.ascontiguousarray(inputs[i : i + batch]) for i in range(0, len(inputs), batch)]
    run, clock = network(), time.perf_counter
    gc.disable()
    try:
        until, turn = clock() + WARM_S, 0
        while clock() < until or turn < LEAST_RUNS:
            run(batches[turn % len(batches)])
            turn += 1
        seconds: list[float] = []
        until = clock() + TIMED_S
        while clock() < until or len(seconds) < LEAST_RUNS:
            x = batches[len(seconds) % len(batches)]
            start = clock()
            run(x)
            seconds.append(clock() - start)
    finally:
        gc.enable()
    return statistics.median(seconds) * 1e3


def main() -> int:
    """Check, and say what was found."""
    parser = argparse.ArgumentParser(description="Check this folder on this machine.")
    slower = "fail if an inference takes more than so many times as there"
    parser.add_argument("--at-most", type=float, metavar="TIMES", help=slower)
    asked = parser.parse_args()
    if problems := changed_files():
        print("\n".join(problems))
        return 1
    print(f"files: {len(STACK['files'])}, all as exported")
    inputs = np.load(HERE / "samples" / "inputs.npy", allow_pickle=False)
    expected = np.load(HERE / "samples" / "outputs.npy", allow_pickle=False)
    found = outputs(inputs)
    if problem := different(found, expected):
        print(problem)
        return 1
    error = float(np.abs(found - expected).max())
    print(f"outputs: {len(inputs)} as expected (largest difference {error:.2g})")
    there, here = STACK["numbers"]["latency_ms"], latency_ms(inputs)
    times = here / there
    print(f"latency: {here:.4g} ms here, {there:.4g} ms there ({times:.2f} times)")
    if asked.at_most and times > asked.at_most:
        print(f"slower than {asked.at_most:g} times as there")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
