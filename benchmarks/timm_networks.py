"""Random networks of timm, each through everything: built and right, or refused with a reason.

    python benchmarks/timm_networks.py --count 100 --seed 0 --json timm.json
    python benchmarks/timm_networks.py --names resnet18 convnext_atto
    python benchmarks/timm_networks.py --json timm.json --table

Networks are drawn from `timm.list_models()` by the seed and built with random weights at the first
of `--sizes` that they take; too large ones (`--max-params`) are drawn again. Each one goes through
prepare, channel pruning 0.3, int8, and is built for ONNX Runtime, OpenVINO and TVM, whose outputs
are compared with PyTorch's; what pruning and int8 made runs in ONNX Runtime (`pruned`, `ran
int8`). MACs are compared with a second counter, `torch.utils.flop_counter`. Every network has a
process of its own, forked from one that has the libraries loaded. One that takes more CPU time
than `--seconds` is stopped, and the step is named; one that is in the JSON file already is not run
again, unless it is one of `--names` with `--again`. An exception that is not one of dlas' own
sentences is printed as BARE.
One thread; `nice` it if others work here.
"""

import argparse
import copy
import json
import multiprocessing
import os
import random
import re
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import psutil
from lowered import Lowered
from saved import machine

RUNTIMES = ("onnxruntime", "openvino", "tvm")
STEPS = ("prepare", "count", "channel-pruning", "pruned", "int8", "ran int8", *RUNTIMES)
PRELOADED = (
    "torch", "timm", "torch_pruning", "onnx", "onnxscript", "onnxruntime",
    "onnxruntime.quantization", "openvino", "tvm.relax", "torch.utils.flop_counter",
    "dlas.testing", "dlas.networks.counting",
)  # fmt: skip
"""What every network's process would load for itself, which takes longer than most networks."""

Say = Callable[[str, Any], None]


def draw(count: int, seed: int) -> list[str]:
    """Return names of timm's networks, drawn at random; more than asked, for those left out."""
    import timm

    names = sorted(timm.list_models())
    return random.Random(seed).sample(names, min(len(names), 8 * count))


def too_large(name: str, size: int, most: float) -> bool:
    """Whether a network has more than so many parameters, found out without making them."""
    import timm
    import torch

    for more in ({"img_size": size}, {}):
        try:
            with torch.device("meta"):
                module = timm.create_model(name, num_classes=10, **more)
        except Exception:
            continue  # cannot be made so: it is built, then, and counted
        return sum(p.numel() for p in module.parameters()) > most
    return False


def look(name: str, sizes: Sequence[int], max_params: float, say: Say) -> None:
    """Say what became of each step of one network; nothing: too large."""
    import torch

    from dlas.core import registry
    from dlas.core.protocols import Network
    from dlas.testing import SmallImages

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if too_large(name, sizes[0], max_params):
        return
    model = registry.make("model", "timm", {"name": name})
    network = None
    for size in sizes:
        data = SmallImages(classes=10, channels=3, height=size, width=size)
        say("size", size)
        network = _step(say, "prepare", lambda d=data: model.build(d))
        if network is not None:
            break
    if network is None:
        return
    say("params", sum(p.numel() for p in network.module.parameters()))
    _count(network, say)
    with tempfile.TemporaryDirectory() as folder:
        places = iter(Path(folder, str(n)) for n in range(20))
        lowered = Lowered(Network(network.spec, network.module), next(places))
        for runtime in RUNTIMES:
            off = _step(say, runtime, lambda r=runtime: run(r, lowered, next(places)))
            _compared(say, runtime, off)
        _prune(network, say, places)
        _quantize(network, lowered, data.load("train"), say, places)


def _count(network: Any, say: Say) -> None:
    from dlas.networks.counting import count

    module, spec = network.module, network.spec
    counted = _step(say, "count", lambda: count(module, spec))
    if counted is None:
        return
    say("macs", counted.macs)
    say("uncounted", counted.uncounted)
    try:
        say("second", second_count(module, spec.shape))
    except AssertionError:
        say("second", None)


