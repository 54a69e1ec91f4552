"""Float arithmetic between quantized tensors: what becomes of it, and how near ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from torch import nn  # noqa: E402

import int8_models  # noqa: E402
from dlas.core.protocols import DataSpec  # noqa: E402
from dlas.kernels import compile_model  # noqa: E402
from dlas.kernels.graph import islands, model_graph  # noqa: E402
from dlas.kernels.ground.target import resolve, runs_here  # noqa: E402
from int8_models import far, inputs, session  # noqa: E402

SPEC = DataSpec(10, 3, 21, 19)
TARGETS = [t for t in ("native", "x86-64-v3", "x86-64-v4") if runs_here(resolve(t))]


class Gated(nn.Module):
    """An inverted residual with squeeze-and-excite."""

    def __init__(self, wide: int, act: Callable[[Any], Any], gate: Callable[[Any], Any]) -> None:
        super().__init__()
        self.act, self.gate = act, gate
        self.deep = nn.Conv2d(wide, wide, 5, 1, 2, groups=wide)
        self.reduce, self.expand = nn.Conv2d(wide, 6, 1), nn.Conv2d(6, wide, 1)
        self.project = nn.Conv2d(wide, wide, 1)

    def forward(self, x: Any) -> Any:
        y = self.act(self.deep(x))
        squeezed = self.act(self.reduce(y.mean((2, 3), keepdim=True)))
        return x + self.project(y * self.gate(self.expand(squeezed)))


class Modern(nn.Module):
    """What networks have between their products that are no ReLUs."""

    def __init__(self) -> None:
        super().__init__()
        hard = nn.functional.hardswish
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.first = Gated(24, nn.functional.silu, torch.sigmoid)
        self.second = Gated(24, hard, nn.functional.hardsigmoid)
        self.fc, self.last = nn.Linear(24, 40), nn.Linear(40, 10)

    def forward(self, x: Any) -> Any:
        x = self.second(self.first(nn.functional.silu(self.stem(x))))
        x = torch.relu(x).mean((2, 3))
        return self.last(nn.functional.gelu(self.fc(x)))


class LayerScale(nn.Module):
    """A branch times a constant number of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 24, 3, 2, 1), nn.Conv2d(24, 24, 3, padding=1)
        self.gamma = nn.Parameter(torch.rand(1, 24, 1, 1))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        x = x + self.gamma * nn.functional.silu(self.second(x))
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return int8_models.quantized(Modern, SPEC, tmp_path_factory.mktemp("islands"))


@pytest.mark.parametrize(
    ("algorithm", "target", "threads"),
    [*(("spatial-pack", target, 1) for target in TARGETS), ("direct", "native", 2)],
)
def test_outputs_are_as_near_as_onnxruntime_s_own(
    model: Any, algorithm: str, target: str, threads: int
) -> None:
    program, images = compile_model(model, algorithm, threads, target), inputs(SPEC, 24)
    theirs, plain = (
        [peer.run(None, {"input": x})[0] for x in images]
        for peer in (session(model), session(model, optimized=False))
    )
    ours = [program.run(x) for x in images]
    assert far(ours, theirs) <= max(far(plain, theirs), 1e-3)


@pytest.mark.parametrize("algorithm", ["spatial-pack", "direct"])
def test_constant_numbers_of_channels_lie_as_the_image_is_read(
    algorithm: str, tmp_path: Path
) -> None:
    scaled = int8_models.quantized(LayerScale, SPEC, tmp_path)
    program, images = compile_model(scaled, algorithm), inputs(SPEC, 8)
    said = program.describe()["operators"]
    kinds = [o["kind"] for o in said]
    assert "pointwise" in kinds
    assert not [o for o in said if o["kind"] == "relayout" and "constant" in o["operator"]]
    theirs, plain = (
        [peer.run(None, {"input": x})[0] for x in images]
        for peer in (session(scaled), session(scaled, optimized=False))
    )
    assert far([program.run(x) for x in images], theirs) <= max(far(plain, theirs), 1e-3)


