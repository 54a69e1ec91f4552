"""Whole networks, batch 1: dlas' algorithms beside other runtimes, interleaved in one run.

    python benchmarks/models.py --models resnet18 --threads 1 2 --rounds 20 --json models.json
    python benchmarks/models.py --zeros 0.5 0.9 --pruning random magnitude --json sparse.json
    python benchmarks/models.py --precision int8 --json int8.json
    python benchmarks/models.py --json models.json --summary

Every runtime's output is compared with PyTorch's before it is timed; one that differs is reported
and not timed. A round runs everyone once, in a new random order; the table shows medians. A case
is a network, a number of threads and a pruning; each is saved when it is complete, and one that
the JSON file holds already is not measured again.
`--zeros 0.9` prunes every convolution and linear layer, the first and last included: uniformly at
random, or the smallest weights of each layer. `--channels 0.3` takes channels away instead, as a
study's `channel-pruning` does. Networks are timm's, or `cifar-form:resnet-18` and its like (with
`--size 32`).
`--precision int8` runs one quantized model by everyone who reads it, and what runtimes quantize
themselves (see `quantized.py`); `bfloat16` and `float16` are asked of dlas and of OpenVINO, ONNX
Runtime beside them in float32. A file holds one precision or several.
ExecuTorch and LiteRT are built as a study does it (`lowered.py`); what is not installed is left
out with a sentence. LiteRT's converter lives in an environment of its own:

    python benchmarks/models.py --models resnet18 mobilenetv2_100 --precision float32 int8 \
        --converter .venv/convert/bin/python --json runtimes.json
"""

import argparse
import gc
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import quantized
from lowered import LeftOut, Lowered, Served, folder_of, once
from networks import make
from saved import Saved, geometric_mean

Run = Callable[[np.ndarray], np.ndarray]
Build = Callable[[Any, np.ndarray, int], Run]


def torch_eager(model: Any, x: np.ndarray, threads: int) -> Run:
    import torch

    def run(x: np.ndarray) -> np.ndarray:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    return run


def torch_channels_last(model: Any, x: np.ndarray, threads: int) -> Run:
    import copy

    import torch

    last = copy.deepcopy(model).to(memory_format=torch.channels_last)

    def run(x: np.ndarray) -> np.ndarray:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            y = last(torch.from_numpy(x).contiguous(memory_format=torch.channels_last))
            return y.contiguous().numpy()

    return run


def torch_compile(model: Any, x: np.ndarray, threads: int) -> Run:
    import torch
    import torch._inductor.config as inductor

    inductor.freezing = True
    torch.set_num_threads(threads)
    compiled = torch.compile(model)

    def run(x: np.ndarray) -> np.ndarray:
        torch.set_num_threads(threads)
        with torch.no_grad():
            return compiled(torch.from_numpy(x)).numpy()

    return run


def _onnx(model: Any, x: np.ndarray) -> str:
    import torch

    def make() -> str:
        path = str(folder_of(model) / "model.onnx")
        torch.onnx.export(model, (torch.from_numpy(x),), path, dynamo=True, external_data=False)
        return path

    return once(model, "onnx", make)


def _pnnx(model: Any, x: np.ndarray) -> str:
    """Return the path of ncnn's files, without their endings."""
    import pnnx
    import torch

    def make() -> str:
        path = str(folder_of(model) / "model.pt")
        pnnx.export(model, path, (torch.from_numpy(x),), fp16=False)
        return path.removesuffix(".pt")

    return once(model, "pnnx", make)