def _compared(say: Say, step: str, off: float | None) -> None:
    """Say whether a runtime's outputs are PyTorch's; it has said itself why there are none."""
    if off is not None:
        say(step, "right" if off < 1e-3 else f"WRONG: differs by {off:.2g}")


def _prune(network: Any, say: Say, places: Iterator[Path]) -> None:
    from dlas.core import registry

    pruning = registry.make("optimization", "channel-pruning", {"ratio": 0.3, "epochs": 0})
    done = _step(say, "channel-pruning", lambda: pruning.apply(network, None, Path()))
    if done is None:
        return
    a = done.achieved
    text = f"{a['ratio']:.0%} of channels, {len(a['left_alone'])} of {len(a['layers'])} left alone"
    say("reasons", dict(Counter(a["left_alone"].values())))
    say("far", len(a["far"]))
    say("channel-pruning", text)
    lowered = Lowered(done.network, next(places))
    off = _step(say, "pruned", lambda: run("onnxruntime", lowered, next(places)))
    _compared(say, "pruned", off)


def _quantize(network: Any, plain: Lowered, train: Any, say: Say, places: Iterator[Path]) -> None:
    from dlas.core import registry
    from dlas.layers.optimization import int8 as technique

    # The same module gives the same file: half of the time of int8 is its export.
    technique.export_onnx = lambda _module, _spec, path: copyfile(plain.onnx(), path)
    int8 = registry.make("optimization", "int8", {"images": 32})
    place = next(places)
    place.mkdir()
    done = _step(say, "int8", lambda: int8.apply(network, train, place))
    if done is None:
        return
    share = sum(done.achieved["quantized"].values()) / sum(done.achieved["operators"].values())
    say("int8", f"{share:.0%} of operators")
    lowered = Lowered(done.network, next(places))
    off = _step(say, "ran int8", lambda: run("onnxruntime", lowered, next(places), network.module))
    if off is not None:  # how far int8 may be off depends on the network
        say("ran int8", f"{'' if np.isfinite(off) else 'WRONG: '}differs by {off:.2g}")


