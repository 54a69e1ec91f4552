"""Quantized networks against ONNX Runtime, bit for bit at every quantized tensor."""

from functools import cache
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
from dlas.kernels import Program, UnsupportedError, compile_model, load  # noqa: E402
from dlas.kernels.ground.records import VARIABLE  # noqa: E402
from dlas.kernels.ground.target import resolve, runs_here  # noqa: E402
from int8_models import opened, session  # noqa: E402

SPEC = DataSpec(10, 3, 17, 19)
IMAGES = 16


class Branches(nn.Module):
    """Convolutions of several kinds, sums in both orders, pools, a product at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.narrow = nn.Conv2d(24, 20, 1)
        self.deep = nn.Conv2d(20, 20, 3, padding=1, groups=20)
        self.wide = nn.Conv2d(20, 24, 1)
        self.side = nn.Conv2d(24, 24, 5, padding=2, groups=2)
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Any) -> Any:
        x = self.pool(torch.relu(self.stem(x)))
        inner = nn.functional.relu6(self.deep(nn.functional.relu6(self.narrow(x))))
        x = self.wide(inner) + x
        x = torch.relu(x + self.side(x))
        x = x + torch.relu(x)
        return self.fc(x.mean((2, 3)))


@cache
def quantized(folder: Path) -> Any:
    """The network quantized by dlas's own technique, with every quantized tensor as an output."""
    return int8_models.quantized(Branches, SPEC, folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return quantized(tmp_path_factory.mktemp("qdq"))


def inputs() -> list[np.ndarray]:
    return int8_models.inputs(SPEC, IMAGES)


TARGETS = [t for t in ("native", "x86-64-v3") if t == "native" or runs_here(resolve(t))]


@pytest.mark.parametrize(
    ("algorithm", "target"), [("spatial-pack", t) for t in TARGETS] + [("gemm", "native")]
)
def test_network_equals_onnxruntime_bit_for_bit(model: Any, algorithm: str, target: str) -> None:
    program, peer = compile_model(model, algorithm, 1, target), session(model)
    for x in inputs():
        np.testing.assert_array_equal(program.run(x), peer.run(None, {"input": x})[0])
    said = program.describe()["operators"]
    products = [o for o in said if o["kind"] in ("conv2d", "linear")]
    assert len(products) == 6 and {o["dtype"] for o in products} == {"int8"}
    assert all(o["types"]["accumulate"] == "int32" for o in products)
    assert {o["primitive"] for o in products if o["kind"] == "conv2d"} == {algorithm}
    assert sum(o["residual"] for o in products) == 2  # the sums are part of convolutions


@pytest.mark.parametrize("algorithm", ["spatial-pack", "direct", "gemm"])
def test_a_batch_equals_onnxruntime_bit_for_bit(model: Any, algorithm: str) -> None:
    several = onnx.ModelProto()
    several.CopyFrom(model)
    del several.graph.value_info[:]
    for value in (*several.graph.input, *several.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    program, peer = compile_model(several, algorithm, threads=2), session(several)
    x = np.concatenate(inputs()[:3])
    np.testing.assert_array_equal(program.run(x), peer.run(None, {"input": x})[0])


def test_every_quantized_tensor_equals_onnxruntime_s(model: Any) -> None:
    """As outputs they are computed one by one: sums by a kernel of their own."""
    whole = opened(model)
    program, peer = compile_model(whole, "direct"), session(whole)
    assert "add" in {o["kind"] for o in program.describe()["operators"]}
    names = [output.name for output in whole.graph.output]
    for x in inputs()[:4]:
        expected = peer.run(None, {"input": x})
        found = program.run(x)
        for name, ours, theirs in zip(names, found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_chain_stays_in_eight_bits_and_what_does_not_is_listed(model: Any) -> None:
    kinds = [o["kind"] for o in compile_model(model, "spatial-pack").describe()["operators"]]
    assert kinds[0] == "quantize" and kinds[-1] == "dequantize"
    # A relu of a tensor that is also added is a table; the mean reads bytes.
    assert kinds.count("lookup") == kinds.count("global_pool") == 1
    assert kinds.count("quantize") == 1 and kinds.count("dequantize") == 1


def test_every_operator_tells_what_it_reads_and_writes(model: Any) -> None:
    said = compile_model(opened(model), "direct").describe()["operators"]
    assert {o["kind"] for o in said} >= {"conv2d", "linear", "add", "max_pool", "global_pool"}
    for o in said:
        assert {"input", "output"} <= set(o["types"]), o
        adds = o["kind"] not in ("max_pool", "lookup", "relayout", "concat")
        assert ("accumulate" in o["types"]) == adds, o
    read = {o["kind"]: (o["types"]["input"], o["types"]["output"]) for o in said}
    assert read["quantize"] == ("float32", "uint8") and read["dequantize"] == ("uint8", "float32")
    assert read["add"] == read["max_pool"] == ("uint8", "uint8")


def test_names_are_those_of_the_modules(model: Any) -> None:
    program = compile_model(model, {"*": "spatial-pack", "side": "direct"})
    ran = {o["operator"]: o.get("primitive") for o in program.describe()["operators"]}
    assert ran["side"] == "direct" and ran["stem"] == ran["deep"] == "spatial-pack"


def test_what_int8_cannot_do_runs_otherwise_and_says_why(model: Any) -> None:
    said = compile_model(model, "winograd").describe()["operators"]
    reasons = {o["fallback_reason"] for o in said if o["kind"] == "conv2d"}
    assert len(reasons) == 1 and "winograd in int8 is not implemented" in reasons.pop()
    sparse = compile_model(model, "spatial-pack", weights="csr", csr_threshold=0.0)
    stored = [o for o in sparse.describe()["operators"] if o["kind"] == "conv2d"]
    assert {(o["primitive"], o["weights"]) for o in stored} == {("direct", "csr")}
    assert all("CSR weights in int8" in o["fallback_reason"] for o in stored)


@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
def test_sparse_weights_give_what_dense_ones_give(model: Any, algorithm: str) -> None:
    program, x = compile_model(model, algorithm, weights="csr", csr_threshold=0.0), inputs()[0]
    said = [o for o in program.describe()["operators"] if o["kind"] in ("conv2d", "linear")]
    assert {o["weights"] for o in said if o["kind"] == "conv2d"} == {"csr"}
    assert all(
        "CSR weights in int8" in o["fallback_reason"] for o in said if "linear" in o["kind"]
    )
    np.testing.assert_array_equal(program.run(x), session(model).run(None, {"input": x})[0])
    # No layer here has so many groups of four channels that are all zero.
    dense = compile_model(model, algorithm, weights="csr", csr_threshold=0.9).describe()
    reasons = [o["fallback_reason"] for o in dense["operators"] if o["kind"] == "conv2d"]
    assert all("zero groups of 4 channels, less than the threshold" in r for r in reasons)


@pytest.mark.parametrize("weights", ["dense", "csr"])
def test_best_measures_in_int8_and_is_exact(
    model: Any, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    program = compile_model(model, "best", weights=weights, csr_threshold=0.0)
    said = [o for o in program.describe()["operators"] if o["kind"] == "conv2d"]
    names = {"direct dense", "gemm dense", "spatial-pack dense"}
    names |= {"direct csr", "gemm csr"} if weights == "csr" else set()
    for operator in said:
        assert set(operator["measured"]["seconds"]) == names
        ran = f"{operator['primitive']} {operator['weights']}"
        assert ran in names and operator["asked_weights"] == weights
    x = inputs()[0]
    np.testing.assert_array_equal(program.run(x), session(model).run(None, {"input": x})[0])


def test_the_rule_of_best_in_int8(model: Any) -> None:
    for weights, primitive in (("dense", "spatial-pack"), ("csr", "direct")):
        program = compile_model(model, "best-by-rule", weights=weights, csr_threshold=0.0)
        said = [o for o in program.describe()["operators"] if o["kind"] == "conv2d"]
        assert {(o["primitive"], o["weights"]) for o in said} == {(primitive, weights)}
        assert {o["fallback_reason"] for o in said} == {None}


def test_saved_program_gives_the_same(model: Any, tmp_path: Path) -> None:
    program = compile_model(model, "spatial-pack", threads=2)
    program.save(tmp_path)
    loaded, x = load(tmp_path), inputs()[0]
    assert isinstance(loaded, Program)
    np.testing.assert_array_equal(loaded.run(x), program.run(x))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(UnsupportedError, match="no ONNX model that can be read"):
        compile_model(tmp_path / "text.onnx")
    with pytest.raises(UnsupportedError, match="no ONNX model that can be read"):
        compile_model(tmp_path / "missing.onnx")
