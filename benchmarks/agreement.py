"""Whether runtimes give what PyTorch gives, on whole networks: right, or refused with a reason.

    python benchmarks/agreement.py --json agreement.json --converter .venv/convert/bin/python
    python benchmarks/agreement.py --networks resnet18 --runtimes litert --ways float32 int8
    python benchmarks/agreement.py --json agreement.json --table

The networks that ship, trained, on Fashion-MNIST, and four of timm's at 224 pixels, whose weights
are random and whose norms have seen images. Each is built for each runtime in float32, in its own
float16 and bfloat16, and in int8 that it quantizes itself, all as a study does it, and judged by
what judges a study's cells: outputs against the lowering reference (float32: 1e-3; float16,
bfloat16, int8: a relative error of 0.02, 0.1, 0.2), and that the type that was asked for ran. What
is neither right nor refused is printed as WRONG, and the exit status is 1. A case that is in the
JSON file is not run again. One thread; a busy machine does no harm.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from lowered import LeftOut, Lowered, Served
from saved import Saved

SHIPPED: dict[str, dict[str, Any]] = {
    "resnet-8": {}, "mobilenet-v2": {"width": 0.35}, "vit-tiny": {},
}  # fmt: skip
LARGE = ("resnet18", "mobilenetv2_100", "efficientnet_b0", "vit_tiny_patch16_224")
RUNTIMES = ("ncnn", "executorch", "litert")
WAYS = ("float32", "float16", "bfloat16", "int8")
IMAGES = 32


def dataset_of(name: str) -> Any:
    """Return the data set that a network is made for."""
    from dlas.core import registry
    from dlas.testing import SmallImages

    if name in SHIPPED:
        return registry.make("dataset", "fashion-mnist", {})
    return SmallImages(classes=10, channels=3, height=224, width=224)


def network_of(name: str, dataset: Any) -> Any:
    """Return a network: trained where it ships, else random with norms that have seen images."""
    import torch

    from dlas.core import registry
    from dlas.testing import small_nets

    if name in SHIPPED:
        return registry.make("model", name, SHIPPED[name]).build(dataset)
    torch.manual_seed(0)
    made = registry.make("model", "timm", {"name": name}).build(dataset)
    return replace(made, module=small_nets.seasoned(made.module, made.spec))


def optimized(network: Any, way: str, train: Any, folder: Path) -> tuple[Any, Any]:
    """Return a network as the optimization of a type leaves it, and what to quantize it on."""
    from dlas.core import registry

    if way == "float32":
        return network, None
    params = {"route": "own"} if way == "int8" else {}
    technique = registry.make("optimization", way, params)
    done = technique.apply(network, train, folder).network
    return done, train.images(done.calibration) if done.calibration else None


def judged(runtime: str, network: Any, way: str, dataset: Any, converter: str) -> dict[str, Any]:
    """Return what became of a network: how far it is off, and its problem, empty if it is right.

    Raises:
        LeftOut: the runtime refuses it.
    """
    from dlas.core import registry
    from dlas.run.measure.verdict import asked_and_ran, compare_outputs, output_problem
    from dlas.run.steps.forward import forward, in_batches
    from dlas.testing.stand_ins import asking, stack_of

    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        asked, images = optimized(network, way, dataset.load("train"), home)
        params = {"converter": converter} if runtime == "litert" and converter else {}
        lowered = Lowered(asked, home / "lowered", images=images)
        served = Served(runtime, lowered, home / "built", **params)
        session = served.load()
        test = dataset.load("test")
        x = test.images(range(min(IMAGES, len(test.labels))))
        compared = compare_outputs(
            in_batches(session, x, 1), in_batches(forward(asked), x, asked.spec.batch)
        )
        ran = session.observe(x[:1])
    step = asking(asked.precision, left_to_runtime=images is not None)
    stack = replace(stack_of(served.software, step), probed=ran)
    refused = registry.other_type(stack) if way != "float32" else None
    if refused is not None:
        raise LeftOut(refused.reason)
    problem = output_problem(compared, asked.precision) or asked_and_ran(
        precision=asked.precision,
        declared=served.software.executes,
        threads=1,
        ran={"precision": ran.precision, "threads": ran.threads},
    )
    return {
        "absolute": compared["max_abs_error"],
        "relative": compared["relative_error"],
        "agreement": compared["agreement"],
        "ran": ran.precision,
        "problem": problem or "",
    }


def case(runtime: str, name: str, network: Any, way: str, converter: str) -> dict[str, Any]:
    """Return what became of a case: numbers, a refusal, or what is wrong."""
    began = time.monotonic()
    try:
        said = judged(runtime, network, way, dataset_of(name), converter)
    except LeftOut as why:
        said = {"refused": str(why)}
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        said = {"problem": f"BARE {type(error).__name__}: {first}"}
    return {**said, "seconds": round(time.monotonic() - began, 1)}


def told(row: dict[str, Any]) -> str:
    """Return a cell of the table: the error, and where another type ran, which."""
    if row.get("problem"):
        return f"WRONG: {row['problem']}"
    if "refused" in row:
        return "refused"
    way = row["case"]["way"]
    off = row["absolute"] if way == "float32" else row["relative"]
    other = f" ({row['ran']} ran)" if row["ran"] not in (way, None) else ""
    return f"{off:.1e}{other}" if way == "float32" else f"{off:.2g}{other}"


def table(rows: list[dict[str, Any]]) -> None:
    """Print the errors, a row for each network and runtime, then the reasons of refusals."""
    print("| network | runtime | float32, absolute | float16, relative | bfloat16 | own int8 |")
    print("| --- " * 6 + "|")
    found = {(r["case"]["network"], r["case"]["runtime"], r["case"]["way"]): r for r in rows}
    for name, runtime in dict.fromkeys((name, runtime) for name, runtime, _ in found):
        cells = [found.get((name, runtime, way)) for way in WAYS]
        print(f"| {name} | {runtime} | {' | '.join(told(c) if c else '' for c in cells)} |")
    print()
    for said in dict.fromkeys(f"{r['case']['runtime']}: {r['refused']}" for r in rows
                              if "refused" in r):  # fmt: skip
        print(f"refused: {said}")


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [*SHIPPED, *LARGE]
    parser.add_argument("--networks", nargs="+", default=names, choices=names)
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--converter", default="", help="the Python that has litert-torch")
    parser.add_argument("--json", type=Path, help="results; cases in it are not run again")
    parser.add_argument("--table", action="store_true", help="only print what --json holds")
    return parser.parse_args()


def main() -> None:
    """Look at every case, print the table; exit with 1 where one is wrong."""
    asked = arguments()
    saved = Saved(asked.json)
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")
    for name in () if asked.table else asked.networks:
        network = None
        for runtime in asked.runtimes:
            for way in asked.ways:
                which = {"network": name, "runtime": runtime, "way": way}
                if saved.has(which):
                    continue
                network = network or network_of(name, dataset_of(name))
                row = case(runtime, name, network, way, asked.converter)
                saved.add(which, [row])
                print(name, runtime, way, told({"case": which, **row}), row["seconds"], flush=True)
    print()
    table(saved.rows)
    sys.exit(any(row.get("problem") for row in saved.rows))


if __name__ == "__main__":
    main()