def test_no_float_tensor_lies_between_quantized_ones(model: Any) -> None:
    said = compile_model(model, "spatial-pack").describe()["operators"]
    kinds = [o["kind"] for o in said]
    assert kinds.count("quantize") == kinds.count("dequantize") == 1  # the ends
    assert kinds[-1] == "dequantize"
    assert kinds.count("pointwise") == 2 and kinds.count("global_pool") == 3
    assert not {"unary", "multiply", "affine", "lookup", "sigmoid", "clip"} & {*kinds}
    for o in said:
        if o["kind"] in ("pointwise", "conv2d", "linear"):
            assert (o["types"]["input"], o["types"]["output"]) == ("uint8", "uint8"), o
    pools = [o["types"]["output"] for o in said if o["kind"] == "global_pool"]
    assert pools == ["uint8", "uint8", "uint8"]
    formulas = {o["operator"]: o["formula"] for o in said if o["kind"] == "pointwise"}
    assert "(silu(x0) * sigmoid(x1))" in formulas.values()
    activations = {o["operator"]: o["activation"] for o in said if "activation" in o}
    hard = "(x * minimum(maximum(((0.166667 * x) + 0.5), 0), 1))"
    assert activations["stem"] == activations["first.reduce"] == "silu(x)"
    assert activations["second.reduce"] == hard
    assert "gelu" in activations["fc"] or "erf" in activations["fc"]
    assert activations["first.deep"] is None  # its output goes two ways


def test_the_sum_of_a_residual_is_followed_by_its_table(model: Any) -> None:
    """relu of a quantized sum whose own range is below zero, too."""
    said = compile_model(model, "spatial-pack").describe()["operators"]
    last = [o for o in said if o["kind"] == "conv2d"][-1]
    assert last["operator"] == "second.project" and last["residual"]