def onnxruntime(model: Any, x: np.ndarray, threads: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    path = _onnx(model, x)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def openvino(model: Any, x: np.ndarray, threads: int, hint: str = "f32") -> Run:
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint,
    }  # fmt: skip
    core = ov.Core()
    compiled = core.compile_model(core.read_model(_onnx(model, x)), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda x: request.infer([x])[0].copy()


def _ncnn(winograd: bool) -> Build:
    def build(model: Any, x: np.ndarray, threads: int) -> Run:
        import ncnn

        path = _pnnx(model, x)
        net = ncnn.Net()
        net.opt.num_threads = threads
        net.opt.use_winograd_convolution = winograd
        for narrow in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
            setattr(net.opt, narrow, False)
        net.opt.use_bf16_storage = False
        if net.load_param(f"{path}.ncnn.param") or net.load_model(f"{path}.ncnn.bin"):
            raise RuntimeError("ncnn has no layer for an operator of this network")

        def run(x: np.ndarray) -> np.ndarray:
            extractor = net.create_extractor()
            extractor.input("in0", ncnn.Mat(x[0]).clone())
            return np.array(extractor.extract("out0")[1])[None]

        return run

    return build


def layer(runtime: str, **params: str) -> Build:
    """Return what serves a network by a study's technique, built once for all numbers of threads.

    The peers above are written out, since `conv.py` times single layers by them, whose outputs
    are images.
    """

    def build(model: Any, x: np.ndarray, threads: int) -> Run:
        def served() -> Served:
            from dlas.core.protocols import DataSpec, Network

            home = folder_of(model) / runtime
            network = Network(DataSpec(1000, *x.shape[1:]), model)
            return Served(runtime, Lowered(network, home), home / "built", **params)

        return once(model, runtime, served).load(threads)

    return build


def dlas(algorithm: str, weights: str = "dense", dtype: str = "float32") -> Build:
    def build(model: Any, x: np.ndarray, threads: int) -> Run:
        import torch

        from dlas.kernels import compile_model

        program = once(
            model, "program", lambda: torch.export.export(model, (torch.from_numpy(x),))
        )
        built = compile_model(program, algorithm, threads=threads, weights=weights, dtype=dtype)
        return built.run

    return build


PEERS: dict[str, Build] = {
    "torch": torch_eager,
    "torch-nhwc": torch_channels_last,
    "torch-compile": torch_compile,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ncnn": _ncnn(winograd=True),
    "ncnn-no-winograd": _ncnn(winograd=False),
}
ALGORITHMS = ("direct", "gemm", "spatial-pack", "winograd", "best")
DENSE: dict[str, Build] = {f"dlas-{a}": dlas(a) for a in ALGORITHMS}
SPARSE: dict[str, Build] = {
    f"dlas-{a}-csr": dlas(a, "csr") for a in ("direct", "gemm", "spatial-pack", "best")
}
LAYERS = ("executorch", "litert")
EVERYONE = PEERS | {name: layer(name) for name in LAYERS} | DENSE | SPARSE
NAMES = tuple(dict.fromkeys((*EVERYONE, *quantized.NAMES)))

MODELS = (
    "resnet18",
    "resnet50",
    "vgg16_bn",
    "mobilenetv1_100",
    "mobilenetv2_100",
    "efficientnet_b0",
    "densenet161",
    "vit_tiny_patch16_224",
)
PRUNING = ("random", "magnitude")
HALVES = {"bfloat16": "bf16", "float16": "f16"}
"""Floats of 16 bits, and what OpenVINO calls them."""
PRECISIONS = ("float32", "int8", *HALVES)
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference from PyTorch, relative to the largest output."""


def everyone(precision: str, converter: str = "") -> dict[str, Build]:
    """Return who runs a float network in a precision; ``converter``: LiteRT's."""
    if precision not in HALVES:
        return EVERYONE | ({"litert": layer("litert", converter=converter)} if converter else {})
    ours: dict[str, Build] = {f"dlas-{a}": dlas(a, dtype=precision) for a in ALGORITHMS}
    hinted = partial(openvino, hint=HALVES[precision])
    return ours | {"onnxruntime": onnxruntime, "openvino": hinted}


def build_all(
    model: Any,
    x: np.ndarray,
    threads: int,
    names: list[str],
    precision: str = "float32",
    converter: str = "",
) -> tuple[dict[str, Run], dict[str, str]]:
    """Build everyone; return them, and why others are left out: they fail, or they differ."""
    import torch

    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    builders = everyone(precision, converter)
    built: dict[str, Run] = {}
    left: dict[str, str] = {}
    for name in (name for name in names if name in builders):
        start = time.perf_counter()
        try:
            run = builders[name](model, x, threads)
            off = float(np.abs(run(x) - expected).max() / np.abs(expected).max())
        except LeftOut as why:
            left[name] = f"left out: {why}"
        except Exception as error:  # a peer that cannot do this network is a row of the table
            left[name] = f"failed: {str(error).splitlines()[0][:120]}"
        else:
            if off < TOLERANCE[precision]:
                built[name] = run
            else:
                left[name] = f"WRONG, differs by {off:.2e}; not timed"
        said = f"built in {time.perf_counter() - start:.1f} s"
        print(f"  {name}: {left.get(name) or f'{said}, differs by {off:.1e}'}", flush=True)
    return built, left


def measure(built: dict[str, Run], x: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Return seconds, one a round; the best of three runs in a row is a round's sample."""
    seconds: dict[str, list[float]] = {name: [] for name in built}
    order = list(built)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            time.sleep(0.01)  # the threads of the one before stop waiting busily
            built[name](x)  # the others' data is out of the cache again
            samples = []
            for _ in range(3):
                start = time.perf_counter()
                built[name](x)
                samples.append(time.perf_counter() - start)
            seconds[name].append(min(samples))
    return seconds


def table(rows: list[dict[str, Any]]) -> None:
    """Print the medians of one case, the fastest first, then who is not timed, and why."""
    timed = [row for row in rows if "seconds" in row]
    for row in sorted(timed, key=lambda row: statistics.median(row["seconds"])):
        print(f"  {row['runtime']:22s} {1e3 * statistics.median(row['seconds']):8.2f} ms")
    for row in rows:
        if "seconds" not in row:
            print(f"  {row['runtime']:22s} {row['left_out']}")


def summary(rows: list[dict[str, Any]]) -> None:
    """Print, for each case, the best of dlas against the best peer, and geometric means."""
    cases: dict[str, list[dict[str, Any]]] = {}
    for row in (row for row in rows if "seconds" in row):
        cases.setdefault(json.dumps(row["case"]), []).append(row)
    ratios: dict[str, list[float]] = {}
    print("| network | threads | zeros | best of dlas | ms | best peer | ms | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for text, members in cases.items():
        case = json.loads(text)
        medians = {row["runtime"]: statistics.median(row["seconds"]) for row in members}
        ours = min((n for n in medians if n.startswith("dlas")), key=medians.get, default=None)
        peer = min((n for n in medians if not n.startswith("dlas")), key=medians.get, default=None)
        if ours is None or peer is None:
            continue
        ratio = medians[peer] / medians[ours]
        zeros = f"{case['zeros']:.0%} {case['pruning']}" if case["zeros"] else "none"
        if "precision" in case:
            zeros += f", {case['precision']}"
        if "channels" in case:
            zeros += f", {case['channels']:.0%} of channels away"
        print(
            f"| {case['model']} | {case['threads']} | {zeros} | {ours} | "
            f"{1e3 * medians[ours]:.2f} | {peer} | {1e3 * medians[peer]:.2f} | {ratio:.2f} |"
        )
        if case["model"].startswith("vit"):
            continue
        for group in (zeros, f"{zeros}, {case['model']}"):
            ratios.setdefault(group, []).append(ratio)
    for group, values in ratios.items():
        print(
            f"geometric mean, zeros: {group}: {geometric_mean(values):.2f} ({len(values)} cases)"
        )


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--runtimes", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--precision", nargs="+", default=["float32"], choices=PRECISIONS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--zeros", nargs="+", type=float, default=[0.0])
    parser.add_argument("--pruning", nargs="+", default=["random"], choices=PRUNING)
    parser.add_argument("--channels", type=float, default=0.0, help="share of them to prune")
    parser.add_argument("--converter", default="", help="the Python that has litert-torch")
    parser.add_argument("--json", type=Path, help="results; cases in it are not measured again")
    parser.add_argument("--summary", action="store_true", help="only print what --json holds")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    saved = Saved(options.json)
    if options.summary:
        summary(saved.rows)
        return
    x = np.random.default_rng(0).standard_normal((1, 3, options.size, options.size))
    x = x.astype(np.float32)
    for name, zeros, pruning, precision in itertools.product(
        options.models, options.zeros, options.pruning, options.precision
    ):
        pruned = pruning if zeros else "none"
        common = {"model": name, "zeros": zeros, "pruning": pruned, "size": options.size}
        if precision != "float32":  # files of before have none
            common["precision"] = precision
        if options.channels:
            common["channels"] = options.channels
        cases = [common | {"threads": threads} for threads in options.threads]
        cases = [case for case in cases if not saved.has(case)]
        model = None
        if cases:
            model = make(name, options.size, zeros, pruning == "magnitude", options.channels)
        runtimes = [r for r in options.runtimes if zeros or r not in SPARSE]
        for case in cases:
            threads = case["threads"]
            told = f"{name}, {precision}, {threads} threads, {zeros:.0%} zeros ({pruned})"
            print(told, flush=True)
            if precision == "int8":
                known = [r for r in options.runtimes if r in quantized.NAMES]
                built, left = quantized.build_all(model, x, threads, known, options.converter)
            else:
                built, left = build_all(model, x, threads, runtimes, precision, options.converter)
            samples = measure(built, x, options.rounds)
            rows = [{"runtime": r, "seconds": seconds} for r, seconds in samples.items()]
            rows += [{"runtime": r, "left_out": why} for r, why in left.items()]
            saved.add(case, rows)
            table(rows)
            del built
            gc.collect()
    summary(saved.rows)


if __name__ == "__main__":
    main()
