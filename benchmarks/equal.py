"""Quantized networks by dlas against ONNX Runtime on the same file: bit for bit.

    python benchmarks/equal.py --images 128

Networks of convolutions, sums, pools and linear layers: every quantized tensor (each is made an
output) and the output of the network as it is. Networks with operators in float between (SiLU,
squeeze-and-excite, softmax, LayerNorm, Gelu, norms before convolutions): every operator in int8, a
model of its own, on the tensors that ONNX Runtime gives it; and how far the whole is from ONNX
Runtime, beside how far ONNX Runtime without its optimizations is from itself. Weights and images
are random, the same in every run. Nothing is timed, so that the machine may be busy.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import quantized
from networks import make
from saved import machine

EXACT = ("resnet18", "mobilenetv2_100", "gemm", "pools")
"""Networks that stay in int8 from end to end."""
BETWEEN = ("efficientnet_b0", "vit_tiny_patch16_224", "densenet121")
"""Networks with float operators between."""
OPERATORS = ("Conv", "Gemm", "MatMul", "Add", "MaxPool", "AveragePool", "GlobalAveragePool")
Tensors = dict[str, np.ndarray]


def network(name: str, size: int) -> Any:
    """Return a network of timm, or one of linear layers, or of pools."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if name == "gemm":
        layers = [nn.Flatten(), nn.Linear(3 * size * size, 512), nn.ReLU(), nn.Linear(512, 256)]
        return nn.Sequential(*layers, nn.ReLU(), nn.Linear(256, 1000)).eval()
    if name == "pools":
        layers = [nn.Conv2d(3, 48, 3, 2, 1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(48, 40, 3)]
        layers += [nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.Conv2d(40, 64, 1)]
        layers += [nn.MaxPool2d(2), nn.AvgPool2d(3, 2, ceil_mode=True), nn.AdaptiveAvgPool2d(1)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 1000)).eval()
    return make(name, size)


def opened(model: Any) -> Any:
    """Return the model with every quantized tensor as an output, too."""
    import onnx

    shaped = onnx.shape_inference.infer_shapes(model)
    known = {value.name: value for value in shaped.graph.value_info}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            shaped.graph.output.append(known[node.output[0]])
    return shaped


def session(model: Any, optimized: bool = True) -> Any:
    """Return ONNX Runtime on a model, with all of its optimizations or none."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = model.SerializeToString()
    return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def tensors(peer: Any, x: np.ndarray) -> Tensors:
    """Return all outputs of ONNX Runtime by their names."""
    names = [output.name for output in peer.get_outputs()]
    return dict(zip(names, peer.run(None, {peer.get_inputs()[0].name: x}), strict=True))


def outputs(program: Any, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return all outputs of dlas."""
    found = program.run(*inputs)
    return found if isinstance(found, tuple) else (found,)


def compare_whole(model: Any, images: list[np.ndarray], algorithm: str) -> dict[str, Any]:
    """Compare every quantized tensor, and the output of the network as it is."""
    from dlas.kernels import compile_model

    every = opened(model)
    peer, apart = session(every), compile_model(every, algorithm)
    program, wrong = compile_model(model, algorithm), set[str]()
    for x in images:
        expected = tensors(peer, x)
        for (name, theirs), ours in zip(expected.items(), outputs(apart, x), strict=True):
            if not np.array_equal(ours, theirs):
                wrong.add(name)
        name = model.graph.output[0].name
        if not np.array_equal(program.run(x), expected[name]):
            wrong.add(name)
    said = [o for o in program.describe()["operators"] if o.get("dtype") == "int8"]
    return {"operators": len(said), "tensors": len(expected), "wrong": sorted(wrong)}


def operators(model: Any) -> Iterator[tuple[list[str], str]]:
    """Yield the quantized tensors that an operator in int8 reads, and the one that it writes."""
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in model.graph.node:
        given = [makers.get(name) for name in node.input]
        last = readers.get(node.output[0], [])
        if node.op_type not in OPERATORS or len(last) != 1 or None in given:
            continue
        if any(maker.op_type != "DequantizeLinear" for maker in given):
            continue
        if last[0].op_type == "QuantizeLinear":
            read = dict.fromkeys(m.input[0] for m in given if m.input[0] in makers)
            yield [*read], last[0].output[0]


def compare_operators(model: Any, images: list[np.ndarray], algorithm: str) -> dict[str, Any]:
    """Compare each operator in int8 on ONNX Runtime's own tensors, and the distance of the whole.

    The part of a model that an operator is has no more optimizations than the whole.
    """
    import onnx

    from dlas.kernels import compile_model

    every = opened(model)
    peer, bare = session(every), session(model, optimized=False)
    extract, parts = onnx.utils.Extractor(every).extract_model, []
    for read, written in operators(model):
        parts.append((read, written, compile_model(extract(read, [written]), algorithm)))
    whole, name, wrong = compile_model(model, algorithm), model.graph.output[0].name, set[str]()
    theirs, plain, ours = [], [], []
    for x in images:
        known = tensors(peer, x)
        for read, written, program in parts:
            (found,) = outputs(program, *(known[name] for name in read))
            if not np.array_equal(found, known[written]):
                wrong.add(written)
        theirs.append(known[name])
        plain.append(tensors(bare, x)[name])
        ours.append(whole.run(x))
    told = {"far": far(ours, theirs), "unoptimized": far(plain, theirs)}
    return {"operators": len(parts), "tensors": len(parts), "wrong": sorted(wrong), **told}


def far(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Return the relative L2 distance over all images."""
    return float(np.linalg.norm(np.subtract(found, expected)) / np.linalg.norm(expected))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--algorithm", default="spatial-pack")
    parser.add_argument("--networks", nargs="+", default=[*EXACT, *BETWEEN])
    asked = parser.parse_args()
    import onnx

    print(f"{machine()}\n")
    print("| network | operators in int8 | tensors | images | not equal | far | unoptimized |")
    print("| --- " * 7 + "|")
    failed = False
    for name in asked.networks:
        model, shape = network(name, asked.size), (1, 3, asked.size, asked.size)
        rng = np.random.default_rng(1)
        images = [rng.standard_normal(shape).astype(np.float32) for _ in range(asked.images)]
        given = onnx.load(Path(quantized.shared(model, images[0]).onnx))
        compare = compare_whole if name in EXACT else compare_operators
        told = compare(given, images, asked.algorithm)
        distances = [f"{told[key]:.2e}" if key in told else "" for key in ("far", "unoptimized")]
        failed |= bool(told["wrong"]) or told.get("far", 0) > told.get("unoptimized", 0)
        counts = f"{told['operators']} | {told['tensors']} | {len(images)}"
        wrong = ", ".join(told["wrong"]) or "none"
        print(f"| {name} | {counts} | {wrong} | {' | '.join(distances)} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