def test_without_islands_floats_lie_between(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers come, by passes over floats: the tests above can fail."""
    fused = compile_model(model, "spatial-pack")
    monkeypatch.setattr(islands, "fuse", lambda graph: graph)
    plain = compile_model(model, "spatial-pack")
    kinds = [o["kind"] for o in plain.describe()["operators"]]
    assert kinds.count("dequantize") > 5 and "pointwise" not in kinds
    images = inputs(SPEC, 8)
    one, other = ([program.run(x) for x in images] for program in (fused, plain))
    assert far(one, other) < 2e-2
    assert plain.describe()["arena_bytes"] > fused.describe()["arena_bytes"]


def graph_of(nodes: list[Any], outputs: dict[str, tuple[int, ...]], **tensors: Any) -> Any:
    """A graph of an ONNX model with one input x of shape (1, 8, 5, 6)."""
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = make.make_graph(
        nodes,
        "islands",
        [make.make_tensor_value_info("x", kind, (1, 8, 5, 6))],
        [make.make_tensor_value_info(n, kind, shape) for n, shape in outputs.items()],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in tensors.items()],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)])


SCALES = {
    "s": np.float32(0.05), "z": np.uint8(120), "t": np.float32(0.02), "u": np.uint8(9),
}  # fmt: skip


def quantized(x: str, y: str, last: bool = False) -> list[Any]:
    """Quantize and dequantize a tensor."""
    make, scales = onnx.helper.make_node, ["t", "u"] if last else ["s", "z"]
    return [
        make("QuantizeLinear", [x, *scales], [f"{y}.q"]),
        make("DequantizeLinear", [f"{y}.q", *scales], [y]),
    ]


def test_a_value_of_several_tensors_that_several_read_is_stored_once() -> None:
    make = onnx.helper.make_node
    nodes = [
        *quantized("x", "a"),
        make("Add", ["a", "x"], ["sum"]),
        make("Sigmoid", ["sum"], ["gate"]),
        make("Mul", ["sum", "c"], ["scaled"]),
        *quantized("gate", "y", last=True),
        *quantized("scaled", "v", last=True),
    ]
    shape = (1, 8, 5, 6)
    given = graph_of(nodes, {"y": shape, "v": shape}, c=np.float32(3), **SCALES)
    ops = [n.op for n in model_graph.read_model(given).nodes]
    assert ops.count("pointwise") == 3  # the sum, in float32, and both that read it
    check(given)


def test_numbers_of_channels_that_are_constant_are_part_of_it() -> None:
    make = onnx.helper.make_node
    nodes = [
        *quantized("x", "a"),
        make("Mul", ["a", "c"], ["scaled"]),
        make("Add", ["scaled", "b"], ["moved"]),
        make("Relu", ["moved"], ["r"]),
        *quantized("r", "y", last=True),
    ]
    c, b = (np.random.default_rng(1).standard_normal((1, 8, 1, 1)).astype(np.float32),) * 2
    given = graph_of(nodes, {"y": (1, 8, 5, 6)}, c=c, b=b, **SCALES)
    kinds = [o["kind"] for o in compile_model(given).describe()["operators"]]
    assert kinds == ["quantize", "pointwise", "dequantize"]
    check(given)


NORM = {
    "gamma": np.linspace(0.5, 2, 16), "beta": np.linspace(-1, 1, 16),
    "mean": np.linspace(-0.5, 0.5, 16), "var": np.linspace(0.5, 2, 16),
}  # fmt: skip
STATISTICS = list(NORM)


@pytest.mark.parametrize("joined", [False, True])
def test_batch_norms_that_no_convolution_takes_in_are_part_of_it(joined: bool) -> None:
    """Alone, or of parts with scales of their own, as DenseNet has them."""
    make, width = onnx.helper.make_node, 16 if joined else 8
    nodes = [*quantized("x", "a")]
    if joined:
        nodes += [*quantized("x", "b", last=True), make("Concat", ["a", "b"], ["both"], axis=1)]
    nodes += [
        make("BatchNormalization", ["both" if joined else "a", *STATISTICS], ["normed"]),
        make("Relu", ["normed"], ["r"]),
        *quantized("r", "y", last=True),
    ]
    constants = {name: each[:width].astype(np.float32) for name, each in NORM.items()}
    given = graph_of(nodes, {"y": (1, width, 5, 6)}, **constants, **SCALES)
    said = compile_model(given).describe()["operators"]
    assert [o["kind"] for o in said].count("pointwise") == 1
    assert not any(o["kind"] in ("affine", "unary") for o in said)
    check(given)


def test_a_batch_norm_behind_a_float_convolution_is_in_its_filters() -> None:
    make = onnx.helper.make_node
    nodes = [
        *quantized("x", "a"),
        make("Conv", ["x", "w"], ["c"]),
        make("BatchNormalization", ["c", *STATISTICS], ["normed"]),
        make("Add", ["normed", "a"], ["y"]),
    ]
    constants = {name: each[:8].astype(np.float32) for name, each in NORM.items()}
    w = np.random.default_rng(1).standard_normal((8, 8, 1, 1)).astype(np.float32)
    given = graph_of(nodes, {"y": (1, 8, 5, 6)}, w=w, **constants, **SCALES)
    kinds = [o["kind"] for o in compile_model(given).describe()["operators"]]
    assert "affine" not in kinds and "conv2d" in kinds
    check(given)


def test_requantizing_and_functions_without_a_kernel_are_tables() -> None:
    make = onnx.helper.make_node
    nodes = [
        *quantized("x", "a"),
        make("Tanh", ["a"], ["tanh"]),
        make("Softplus", ["a"], ["soft"]),
        *quantized("tanh", "y", last=True),
        *quantized("a", "v", last=True),
        *quantized("soft", "w", last=True),
    ]
    shape = (1, 8, 5, 6)
    given = graph_of(nodes, {"y": shape, "v": shape, "w": shape}, **SCALES)
    said = compile_model(given).describe()["operators"]
    formulas = [o["formula"] for o in said if o["kind"] == "lookup"]
    assert "tanh(x)" in formulas and "x" in formulas
    check(given)


def check(given: Any) -> None:
    """Outputs are those of ONNX Runtime, but for roundings in the middle between two steps."""
    program, peer = compile_model(given), session(given, optimized=False)
    for _ in range(4):
        x = (3 * np.random.default_rng().standard_normal((1, 8, 5, 6))).astype(np.float32)
        found, expected = program.run(x), peer.run(None, {"x": x})
        found = found if isinstance(found, tuple) else (found,)
        for ours, theirs in zip(found, expected, strict=True):
            off = np.abs(ours - theirs) / SCALES["t"]
            assert off.max() < 1.5 and (off > 0.5).mean() < 0.01
