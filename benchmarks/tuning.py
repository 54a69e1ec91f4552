"""What tuning gains: kernels untuned and tuned with so many trials, measured in turns.

    python benchmarks/tuning.py --models resnet18 --trials 32 200 --json tuning.json
    python benchmarks/tuning.py --json tuning.json --summary
    python benchmarks/tuning.py --scheduler metaschedule --primitives native --trials 64

Two questions: is a tuned kernel ever slower than the fixed schedule, and how much of what many
trials find do few find? Every layer is built untuned and once for each number of trials, and all
are measured in turns of a few runs in random order, weights and images where the run before left
them (the tuner itself also reads from beyond the caches; the gain that it saw is printed beside).
A ratio is the median over all rounds of the ratio of the fastest runs of a round: a neighbour that
slows the processor for a while slows everyone in that round. Where the tuner keeps the fixed
schedule, the same code is measured twice: these cases show the noise.
Each case is saved when it is complete; one that the JSON file holds already is not measured again.
"""

import argparse
import itertools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from conv import fields, layers
from models import MODELS
from saved import Saved, geometric_mean

from dlas.kernels import Conv2d, KernelError, build_conv2d

PRIMITIVES = ("spatial-pack", "gemm", "winograd", "direct", "spatial-pack-csr", "native")
UNTUNED = 0
"""The number of trials that stands for the fixed schedule."""


def built(
    op: Conv2d, weight: np.ndarray, primitive: str, threads: int, tuning: dict[str, Any]
) -> Any:
    """Return the kernel, tuned if there are trials."""
    name, storage = primitive.removesuffix("-csr"), "csr" if "-csr" in primitive else "dense"
    return build_conv2d(
        op, weight, primitive=name, weights=storage, threads=threads,
        tuning=tuning if tuning["trials"] else None,
    )  # fmt: skip


def in_turns(
    kernels: dict[int, Any], x: np.ndarray, rounds: int, repeats: int
) -> dict[int, list[list[float]]]:
    """Return everyone's seconds by rounds, a few runs of each in random order a round."""
    seconds: dict[int, list[list[float]]] = {trials: [] for trials in kernels}
    order, draw = list(kernels), random.Random(0)
    for _ in range(rounds):
        draw.shuffle(order)
        for trials in order:
            seconds[trials].append(kernels[trials].samples(x, repeats=repeats, warm_up=1))
    return seconds


def measured(
    op: Conv2d, primitive: str, options: argparse.Namespace, threads: int, records: str
) -> list[dict[str, Any]]:
    """Return one row for the untuned kernel and one for each number of trials."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(op.in_shape).astype(np.float32)
    weight = rng.standard_normal(op.weight_shape).astype(np.float32)
    if "-csr" in primitive:
        weight[rng.random(op.weight_shape) < options.zeros] = 0
    counts = [UNTUNED, *options.trials]
    how = {"scheduler": options.scheduler, "records": records}
    kernels = {n: built(op, weight, primitive, threads, how | {"trials": n}) for n in counts}
    expected = kernels[UNTUNED](x)
    for trials in options.trials:
        if not np.allclose(kernels[trials](x), expected, atol=1e-3 * np.abs(expected).max()):
            raise SystemExit(f"{op}: {primitive} with {trials} trials computes something else")
    seconds = in_turns(kernels, x, options.rounds, options.repeats)
    shape = fields(op)
    return [
        {"trials": n, "op": shape, "primitive": primitive, "seconds": seconds[n],
         "schedule": kernels[n].describe()["schedule"], "tuning": kernels[n].tuning}
        for n in counts
    ]  # fmt: skip


def times_faster(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Return how much faster the second is than the first, both measured in the same rounds."""
    before, after = (np.min(row["seconds"], axis=1) for row in (first, second))
    return float(np.median(before / after))