def run(runtime: str, lowered: Lowered, place: Path, reference: Any = None) -> float:
    """Build a network for a runtime; return the largest difference to PyTorch, by its spread."""
    import torch

    from dlas.core import registry

    software = registry.make("software", runtime, {})
    hardware = registry.make("hardware", "cpu", {})
    place.mkdir()
    software.build(lowered, hardware, place)
    x = torch.randn(lowered.spec.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = (reference or lowered.network().module)(x.clone()).numpy()
    found = software.load(place, hardware)(np.ascontiguousarray(x.numpy()))
    if found.shape != expected.shape or not np.isfinite(expected).all():
        return float("inf")
    return float(np.abs(found - expected).max() / max(float(expected.std()), 1e-6))


def second_count(module: Any, shape: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of PyTorch's own counter, attention unfused."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Its watch over modules fails where one is given a parameter that asks for a gradient (pit).
    module = copy.deepcopy(module).requires_grad_(False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(torch.zeros(shape))
    return counter.get_total_flops() // 2


def _step(say: Say, step: str, do: Callable[[], Any]) -> Any:
    from dlas.core.errors import DlasError
    from dlas.core.wording import sentence

    say("step", step)
    try:
        made = do()
    except DlasError as error:
        say(step, f"refused: {str(error).splitlines()[0]}")
        return None
    except Exception as error:
        say(step, f"BARE {type(error).__name__}: {sentence(error)}")
        say("trace", traceback.format_exc()[-3000:])
        return None
    say(step, "done")
    return made


def _child(name: str, sizes: Sequence[int], max_params: float, pipe: Any) -> None:
    look(name, sizes, max_params, lambda key, value: pipe.send((key, value)))


def isolated(name: str, sizes: Sequence[int], max_params: float, seconds: float) -> dict[str, Any]:
    """Look at a network in a process of its own; one that crashes or hangs is a row, too."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(name, sizes, max_params, theirs))
    process.start()
    theirs.close()
    said: dict[str, Any] = {}
    watched, end = psutil.Process(process.pid), time.monotonic() + 10 * seconds
    try:
        while True:
            while not ours.poll(0.5):
                used = sum(watched.cpu_times()[:2])
                if used > seconds or time.monotonic() > end:
                    raise TimeoutError
            key, value = ours.recv()
            said[key] = value
    except TimeoutError:
        said[said.get("step", "prepare")] = f"stopped: not done within {seconds:g} s of CPU time"
    except EOFError:
        process.join()
        if process.exitcode:
            said[said.get("step", "prepare")] = f"BARE: the process ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()
    return said


def row(name: str, said: dict[str, Any]) -> str:
    """Return a row of the table."""
    macs, second = said.get("macs"), said.get("second")
    other = f"(torch {second:,})" if second is not None else "(PyTorch cannot count it)"
    same = "" if macs is None else "=" if macs == second else other
    shown = f"{macs:,} {same}" if macs is not None else f"- {', '.join(said.get('uncounted', ()))}"
    told = (str(said.get(step, "")).replace("|", "/") for step in STEPS)
    return " | ".join(["", name, str(said.get("size", "")), shown, *told, ""]).strip()


def results(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the networks that were looked at, by name."""
    return {n: said for n, said in saved.items() if n != "machine" and "prepare" in said}


def kind(said: str) -> str:
    """Return what became of a step, in a word."""
    first = re.match(r"right|done|refused|stopped|WRONG|BARE", said)
    return first[0] if first else "WRONG" if "WRONG" in said else "done" if said else "not reached"


def summary(saved: dict[str, Any]) -> Iterator[str]:
    """Give the lines of the table of counts."""
    looked = results(saved)
    found = {step: Counter(kind(s.get(step, "")) for s in looked.values()) for step in STEPS}
    kinds = sorted({k for counts in found.values() for k in counts})
    yield f"| {len(looked)} networks | " + " | ".join(kinds) + " |"
    yield "| --- " * (1 + len(kinds)) + "|"
    for step, counts in found.items():
        yield f"| {step} | " + " | ".join(str(counts[k]) for k in kinds) + " |"
    counted = [s for s in looked.values() if s.get("second") is not None]
    same = sum(s["macs"] == s["second"] for s in counted)
    yield ""
    yield f"MACs: {same} of {len(counted)} equal to PyTorch's counter."


def table(saved: dict[str, Any]) -> None:
    """Print counts, networks and reasons."""
    print("\n".join(summary(saved)) + "\n")
    print("| network | pixels | MACs | " + " | ".join(STEPS) + " |")
    print("| --- " * (3 + len(STEPS)) + "|")
    for name, said in results(saved).items():
        print(row(name, said))


def main() -> None:
    """Draw, look, print the table and what is wrong in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--max-params", type=float, default=12e6)
    parser.add_argument("--seconds", type=float, default=90, help="of CPU time a network may take")
    parser.add_argument("--names", nargs="+", default=[])
    parser.add_argument("--again", action="store_true", help="those of --names, though known")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--table", action="store_true", help="print what the file holds")
    asked = parser.parse_args()
    saved = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    if asked.table:
        table(saved)
        return
    for variable in ("OMP_NUM_THREADS", "TVM_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    saved["machine"] = machine()
    for name in asked.names or draw(asked.count, asked.seed):
        if not asked.names and len(results(saved)) >= asked.count:
            break
        if name in saved and not asked.again:
            continue
        started = time.monotonic()
        said = isolated(name, asked.sizes, asked.max_params, asked.seconds)
        saved[name] = {**said, "seconds": round(time.monotonic() - started, 1)} if said else {}
        if asked.json:
            draft = asked.json.with_suffix(".tmp")
            draft.write_text(json.dumps(saved, indent=1))
            draft.replace(asked.json)
        if said:
            print(row(name, said), flush=True)
    table(saved)


if __name__ == "__main__":
    main()
