"""Clips, and what else TVM's importer writes functions for: run, whatever their bounds."""

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
from int8_models import far, inputs, session  # noqa: E402

SPEC = DataSpec(10, 3, 17, 19)
SHAPE = (1, 4, 5, 6)
INFINITE = float("inf")


def clip(low: float | None, high: float | None, dtype: str = "float32") -> Any:
    """A model of one Clip."""
    make, given = onnx.helper, {"low": low, "high": high}
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    names = [name if bound is not None else "" for name, bound in given.items()]
    graph = make.make_graph(
        [make.make_node("Clip", ["x", *names], ["y"])],
        "clip",
        [make.make_tensor_value_info("x", kind, SHAPE)],
        [make.make_tensor_value_info("y", kind, SHAPE)],
        [make.make_tensor(n, kind, (), [b]) for n, b in given.items() if b is not None],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)])


@pytest.mark.parametrize(
    ("low", "high", "kinds"),
    [
        (0.0, 6.0, ["unary"]),
        (0.0, None, ["unary"]),
        (-1.0, 1.0, ["maximum", "minimum"]),
        (0.0, 1.0, ["unary", "minimum"]),
        (None, 6.0, ["minimum"]),
        (0.5, None, ["maximum"]),
        (-INFINITE, 2.0, ["minimum"]),
        (0.0, INFINITE, ["unary"]),
        (float("nan"), 2.0, ["minimum"]),
    ],
)
def test_clips_are_activations_or_comparisons(
    low: float | None, high: float | None, kinds: list[str]
) -> None:
    x = 8 * np.random.default_rng().standard_normal(SHAPE).astype(np.float32)
    program = compile_model(clip(low, high))
    sides = [None if bound is None or np.isnan(bound) else bound for bound in (low, high)]
    np.testing.assert_array_equal(program.run(x), np.clip(x, *sides))
    assert [o["kind"] for o in program.describe()["operators"]] == kinds


class Bounded(nn.Module):
    """Bounds that are no activations with kernels, and a shortcut padded with zero channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 24, 3, 2, 1)
        self.last, self.fc = nn.Conv2d(24, 24, 1), nn.Linear(24, 10)

    def forward(self, x: Any) -> Any:
        x = nn.functional.hardtanh(self.stem(x) * torch.sigmoid(self.stem(x)))
        short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 6, 6))
        x = torch.relu(self.wide(x) + short)
        x = (x * self.last(x)).clamp(min=0.1)
        return self.fc(x.mean((2, 3)))


def test_what_has_no_kernel_in_int8_runs_in_float_and_is_listed(tmp_path: Path) -> None:
    model = int8_models.quantized(Bounded, SPEC, tmp_path)
    program, images = compile_model(model, "spatial-pack"), inputs(SPEC, 16)
    said = program.describe()["operators"]
    products = [o for o in said if o["kind"] in ("conv2d", "linear")]
    assert len(products) >= 4 and {o["dtype"] for o in products} == {"int8"}
    (pad,) = (o for o in said if o["kind"] == "tir.pad")
    assert pad["types"] == {"input": "float32", "output": "float32"}
    formulas = [str(o.get("formula") or o.get("activation")) for o in said]
    assert any("minimum(maximum(" in formula for formula in formulas), formulas
    theirs, plain = (
        [peer.run(None, {"input": x})[0] for x in images]
        for peer in (session(model), session(model, optimized=False))
    )
    assert far([program.run(x) for x in images], theirs) <= max(far(plain, theirs), 1e-3)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_a_sum_that_is_not_fused_is_held_to_its_activation(activation: str) -> None:
    """Of zero points in the middle bounds are none of uint8."""
    make, kind, one = onnx.helper, onnx.TensorProto.FLOAT, np.float32
    scales = {"s": one(0.06), "t": one(0.05), "z": np.uint8(128), "low": one(0), "high": one(6)}
    bounds = ["low", "high"] if activation == "relu6" else ["low"]
    nodes = [
        make.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        make.make_node("DequantizeLinear", ["xq", "s", "z"], ["a"]),
        make.make_node("QuantizeLinear", ["w", "s", "z"], ["wq"]),
        make.make_node("DequantizeLinear", ["wq", "s", "z"], ["b"]),
        make.make_node("Add", ["a", "b"], ["sum"]),
        make.make_node("Clip", ["sum", *bounds], ["c"]),
        make.make_node("QuantizeLinear", ["c", "t", "z"], ["yq"]),
        make.make_node("DequantizeLinear", ["yq", "t", "z"], ["y"]),
    ]
    given = make.make_graph(
        nodes,
        "sum",
        [make.make_tensor_value_info(name, kind, SHAPE) for name in ("x", "w")],
        [make.make_tensor_value_info("y", kind, SHAPE)],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in scales.items()],
    )
    model = make.make_model(given, opset_imports=[make.make_opsetid("", 17)])
    program, peer = compile_model(model), session(model)
    assert [o["kind"] for o in program.describe()["operators"]].count("add") == 1
    x, w = (4 * np.random.default_rng().standard_normal((2, *SHAPE))).astype(np.float32)
    found, expected = program.run(x, w), peer.run(None, {"x": x, "w": w})[0]
    assert expected.min() == 0 and (activation == "relu") == (expected.max() > 6.01)
    steps = np.abs(found - expected) / scales["t"]
    assert steps.max() < 1.5 and (steps > 0.5).mean() < 0.02  # it adds floats
