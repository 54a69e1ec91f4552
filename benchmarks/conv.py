"""Single convolutions: every primitive against the machine's ceiling and other runtimes.

    python benchmarks/conv.py --models resnet18 --threads 1 2 --json conv.json
    python benchmarks/conv.py --models resnet18 --precision int8 --json conv-int8.json
    python benchmarks/conv.py --json conv.json --summary
    python benchmarks/conv.py --bars

Kernel time of dlas: carried layouts, halo in place, weights packed. A peer's layer time is its
time in a chain: nine equal convolutions less one, divided by eight, for layers that keep their
shape; for the others the time of the convolution's node by the peer's own profiler (ONNX Runtime,
OpenVINO). The ceiling is a loop of multiply-adds in registers on the same target, before and after
each layer; the larger value counts. The same loop is also measured in turns with everyone else: on
a shared machine a core is not always as fast as at its best, and then it shows by how much.
Everyone is measured in turns within a layer. Each layer is saved when it is complete; one that the
JSON file holds already is not measured again. `--summary --quantile 0.2` prints the figures of the
samples that a fifth does not exceed, instead of the medians.

`--bars` prints, in a few minutes, one table of what the kernels in narrow types are held to:
shares of their type's ceiling, sparse over dense, depthwise over float32. What this CPU lacks is
left out.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from models import MODELS, PEERS
from saved import Saved, geometric_mean

from dlas.kernels import BuiltConv2d, Conv2d, Quantization, Scale, UnsupportedError, build_conv2d
from dlas.kernels.convolution import oracle
from dlas.kernels.ground import half_floats
from dlas.kernels.ground.target import resolve, runs_here
from dlas.kernels.ground.types import DTYPES
from dlas.layers.hardware.cpu import cache_sizes

Sampler = Callable[[int], list[float]]
"""Returns seconds, as many as asked."""
TOLERANCE = 1e-4
"""Largest difference of a peer from PyTorch, relative to the largest output."""
CHAIN = 9
LOOP = "multiply-adds in registers"
ONCE = ", one layer"
UNDISTURBED = 0.05
"""The share of samples that a kernel's time without neighbours does not exceed."""
WITHOUT_WINOGRAD = ("direct dense", "gemm dense", "spatial-pack dense", "torch", "torch-nhwc",
                    "onnxruntime", "openvino", "ncnn-no-winograd")  # fmt: skip


