"""Attention of ONNX models, recognized in its parts; bytes that are reshaped between products."""

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

SPEC = DataSpec(5, 3, 12, 8)
WIDE, HEADS = 24, 3


class Block(nn.Module):
    """A vision transformer of one block, on patches of 4x4."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDE, 4, 4)
        self.first, self.second = nn.LayerNorm(WIDE), nn.LayerNorm(WIDE)
        self.qkv, self.proj = nn.Linear(WIDE, 3 * WIDE), nn.Linear(WIDE, WIDE)
        self.fc1, self.fc2 = nn.Linear(WIDE, 40), nn.Linear(40, WIDE)
        self.head = nn.Linear(WIDE, SPEC.classes)

    def forward(self, x: Any) -> Any:
        x = self.patches(x).flatten(2).transpose(1, 2)
        n, tokens, _ = x.shape
        qkv = self.qkv(self.first(x)).reshape(n, tokens, 3, HEADS, WIDE // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(n, tokens, WIDE))
        x = x + self.fc2(nn.functional.gelu(self.fc1(self.second(x))))
        return self.head(x.mean(1))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return int8_models.quantized(Block, SPEC, tmp_path_factory.mktemp("heads"))


def test_a_quantized_transformer_is_as_near_as_onnxruntime_s_own(model: Any) -> None:
    program, images = compile_model(model, "spatial-pack"), inputs(SPEC, 24)
    theirs, plain = (
        [peer.run(None, {"input": x})[0] for x in images]
        for peer in (session(model), session(model, optimized=False))
    )
    ours = [program.run(x) for x in images]
    assert far(ours, theirs) <= max(far(plain, theirs), 1e-3)


def test_attention_is_one_operator_and_bytes_go_between_products(model: Any) -> None:
    said = compile_model(model, "spatial-pack").describe()["operators"]
    kinds = [o["kind"] for o in said]
    assert kinds.count("attention") == 1
    assert not {"softmax", "matmul", "strided_slice", "unary", "multiply"} & {*kinds}
    assert kinds.count("permute_dims") == 1  # of the patches
    norms = [o for o in said if o["kind"] == "layer_norm"]
    assert [o["types"]["output"] for o in norms] == ["uint8", "uint8"]
    activations = {o["operator"]: o["activation"] for o in said if o["kind"] == "linear"}
    assert "gelu(x)" in activations.values()
    sums = [o["formula"] for o in said if o["kind"] == "pointwise"]
    assert sums == ["(x0 + x1)"] or sums == ["(x1 + x0)"]  # the other sum is quantized


def attention(scaled: bool, turned: bool) -> Any:
    """An ONNX model: q, k and v as they are given, [batch, heads, tokens, depth]."""
    ends = [0, 2, 1, 3] if turned else [0, 1, 3, 2]
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        make.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        make.make_node("MatMul", ["q", "kt"], ["scores"]),
        make.make_node("Mul", ["scores", "c"], ["times"]) if scaled else
        make.make_node("Identity", ["scores"], ["times"]),
        make.make_node("Softmax", ["times"], ["weights"], axis=-1),
        make.make_node("MatMul", ["weights", "v"], ["heads"]),
        make.make_node("Transpose", ["heads"], ["y"], perm=ends),
    ]  # fmt: skip
    out = [2, 7, 3, 8] if turned else [2, 3, 8, 7]
    graph = make.make_graph(
        nodes,
        "attention",
        [make.make_tensor_value_info(n, kind, [2, 3, 7, 8]) for n in "qkv"],
        [make.make_tensor_value_info("y", kind, out)],
        [onnx.numpy_helper.from_array(np.float32(0.3), "c")],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)])


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_products_around_a_softmax(scaled: bool, turned: bool) -> None:
    model = attention(scaled, turned)
    program, random = compile_model(model), np.random.default_rng()
    kinds = {o["kind"] for o in program.describe()["operators"]}
    assert ("attention" in kinds) == turned
    given = {n: random.standard_normal((2, 3, 7, 8)).astype(np.float32) for n in "qkv"}
    (expected,) = session(model).run(None, given)
    found = program.run(*given.values())
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
