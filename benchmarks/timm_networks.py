"""Random networks of timm, each through everything: built and right, or refused with a reason.

    python benchmarks/timm_networks.py --count 100 --seed 0 --json timm.json
    python benchmarks/timm_networks.py --names resnet18 convnext_atto

Networks are drawn from `timm.list_models()` by the seed and built at `--size` pixels with random
weights; too large ones (`--max-params`) are drawn again. Each one goes through prepare, channel
pruning 0.3, int8, and is built for ONNX Runtime, OpenVINO and TVM, whose outputs are compared with
PyTorch's. MACs are compared with a second counter, `torch.utils.flop_counter`. Every network has a
process of its own; one that is in the JSON file already is not run again. An exception that is not
one of dlas' own sentences is printed as BARE.
"""

import argparse
import json
import multiprocessing
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from saved import machine

SOFTWARE = ("onnxruntime", "openvino", "tvm")
STEPS = ("prepare", "channel-pruning", "int8", *SOFTWARE)


def draw(count: int, seed: int) -> list[str]:
    """Return names of timm's networks, drawn at random; more than asked, for those left out."""
    import timm

    names = sorted(timm.list_models())
    return random.Random(seed).sample(names, min(len(names), 4 * count))


def look(name: str, size: int, max_params: float) -> dict[str, Any]:
    """Return what became of each step of one network, as sentences; empty: too large."""
    from dlas.core import registry
    from dlas.core.protocols import Network
    from dlas.networks.counting import count
    from dlas.testing import SmallImages

    warnings.simplefilter("ignore")
    data = SmallImages(classes=10, channels=3, height=size, width=size)
    said: dict[str, Any] = {}
    model = registry.make("model", "timm", {"name": name})
    network = _step(said, "prepare", lambda: model.build(data))
    if network is None:
        return said
    module = network.module
    said["params"] = sum(p.numel() for p in module.parameters())
    if said["params"] > max_params:
        return {}
    counted = count(module, network.spec)
    said["macs"], said["uncounted"] = counted.macs, counted.uncounted
    said["second"] = second_count(module, network.spec.shape)
    with tempfile.TemporaryDirectory() as folder:
        pruning = registry.make("optimization", "channel-pruning", {"ratio": 0.3, "epochs": 0})
        done = _step(said, "channel-pruning", lambda: pruning.apply(network, None, Path(folder)))
        if done is not None:
            a = done.achieved
            left, layers = len(a["left_alone"]), len(a["layers"])
            said["channel-pruning"] = f"ratio {a['ratio']:.2f}, {left} of {layers} left alone"
            said["reasons"] = sorted(set(a["left_alone"].values()))
        int8, train = registry.make("optimization", "int8", {}), data.load("train")
        done = _step(said, "int8", lambda: int8.apply(network, train, Path(folder)))
        if done is not None:
            said["int8"] = "quantized"
        for runtime in SOFTWARE:
            plain = Network(network.spec, module)
            difference = _step(said, runtime, lambda r=runtime, n=plain: run(r, n, folder))
            if difference is not None:
                right = difference < 1e-3
                said[runtime] = "right" if right else f"WRONG: differs by {difference:.2g}"
    return said


class Lowered:
    """A network as a build sees it (`dlas.protocols.Program`), lowered when it is asked for."""

    precision = "float32"

    def __init__(self, network: Any, algorithm: Any, folder: Path) -> None:
        self.made, self.algorithm, self.folder = network, algorithm, folder
        self.spec = network.spec

    def network(self) -> Any:
        """The network itself."""
        return self.made

    def onnx(self) -> Path:
        """Its ONNX file."""
        from dlas.networks.export import export_onnx

        path = self.folder / "lowered.onnx"
        export_onnx(self.made.module, self.spec, path)
        return path

    def exported(self) -> Any:
        """Its exported program."""
        from dlas.networks.export import export_program

        return export_program(self.made.module, self.spec)


def run(runtime: str, network: Any, folder: str) -> float:
    """Build a network for a runtime; return the largest difference to PyTorch, by its spread."""
    import torch

    from dlas.core import registry

    software = registry.make("software", runtime, {})
    hardware = registry.make("hardware", "cpu", {})
    place = Path(folder, runtime)
    place.mkdir()
    algorithm = registry.make("algorithm", "native", {})
    software.build(Lowered(network, algorithm, place), hardware, place)
    x = torch.randn(network.spec.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network.module(x.clone()).numpy()
    found = software.load(place, hardware)(np.ascontiguousarray(x.numpy()))
    return float(np.abs(found - expected).max() / max(float(expected.std()), 1e-6))


def second_count(module: Any, shape: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of PyTorch's own counter, attention unfused."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(torch.zeros(shape))
    return counter.get_total_flops() // 2


def _step(said: dict[str, Any], step: str, do: Callable[[], Any]) -> Any:
    from dlas.core.errors import DlasError

    try:
        made = do()
    except DlasError as error:
        said[step] = f"refused: {str(error).splitlines()[0]}"
        return None
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        said[step] = f"BARE {type(error).__name__}: {line}"
        return None
    said[step] = "done"
    return made


def _child(name: str, size: int, max_params: float, pipe: Any) -> None:
    pipe.send(look(name, size, max_params))


def isolated(name: str, size: int, max_params: float, seconds: float) -> dict[str, Any]:
    """Look at a network in a process of its own; one that crashes or hangs is a row, too."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(name, size, max_params, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(seconds) else {"prepare": f"BARE: over {seconds:g} s"}
    except EOFError:
        process.join()
        return {"prepare": f"BARE: the process ended with {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def row(name: str, said: dict[str, Any]) -> str:
    """Return a row of the table."""
    macs, second = said.get("macs"), said.get("second")
    same = "" if macs is None else "=" if macs == second else f"(torch {second:,})"
    shown = f"{macs:,} {same}" if macs is not None else f"- {', '.join(said.get('uncounted', ()))}"
    return " | ".join(["", name, shown, *(said.get(s, "") for s in STEPS), ""]).strip()


def main() -> None:
    """Draw, look, print the table and what is wrong in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--max-params", type=float, default=30e6)
    parser.add_argument("--seconds", type=float, default=600, help="a network may take")
    parser.add_argument("--names", nargs="+", default=[])
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    saved = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    print("| network | MACs | " + " | ".join(STEPS) + " |")
    print("| --- " * (2 + len(STEPS)) + "|")
    shown = 0
    for name in asked.names or draw(asked.count, asked.seed):
        if shown == (len(asked.names) or asked.count):
            break
        started = time.monotonic()
        said = saved.get(name)
        if said is None:
            saved["machine"] = machine()
            said = isolated(name, asked.size, asked.max_params, asked.seconds)
            saved[name] = {**said, "seconds": round(time.monotonic() - started, 1)} if said else {}
            if asked.json:
                asked.json.write_text(json.dumps(saved, indent=1))
        if said:
            shown += 1
            print(row(name, said), flush=True)


if __name__ == "__main__":
    main()