def layers(names: list[str], size: int) -> list[Conv2d]:
    """Return the distinct convolutions of the networks, in order of appearance."""
    import timm
    import torch

    found: dict[Conv2d, None] = {}

    def note(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        n, c, h, w = inputs[0].shape
        down, across = module.padding
        op = Conv2d(
            n, c, h, w, module.out_channels, module.kernel_size, module.stride,
            (down, across, down, across), module.dilation, module.groups,
        )  # fmt: skip
        found[op] = None

    for name in names:
        model = timm.create_model(name, pretrained=False).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(note)
        with torch.no_grad():
            model(torch.zeros(1, 3, size, size))
    return list(found)


@dataclass(frozen=True)
class Ceiling:
    """Multiply-adds that stay in registers: their GFLOP/s at best, and a sampler."""

    read: Callable[[], float]
    flops: float
    sample: Sampler


def ceiling(threads: int, precision: str = "float32", target: str = "native") -> Ceiling:
    """Return the ceiling of this machine on so many threads, in a type, on a target."""
    from dlas.run.measure import ceilings
    from dlas.run.measure.args import read_args

    folder = tempfile.TemporaryDirectory()
    given = {"isa": target, "threads": threads, "folder": folder.name, "dtype": precision}
    loop = ceilings.build_loop(given) | {"threads": threads, "loop": folder.name}

    def read() -> float:
        assert Path(folder.name).exists()  # it goes with this function
        return ceilings.arithmetic(loop)["value"]

    run = ceilings.loop(read_args(ceilings.Loop, loop))

    return Ceiling(read, loop["flops"], clocked(run))


def ours(
    op: Conv2d, threads: int, zeros: list[float], dtype: str = "float32"
) -> dict[str, Sampler]:
    """Return a sampler of every primitive in a type, each checked against float64."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(op.in_shape).astype(np.float32)
    dense = rng.standard_normal(op.weight_shape).astype(np.float32)
    cases = [(p, "dense", 0.0) for p in ("direct", "gemm", "spatial-pack", "winograd")]
    cases += [(p, "csr", z) for z in zeros for p in ("direct", "gemm", "spatial-pack")]
    samplers: dict[str, Sampler] = {}
    for primitive, storage, share in cases:
        weight = np.where(rng.random(dense.shape) < share, 0, dense)
        try:
            built = build_conv2d(
                op, weight, primitive=primitive, weights=storage, dtype=dtype, threads=threads
            )
        except UnsupportedError:
            continue
        kind = built.describe()["types"]["input"]
        exact = oracle.conv2d(op, _rounded(x, kind), _rounded(weight, dtype))
        bound = oracle.bound(primitive, dtype, kind)
        name = f"{primitive} {storage}" + (f" {share:.0%}" if share else "")
        if not (np.abs(built(x) - exact.y) <= bound * exact.magnitude).all():
            print(f"  {name}: WRONG; not timed")
            continue
        samplers[name] = lambda count, k=built: k.samples(x, repeats=count, warm_up=2)
    return samplers


def _rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return numbers as they are stored in a type of floats."""
    return (
        values
        if dtype == "float32"
        else half_floats.widened(half_floats.narrowed(values, dtype), dtype)
    )


def quantized(op: Conv2d, kept: float = 1.0, block: int = 1) -> tuple[np.ndarray, ...]:
    """Return an image, filters of which a share is kept (in blocks of input channels), biases."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, op.in_shape).astype(np.uint8)
    weight = rng.integers(-127, 128, op.weight_shape).astype(np.int8)
    bias = rng.integers(-4000, 4000, op.out_channels).astype(np.int32)
    per_in = op.weight_shape[1]
    drawn = rng.random((op.out_channels, -(-per_in // block), *op.kernel))
    weight[drawn.repeat(block, 1)[:, :per_in] >= kept] = 0
    return x, weight, bias


def scales_of(op: Conv2d) -> Quantization:
    """Return scales under which outputs of such images and filters fill the range of a byte."""
    spread = 0.02 * 0.01 * 73 * 73 * float(np.prod(op.weight_shape[1:])) ** 0.5 / 60
    return Quantization(Scale(0.02, 7), (0.01,), Scale(spread, 128))


def ours_int8(op: Conv2d, threads: int) -> dict[str, Sampler]:
    """Return a sampler of every primitive in int8, checked bit for bit, float32 beside them."""
    (x, weight, bias), scales = quantized(op), scales_of(op)
    exact = oracle.quantized_conv2d(op, x, weight, bias, scales)
    samplers: dict[str, Sampler] = {}
    for primitive in ("direct", "gemm", "spatial-pack"):
        built = build_conv2d(op, weight, bias, primitive, dtype="int8", threads=threads,
                             quantization=scales)  # fmt: skip
        if (built(x) != exact).any():
            print(f"  {primitive} int8: WRONG; not timed")
            continue
        samplers[f"{primitive} int8"] = lambda count, k=built: k.samples(x, repeats=count)
    floats = build_conv2d(op, weight.astype(np.float32), threads=threads)
    image = x.astype(np.float32)
    samplers["spatial-pack dense"] = lambda count: floats.samples(image, repeats=count)
    return samplers


def network(op: Conv2d, count: int) -> Any:
    """Return `count` equal convolutions in a row."""
    import torch

    torch.manual_seed(0)
    chain = torch.nn.Sequential()
    for at in range(count):
        layer = torch.nn.Conv2d(
            op.in_channels, op.out_channels, op.kernel, op.stride, op.padding[:2], op.dilation,
            op.groups,
        )  # fmt: skip
        chain.add_module(f"conv{at}", layer)  # pnnx writes names as Python's: no number will do
    return chain.eval()


def checked(model: Any, name: str, x: np.ndarray, threads: int) -> Callable[[Any], Any] | None:
    """Return the peer's network, None with a line if it cannot be built or differs."""
    import torch

    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    try:
        run = PEERS[name](model, x, threads)
        y = run(x)
    except Exception as error:  # a peer that cannot do this layer is a line of the output
        print(f"  {name}: failed: {str(error).splitlines()[0][:120]}")
        return None
    if not np.abs(y - expected).max() < TOLERANCE * np.abs(expected).max():
        print(f"  {name}: WRONG; not timed")
        return None
    return run


def peer(op: Conv2d, name: str, threads: int) -> dict[str, Sampler]:
    """Return samplers for a peer's time of the layer, none if there is no way to tell.

    One sampler if the peer tells the time of the node; else one of the chain and, called as the
    peer and `ONCE`, one of a single layer.
    """
    if op.padding[:2] != op.padding[2:]:
        return {}
    x = np.random.default_rng(0).standard_normal(op.in_shape).astype(np.float32)
    if op.in_shape != op.out_shape:
        return {name: NODE_TIME[name](op, x, threads)} if name in NODE_TIME else {}
    one = checked(network(op, 1), name, x, threads)
    chain = checked(network(op, CHAIN), name, x, threads)
    if one is None or chain is None:
        return {}
    return {name: clocked(lambda: chain(x)), name + ONCE: clocked(lambda: one(x))}


def clocked(run: Callable[[], Any]) -> Sampler:
    """Return a sampler of a call's wall time, after two calls that are not counted."""

    def sample(count: int) -> list[float]:
        time.sleep(0.01)  # the threads of the one before stop waiting busily
        seconds = []
        for _ in range(count + 2):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return seconds[2:]

    return sample


def exported(op: Conv2d, x: np.ndarray, folder: str) -> str:
    """Write the layer as ONNX; return the path."""
    import torch

    path = str(Path(folder) / "layer.onnx")
    example = (torch.from_numpy(x),)
    torch.onnx.export(network(op, 1), example, path, dynamo=True, external_data=False)
    return path


def onnxruntime_node(op: Conv2d, x: np.ndarray, threads: int) -> Sampler:
    """Return a sampler of the convolution's node by ONNX Runtime's profiler."""
    import onnxruntime as ort

    def sample(count: int) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            path = exported(op, x, folder)
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            name = session.get_inputs()[0].name
            for _ in range(count + 3):
                session.run(None, {name: x})
            events = json.loads(Path(session.end_profiling()).read_text())
        seconds = [
            event["dur"] * 1e-6
            for event in events
            if event.get("args", {}).get("op_name", "").endswith("Conv")
            and event["name"].endswith("kernel_time")
        ]
        return seconds[3:]

    return sample


def openvino_node(op: Conv2d, x: np.ndarray, threads: int) -> Sampler:
    """Return a sampler of the convolution's node by OpenVINO's profiler."""
    import openvino as ov

    with tempfile.TemporaryDirectory() as folder:
        core = ov.Core()
        model = core.read_model(exported(op, x, folder))
        settings = {
            "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True,
        }  # fmt: skip
        request = core.compile_model(model, "CPU", settings).create_infer_request()

    def sample(count: int) -> list[float]:
        seconds = []
        for turn in range(count + 3):
            request.infer([x])
            nodes = [n for n in request.get_profiling_info() if n.node_type == "Convolution"]
            if turn >= 3:
                seconds.append(sum(n.real_time.total_seconds() for n in nodes))
        return seconds

    return sample


NODE_TIME: dict[str, Callable[[Conv2d, np.ndarray, int], Sampler]] = {
    "onnxruntime": onnxruntime_node,
    "openvino": openvino_node,
}


def measure(
    samplers: dict[str, Sampler], top: Ceiling, rounds: int, repeats: int
) -> tuple[dict[str, list[float]], float]:
    """Return everyone's seconds, measured in turns, and the ceiling before and after."""
    before = top.read()
    samples = in_turns(samplers, rounds, repeats)
    return samples, max(before, top.read())


def in_turns(samplers: dict[str, Sampler], rounds: int, repeats: int) -> dict[str, list[float]]:
    """Return everyone's seconds, measured in turns."""
    samples: dict[str, list[float]] = {name: [] for name in samplers}
    for _ in range(rounds):
        for name, sample in samplers.items():
            samples[name] += sample(repeats)
    return samples


def fields(op: Conv2d) -> dict[str, Any]:
    """Return a layer's shape and its multiplications, as JSON reads them back."""
    return json.loads(json.dumps(asdict(op) | {"multiplications": op.multiplications}))


def results(
    op: Conv2d, flops: float, top: float, samples: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """Return the rows of one layer; `flops`: those of a call of the ceiling's loop."""
    shape = fields(op)
    rows = []
    for name in [name for name in samples if not name.endswith(ONCE)]:
        once = {"once": samples[name + ONCE]} if name + ONCE in samples else {}
        work = flops if name == LOOP else 2 * op.multiplications
        common = {"name": name, "op": shape, "ceiling": top, "flops": work}
        rows.append(common | {"seconds": samples[name]} | once)
    return rows


def level(row: dict[str, Any], quantile: float) -> float:
    """Return the seconds of a layer that so large a share of a row's samples does not exceed.

    Of a chain and of one layer each, before they are subtracted: differences of single samples
    would be smallest where the one was disturbed.
    """
    seconds = float(np.quantile(row["seconds"], quantile))
    if "once" not in row:
        return seconds
    return (seconds - float(np.quantile(row["once"], quantile))) / (CHAIN - 1)


def table(threads: int, top: float, rows: list[dict[str, Any]]) -> None:
    """Print one layer, the fastest first."""
    print(f"  ceiling {top:.0f} GFLOP/s on {threads} threads")
    for row in sorted(rows, key=lambda row: level(row, 0.5)):
        seconds = level(row, 0.5)
        rate = 1e-9 * row["flops"] / seconds
        print(f"  {row['name']:24s} {1e3 * seconds:8.3f} ms {rate:7.0f} GFLOP/s {rate / top:6.2f}")


def summary(rows: list[dict[str, Any]], quantile: float) -> None:
    """Print the figures that the project's bars ask for, as far as the rows hold them."""
    layers_found: dict[str, dict[str, Any]] = {}
    for row in rows:
        layer = layers_found.setdefault(json.dumps(row["case"]), {"case": row["case"], "ms": {}})
        if row["name"] == LOOP:
            layer["loop"] = 1e-9 * row["flops"] / level(row, quantile)
            continue
        layer["ms"][row["name"]] = 1e3 * level(row, quantile)
        layer["top"], layer["op"] = row["ceiling"], row["op"]
    figures: dict[str, list[float]] = {}
    for layer in layers_found.values():
        rates = {"ceiling": layer["top"], "the loop in the same turns": layer["loop"]}
        for name, value in judged(layer["op"], layer["ms"], rates).items():
            figures.setdefault(f"{layer['case']['threads']} threads: {name}", []).append(value)
        both = json.dumps(layer["case"] | {"threads": 2})
        large = 2 * layer["op"]["multiplications"] >= 1e8
        if layer["case"]["threads"] != 1 or both not in layers_found or not large:
            continue
        for name in set(layer["ms"]) & set(layers_found[both]["ms"]):
            ratio = layer["ms"][name] / layers_found[both]["ms"][name]
            wide = max(layer["op"]["in_channels"], layer["op"]["out_channels"]) > 256
            more = ", more than 256 channels" if wide and name == "winograd dense" else ""
            figures.setdefault(f"2 threads against 1: {name}{more}", []).append(ratio)
    print(f"| figure (samples at {quantile:g}) | geometric mean | least | layers |")
    print("| --- | --- | --- | --- |")
    for name, values in sorted(figures.items()):
        print(f"| {name} | {geometric_mean(values):.2f} | {min(values):.2f} | {len(values)} |")


def judged(op: dict[str, Any], ms: dict[str, float], rates: dict[str, float]) -> dict[str, float]:
    """Return one layer's figures by name; `rates`: GFLOP/s to compare with."""
    found = judged_int8(op, ms, rates)
    plain = min((ms[n] for n in WITHOUT_WINOGRAD if n in ms), default=None)
    dense = min((t for n, t in ms.items() if " csr" not in n), default=None)
    least, most = (f(op["in_channels"], op["out_channels"]) for f in (min, max))
    square = op["kernel"] == [3, 3] and op["groups"] == 1
    first = square and op["stride"] == [1, 1]
    for name in ("spatial-pack dense", "gemm dense", "direct dense"):
        if first and least >= 64 and name in ms:
            rate = 2e-6 * op["multiplications"] / ms[name]
            for what, top in rates.items():
                found[f"{name} / {what}, 3x3 stride 1, 64 channels or more"] = rate / top
    if first and "winograd dense" in ms and least >= 32 and most <= 128 and op["height"] >= 28:
        what = "3x3 stride 1, 32-128 channels, image 28 or larger"
        if plain:
            found[f"best without winograd / winograd, {what}"] = plain / ms["winograd dense"]
        if "ncnn" in ms:
            found[f"ncnn / winograd, {what}"] = ms["ncnn"] / ms["winograd dense"]
    for name in ms:
        if not square or " csr" not in name or plain is None or dense is None:
            continue
        what = f"{name}, 3x3 stride {op['stride'][0]}"
        found[f"best dense without winograd / {what}"] = plain / ms[name]
        found[f"best dense / {what}"] = dense / ms[name]
        zeros = float(name.split()[-1].rstrip("%")) / 100
        useful = (1 - zeros) * 2e-6 * op["multiplications"] / ms[name]
        found[f"useful GFLOP/s of {what}"] = useful
    return found


def judged_int8(
    op: dict[str, Any], ms: dict[str, float], rates: dict[str, float]
) -> dict[str, float]:
    """Return the figures of one layer's kernels in int8."""
    found: dict[str, float] = {}
    kind = "depthwise" if op["groups"] > 1 else f"{op['kernel'][0]}x{op['kernel'][1]}"
    if kind == "1x1":
        kind += ", 256 channels or more" if op["in_channels"] >= 256 else ", fewer channels"
    elif kind == "3x3":
        kind += ", 512 channels" if op["in_channels"] >= 512 else ", fewer channels"
    for name in (n for n in ms if n.endswith(" int8")):
        rate = 2e-6 * op["multiplications"] / ms[name]
        for what, top in rates.items():
            found[f"{name} / {what}, {kind}"] = rate / top
        if "spatial-pack dense" in ms:
            found[f"spatial-pack float32 / {name}, {kind}"] = ms["spatial-pack dense"] / ms[name]
    return found


class Kernel(NamedTuple):
    """One kernel of ours, and what it multiplies."""

    op: Conv2d
    dtype: str
    target: str = "native"
    primitive: str = "spatial-pack"
    kept: float = 1.0
    """Share of the filters that are no zeros; below 1: CSR."""
    block: int = 1
    """Input channels that are kept or not together."""

    def text(self) -> str:
        """Return the layer in a table's words."""
        op = self.op
        size = f"{op.kernel[0]}x{op.kernel[1]}, {op.in_channels}x{op.height} to {op.out_channels}"
        return size + (f", stride {op.stride[0]}" if op.stride != (1, 1) else "")


class Bar(NamedTuple):
    """What a kernel is held to: a share of its type's ceiling, or a speed over another kernel."""

    what: str
    kernel: Kernel
    least: float
    over: Kernel | None = None


def square(channels: int, size: int, out: int, kernel: int = 3, stride: int = 1) -> Conv2d:
    """Return a convolution that keeps the image but for its stride."""
    pad = kernel // 2
    return Conv2d(1, channels, size, size, out, (kernel, kernel), (stride, stride), (pad,) * 4)


THREES = [
    *(square(64, 56, 64), square(128, 28, 128), square(256, 14, 256)),
    *(square(64, 56, 128, 3, 2), square(128, 28, 256, 3, 2)),
]
WIDE_ONES = [square(256, 56, 64, 1), square(512, 28, 128, 1), square(1024, 14, 256, 1)]
NARROW_ONES = [square(64, 56, 64, 1), square(64, 56, 256, 1)]
DEPTHWISE = [(96, 112, 1), (96, 112, 2), (144, 56, 1), (384, 14, 1), (576, 14, 2)]
SPARSE = [square(64, 56, 64), square(256, 14, 256)]
FEW_PIXELS = [square(512, 7, 512), square(512, 2, 512), square(512, 1, 512)]
DOTS, TILED = {"int8": "x86-64-v4-vnni", "bfloat16": "x86-64-v4-bf16"}, "x86-64-v4-amx"
"""Targets of dot products, and of tiles."""


def shares() -> Iterator[Bar]:
    """Yield the bars that are shares of a ceiling."""
    dots = DOTS["int8"]
    for least, ops in (
        (0.9, THREES), (0.75, [square(512, 7, 512)]), (0.8, WIDE_ONES), (0.6, NARROW_ONES),
    ):  # fmt: skip
        yield from (Bar("int8, dot products", Kernel(op, "int8", dots), least) for op in ops)
    gemm = (Kernel(op, "int8", dots, "gemm") for op in (*THREES[:3], WIDE_ONES[0]))
    yield from (Bar("int8 gemm, dot products", kernel, 0.65) for kernel in gemm)
    some = [*THREES, *WIDE_ONES[:1]]
    halves = (Kernel(op, "bfloat16", DOTS["bfloat16"]) for op in some)
    yield from (Bar("bfloat16, dot products", kernel, 0.85) for kernel in halves)
    for dtype in ("bfloat16", "int8"):
        tiles = (Kernel(op, dtype, TILED) for op in [*some, square(512, 7, 512)])
        yield from (Bar(f"{dtype}, tiles", kernel, 0.6) for kernel in tiles)


def speeds() -> Iterator[Bar]:
    """Yield the bars that are speeds over another kernel."""
    second = cache_sizes().get("L2", 1 << 20)
    for channels, size, stride in DEPTHWISE:
        op = replace(square(channels, size, channels, 3, stride), groups=channels)
        large = 4 * channels * size * size > second
        what = "int8 over float32, depthwise, image " + ("beyond" if large else "within") + " L2"
        yield Bar(what, Kernel(op, "int8"), 1.3 if large else 1.0, Kernel(op, "float32"))
    for what, kept, block, least in (
        ("90 % zeros", 0.1, 1, 1.15), ("95 % zeros", 0.05, 1, 2.0), ("90 % in 1x4", 0.1, 4, 3.0),
    ):  # fmt: skip
        for op in SPARSE:
            dense = Kernel(op, "int8", DOTS["int8"])
            sparse = dense._replace(primitive="direct", kept=kept, block=block)
            yield Bar(f"int8 CSR over dense, {what}", sparse, least, dense)


def gemms() -> Iterator[Bar]:
    """Yield the bars of `gemm`, which is to be no slower than `direct`."""
    for dtype in ("float32", "int8"):
        for op in (*THREES, *FEW_PIXELS, *WIDE_ONES[:1]):
            gemm = Kernel(op, dtype, primitive="gemm")
            yield Bar(f"{dtype} gemm over direct", gemm, 1.0, gemm._replace(primitive="direct"))


def checked_kernel(kernel: Kernel) -> Sampler:
    """Return a sampler of a kernel that computes what its reference does.

    Raises:
        SystemExit: it computes something else.
    """
    op, dtype = kernel.op, kernel.dtype
    x, weight, bias = quantized(op, kernel.kept, kernel.block)
    how = {"weights": "csr" if kernel.kept < 1 else "dense", "target": kernel.target}
    if dtype == "int8":
        scales = scales_of(op)
        built = build_conv2d(
            op, weight, bias, kernel.primitive, dtype=dtype, quantization=scales, **how
        )
        right = (built(x) == oracle.quantized_conv2d(op, x, weight, bias, scales)).all()
    else:
        x, weight = (a.astype(np.float32) for a in (x, weight))  # no type rounds them
        built = build_conv2d(op, weight, primitive=kernel.primitive, dtype=dtype, **how)
        exact = oracle.conv2d(op, x, weight)
        bound = oracle.bound(kernel.primitive, dtype, built.describe()["types"]["input"])
        right = (np.abs(built(x) - exact.y) <= bound * exact.magnitude).all()
    if not right:
        raise SystemExit(f"{kernel}: WRONG")
    return partial(sampled, built, x)


def sampled(built: BuiltConv2d, x: np.ndarray, count: int) -> list[float]:
    """Return seconds of a kernel, warm."""
    return built.samples(x, repeats=count, warm_up=2)


def held(words: str, rounds: int, repeats: int) -> None:
    """Print what each kernel reaches of what it is held to, on one thread, if it is called so.

    Two shares: of medians, of a ceiling at its best; and undisturbed, of what was measured in the
    same turns (``UNDISTURBED`` of the samples of both), like of like: the core of a shared machine
    is not always as fast as when the ceiling was at its best. The second decides.
    """
    print("| bar | layer | GOP/s | ceiling, or of the other | of medians | undisturbed | bar | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    tops: dict[tuple[str, str], Ceiling] = {}
    for bar in (*shares(), *speeds(), *gemms()):
        kernel, other = bar.kernel, bar.over
        if words not in bar.what or not runs_here(resolve(kernel.target)):
            continue
        samplers = {"own": checked_kernel(kernel)}
        work = {"own": 2e-9 * kernel.op.multiplications}
        if other is None:
            key = (kernel.dtype, kernel.target)
            top = tops[key] = tops.get(key) or ceiling(1, *key)
            samples, best = measure(samplers | {"other": top.sample}, top, rounds, repeats)
            work["other"] = 1e-9 * top.flops
        else:
            samplers["other"], work["other"] = checked_kernel(other), work["own"]
            samples, best = in_turns(samplers, rounds, repeats), 0.0
        usual, quiet = (
            {name: work[name] / float(np.quantile(taken, q)) for name, taken in samples.items()}
            for q in (0.5, UNDISTURBED)
        )
        reached = usual["own"] / (best or usual["other"]), quiet["own"] / quiet["other"]
        met = "" if reached[1] >= bar.least else "**missed**"
        print(f"| {bar.what} | {kernel.text()} | {quiet['own']:.0f} | {quiet['other']:.0f} | "
              f"{reached[0]:.2f} | {reached[1]:.2f} | {bar.least:g} | {met} |",
              flush=True)  # fmt: skip


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", default="float32", choices=DTYPES,
                        help="int8: our own kernels only, float32 beside them")  # fmt: skip
    parser.add_argument("--zeros", nargs="*", type=float, default=[0.4, 0.9])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10, help="samples of a round")
    parser.add_argument("--kernel", type=int, help="only square filters of this size")
    parser.add_argument("--limit", type=int, help="only the first so many layers")
    parser.add_argument("--json", type=Path, help="results; layers in it are not measured again")
    parser.add_argument("--quantile", type=float, default=0.5, help="of samples, in the summary")
    parser.add_argument("--summary", action="store_true", help="only print what --json holds")
    parser.add_argument("--bars", nargs="?", const="", metavar="WORDS",
                        help="what narrow types are held to, where it is called so")  # fmt: skip
    return parser.parse_args()


def main() -> None:
    options = arguments()
    saved = Saved(options.json)
    if options.summary:
        summary(saved.rows, options.quantile)
        return
    if options.bars is not None:
        held(options.bars, options.rounds, options.repeats)
        return
    found = layers(options.models, options.size)
    if options.kernel:
        found = [op for op in found if op.kernel == (options.kernel, options.kernel)]
    tops = {threads: ceiling(threads, options.precision) for threads in options.threads}
    for op in found[: options.limit]:
        for threads in options.threads:
            case = {"op": str(op), "threads": threads}
            if options.precision != "float32":
                case["precision"] = options.precision
            if saved.has(case):
                continue
            print(f"{op.in_shape} -> {op.out_channels}, {op.kernel}, stride {op.stride}, "
                  f"groups {op.groups}, {threads} threads", flush=True)  # fmt: skip
            samplers = {LOOP: tops[threads].sample}
            if options.precision == "int8":
                samplers |= ours_int8(op, threads)
            else:
                samplers |= ours(op, threads, options.zeros, options.precision)
                for name in options.peers if options.precision == "float32" else ():
                    samplers |= peer(op, name, threads)
            samples, top = measure(samplers, tops[threads], options.rounds, options.repeats)
            rows = results(op, tops[threads].flops, top, samples)
            saved.add(case, rows)
            table(threads, top, rows)
    summary(saved.rows, options.quantile)


if __name__ == "__main__":
    main()