def line(rows: list[dict[str, Any]]) -> str:
    """Return one case as a row of the table."""
    op, untuned = rows[0]["op"], float(np.median(np.min(rows[0]["seconds"], axis=1)))
    layer = f"{op['in_channels']}x{op['height']}x{op['width']} -> {op['out_channels']}"
    layer += f", {op['kernel'][0]}x{op['kernel'][1]}, stride {op['stride'][0]}"
    cells = [layer, rows[0]["primitive"], str(rows[0]["case"]["threads"])]
    cells.append(f"{2e-9 * op['multiplications'] / untuned:.0f}")
    for row in rows[1:]:
        found = row["tuning"]
        kept = found["scheduler"] == "template" and not found["knobs"]
        said = "fixed schedule kept" if kept else f"{found['gain']:.3f}"
        cells.append(f"{times_faster(rows[0], row):.3f} ({said}, {found['lost']} lost)")
    return "| " + " | ".join(cells) + " |"


def heading(rows: list[dict[str, Any]]) -> str:
    """Return the first two lines of the table."""
    names = ["layer", "kernel", "threads", "untuned, GFLOP/s"]
    names += [f"{row['trials']} trials: times faster (as tuned)" for row in rows[1:]]
    return "| " + " | ".join(names) + " |\n" + "| --- " * len(names) + "|"


def summary(saved: Saved) -> None:
    """Print every case, and the geometric means and least ratios of each primitive."""
    cases: dict[str, list[dict[str, Any]]] = {}
    for row in saved.rows:
        cases.setdefault(json.dumps(row["case"]), []).append(row)
    shown = ""
    figures: dict[str, list[float]] = {}
    for rows in cases.values():
        if heading(rows) != shown:
            shown = heading(rows)
            print(shown)
        print(line(rows))
        for few, many in itertools.combinations(rows, 2):
            what = (
                f"{rows[0]['primitive']}: {many['trials']} trials over {few['trials'] or 'none'}"
            )
            figures.setdefault(what, []).append(times_faster(few, many))
    print("\n| times faster | geometric mean | least | most | cases |")
    print("| --- " * 5 + "|")
    for name, found in sorted(figures.items()):
        mean = geometric_mean(found)
        print(f"| {name} | {mean:.3f} | {min(found):.3f} | {max(found):.3f} | {len(found)} |")


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["resnet18"], choices=list(MODELS))
    parser.add_argument(
        "--primitives", nargs="+", default=list(PRIMITIVES[:-1]), choices=PRIMITIVES
    )
    parser.add_argument("--scheduler", default="template", choices=["template", "metaschedule"])
    parser.add_argument("--trials", nargs="+", type=int, default=[32, 200])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--kernel", type=int, default=3, help="only square filters of this size")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--zeros", type=float, default=0.9, help="share of zeros of CSR weights")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5, help="samples of a round")
    parser.add_argument("--layers", nargs="+", type=int, help="only these, counted from 0")
    parser.add_argument("--records", help="folder of the tuner's records; default: a new one")
    parser.add_argument("--json", type=Path, help="results; cases in it are not measured again")
    parser.add_argument("--summary", action="store_true", help="only print what --json holds")
    return parser.parse_args()


def run(options: argparse.Namespace, saved: Saved, records: str) -> None:
    """Measure every case that is not saved yet."""
    found = [
        op
        for op in layers(options.models, options.size)
        if op.kernel == (options.kernel, options.kernel)
    ]
    for op in found if options.layers is None else [found[at] for at in options.layers]:
        for primitive in options.primitives:
            for threads in options.threads:
                case = {"op": str(op), "primitive": primitive, "threads": threads,
                        "trials": options.trials}  # fmt: skip
                if options.scheduler != "template":
                    case["scheduler"] = options.scheduler
                if saved.has(case):
                    continue
                try:
                    rows = measured(op, primitive, options, threads, records)
                except KernelError as error:  # Winograd with stride 2; MetaSchedule found nothing
                    print(f"{op}, {primitive}: {error}", flush=True)
                    continue
                saved.add(case, rows)
                print(line(saved.rows[-len(rows) :]), flush=True)


def main() -> None:
    options = arguments()
    saved = Saved(options.json)
    if not options.summary:
        with tempfile.TemporaryDirectory() as folder:
            run(options, saved, options.records or folder)
    summary(saved)


if __name__ == "__main__":
    main()
