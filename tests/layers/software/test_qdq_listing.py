"""What of a quantized ONNX model becomes an operation in eight bits, and what stays in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from dlas.core.errors import StepError  # noqa: E402
from dlas.layers.software.shared.qdq_listing import read_listing  # noqa: E402
from dlas.layers.software.shared.qdq_parts import Listing  # noqa: E402
from dlas.layers.software.shared.torch_int8 import NARROW, Int8Network  # noqa: E402
from dlas.run.steps.forward import forward  # noqa: E402
from fake_programs import NETS, SPEC, Network, images, qdq_path  # noqa: E402

IMAGE = (1, 4, 8, 8)
SCALE, ZERO = 0.05, 100


class Building:
    """A QDQ model that grows from ``x`` to ``y``; each value is quantized by one scale."""

    def __init__(self, kind: type[Any] = np.uint8) -> None:
        zero = ZERO if kind is np.uint8 else ZERO - 128
        self.stored = {"s": np.array(SCALE, np.float32), "z": np.array(zero, kind)}
        self.nodes: list[Any] = []

    def node(self, op: str, inputs: list[str], output: str, **attrs: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attrs))
        return output

    def quantized(self, x: str, scale: str = "s") -> str:
        self.node("QuantizeLinear", [x, scale, "z"], f"{x}/q")
        return self.node("DequantizeLinear", [f"{x}/q", scale, "z"], f"{x}/dq")

    def weights(self, name: str, *shape: int, axis: int = 0) -> str:
        random = np.random.default_rng(len(self.nodes))
        self.stored |= {
            f"{name}/q": random.integers(-127, 127, shape).astype(np.int8),
            f"{name}/s": random.uniform(0.002, 0.004, shape[axis]).astype(np.float32),
            f"{name}/z": np.zeros(shape[axis], np.int8),
        }
        inputs = [f"{name}/{part}" for part in "qsz"]
        return self.node("DequantizeLinear", inputs, name, axis=axis)

    def model(self, last: str) -> Any:
        self.node("Identity", [last], "y")
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
                for name, dims in (("x", IMAGE), ("y", None))]  # fmt: skip
        stored = [numpy_helper.from_array(value, name) for name, value in self.stored.items()]
        graph = helper.make_graph(self.nodes, "g", ends[:1], ends[1:], stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def computed(listing: Listing, x: np.ndarray) -> np.ndarray:
    operations = [
        {"op": o.op, "inputs": o.inputs, "outputs": o.outputs, "attrs": o.attrs}
        for o in listing.operations
    ]
    constants = {name: torch.from_numpy(np.array(v)) for name, v in listing.constants.items()}
    network = Int8Network(operations, constants, (listing.given, listing.made), NARROW)
    found: np.ndarray = network(torch.from_numpy(x)).numpy()
    return found


def emulated(model: Any, x: np.ndarray, tmp_path: Path) -> np.ndarray:
    """Return what ONNX Runtime computes, each operator by itself."""
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return forward(Network(SPEC, None, path, "int8"))(x)


def conv(b: Building, x: str, **attrs: Any) -> str:
    return b.node("Conv", [x, b.weights("w", 6, 4, 3, 3)], "conv", **attrs)


def relu(b: Building, x: str) -> str:
    return b.node("Relu", [conv(b, x)], "relu")


def clip(b: Building, x: str) -> str:
    b.stored |= {"low": np.array(-1.0, np.float32), "high": np.array(1.5, np.float32)}
    return b.node("Clip", [conv(b, x), "low", "high"], "clip")


def uneven(b: Building, x: str) -> str:
    return conv(b, x, pads=[0, 1, 1, 1])


def twice(b: Building, x: str) -> str:
    """A convolution whose floats something else reads, too."""
    return b.node("Add", [b.quantized(conv(b, x)), "conv"], "sum")


def linear(b: Building, x: str) -> str:
    b.stored |= {"bias/q": np.arange(5, dtype=np.int32) * 400, "bias/s": np.full(5, 1e-3, "f4"),
                 "bias/z": np.zeros(5, np.int32)}  # fmt: skip
    flat = b.quantized(b.node("Flatten", [x], "flat"))
    bias = b.node("DequantizeLinear", ["bias/q", "bias/s", "bias/z"], "bias", axis=0)
    return b.node("Gemm", [flat, b.weights("w", 5, 256), bias], "gemm", transB=1)


def matmul(b: Building, x: str) -> str:
    return b.node("MatMul", [x, b.weights("w", 8, 3, axis=1)], "product")


def of_two(b: Building, x: str) -> str:
    return b.node("MatMul", [x, x], "product")


def with_constant(b: Building, x: str) -> str:
    b.stored["c/q"] = np.arange(64).reshape(8, 8).astype(b.stored["z"].dtype)
    return b.node("Add", [b.node("DequantizeLinear", ["c/q", "s", "z"], "c"), x], "sum")


def summed(b: Building, x: str) -> str:
    return b.node("Relu", [b.node("Add", [x, x], "sum")], "cut")


def side_by_side(b: Building, x: str) -> str:
    return b.node("Concat", [x, b.quantized(b.node("Sigmoid", [x], "sigmoid"))], "both", axis=1)


def pool(b: Building, x: str) -> str:
    return b.node("MaxPool", [x], "pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])


def turned(b: Building, x: str) -> str:
    return b.node("Transpose", [x], "turned", perm=[0, 2, 3, 1])


NARROWED: list[tuple[Callable[[Building, str], str], dict[str, int]]] = [
    (conv, {"int8 Conv": 1}),
    (relu, {"int8 Conv": 1}),
    (clip, {"int8 Conv": 1, "int8 Clamp": 1}),
    (linear, {"int8 Linear": 1, "Flatten": 1}),
    (matmul, {"int8 Linear": 1}),
    (with_constant, {"int8 Add": 1, "int8 constant": 1}),
    (summed, {"int8 Add": 1}),
    (side_by_side, {"int8 Concat": 1, "Sigmoid": 1, "dequantize": 1, "quantize": 1}),
    (pool, {"MaxPool": 1}),
    (turned, {"Transpose": 1}),
    # Left in float: there is no such kernel, or its value is wanted in float, too.
    (uneven, {"Conv": 1, "dequantize": 1, "quantize": 1}),
    (of_two, {"MatMul": 1, "dequantize": 1, "quantize": 1}),
    (twice, {"Conv": 1, "Add": 1, "dequantize": 2, "quantize": 2}),
]


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize(("make", "expected"), NARROWED, ids=lambda v: getattr(v, "__name__", ""))
def test_what_is_computed_in_eight_bits_is_what_the_model_says(
    make: Callable[[Building, str], str], expected: dict[str, int], kind: type[Any], tmp_path: Path
) -> None:
    b = Building(kind)
    model = b.model(b.quantized(make(b, b.quantized("x"))))
    listing = read_listing(model)
    found = Counter(operation.op for operation in listing.operations)
    around = Counter({"quantize": 1, "dequantize": 1, "Identity": 1})
    assert found - around == Counter(expected) and not around - found
    x = np.random.default_rng(5).standard_normal(IMAGE, np.float32)
    off = np.abs(computed(listing, x) - emulated(model, x, tmp_path))
    # A value half-way between two steps can be rounded to either.
    assert off.max() <= 1.01 * SCALE and (off > SCALE / 2).mean() <= 0.01


@pytest.mark.parametrize("net", NETS)
def test_networks_give_what_the_emulated_model_gives(net: str) -> None:
    listing = read_listing(onnx.load(qdq_path(net)))
    found = np.concatenate([computed(listing, x[None]) for x in images()])
    emulate = forward(Network(SPEC, None, qdq_path(net), "int8"))
    expected = np.concatenate([emulate(x[None]) for x in images()])
    assert np.linalg.norm(found - expected) <= 0.05 * np.linalg.norm(expected)
    products = [o.op for o in listing.operations if o.op in ("Conv", "Gemm", "MatMul")]
    # Of attention the products of two activations stay in float, and nothing else.
    assert len(products) == (4 if net == "vit" else 0)


def test_other_ways_to_quantize_are_refused() -> None:
    b = Building()
    b.stored |= {"many": np.full(8, SCALE, np.float32), "zeros": np.zeros(8, np.uint8)}
    b.node("QuantizeLinear", ["x", "many", "zeros"], "q", axis=3)
    last = b.node("DequantizeLinear", ["q", "many", "zeros"], "dq", axis=3)
    with pytest.raises(StepError, match="another way than by one constant scale"):
        read_listing(b.model(last))


def test_an_old_operator_set_is_refused() -> None:
    b = Building()
    model = b.model(b.quantized("x"))
    model.opset_import[0].version = 12
    with pytest.raises(StepError, match="opset 12, and is read from 13 on"):
        read_listing(model)
