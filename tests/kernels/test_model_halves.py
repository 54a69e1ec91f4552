"""Whole networks whose weights are stored in floats of 16 bits."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
from torch import nn  # noqa: E402

from dlas.kernels import UnsupportedError, compile_model, load  # noqa: E402
from dlas.kernels.ground.half_floats import ROUND_OFF  # noqa: E402
from dlas.kernels.ground.records import VARIABLE  # noqa: E402
from dlas.kernels.ground.target import resolve, runs_here  # noqa: E402
from dlas.kernels.ground.types import HALVES  # noqa: E402

TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
SHAPE = (1, 3, 17, 19)


class Mixed(nn.Module):
    """Convolutions of several kinds, a pool, a sum, a concatenation, attention, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.wide = nn.Conv2d(24, 24, 3, padding=1)
        self.deep = nn.Conv2d(24, 24, 5, padding=2, groups=24)
        self.side = nn.Conv2d(24, 20, 1)
        self.grouped = nn.Conv2d(44, 36, 3, padding=1, groups=2)
        self.norm, self.qkv = nn.LayerNorm(36), nn.Linear(36, 108)
        self.fc = nn.Linear(36, 10)

    def forward(self, x: Any) -> Any:
        x = self.pool(self.stem(x))
        x = torch.relu(self.wide(x) + x)
        x = nn.functional.silu(self.deep(x))
        x = self.grouped(torch.cat([x, self.side(x)], 1))
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).reshape(1, -1, 3, 3, 12).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        tokens = tokens + mixed.transpose(1, 2).reshape(tokens.shape)
        return self.fc(tokens.mean(1))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("algorithm", ["spatial-pack", "direct", "gemm"])
def test_a_batch_is_what_its_images_are_one_by_one(dtype: str, algorithm: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(24, 40, 3)]
    layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 10)]
    whole, x = nn.Sequential(*layers).eval(), torch.randn(3, 3, 17, 19)
    several, one = (
        compile_model(torch.export.export(whole, (each,)), algorithm, dtype=dtype)
        for each in (x, x[:1])
    )
    apart = np.concatenate([one.run(each[None].numpy()) for each in x])
    centred = apart - apart.mean(1, keepdims=True)
    assert np.linalg.norm(several.run(x.numpy()) - apart) < 1e-2 * np.linalg.norm(centred)


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    return Mixed().eval()


def exported(network: Any) -> Any:
    return torch.export.export(network, (torch.zeros(SHAPE),))


def error_of(program: Any, network: Any, dtype: str) -> float:
    """The error to the network with rounded weights, over the outputs without their mean."""
    narrow = copy.deepcopy(network)
    with torch.no_grad():
        for each in narrow.parameters():
            each.copy_(each.to(TYPES[dtype]).float())
    x = torch.randn(4, *SHAPE[1:])
    with torch.no_grad():
        expected = np.concatenate([narrow(one[None]).numpy() for one in x])
    found = np.concatenate([program.run(one[None].numpy()) for one in x])
    centred = expected - expected.mean(1, keepdims=True)
    return float(np.linalg.norm(found - expected) / np.linalg.norm(centred))


@pytest.mark.parametrize(
    ("algorithm", "dtype"),
    [
        ("spatial-pack", "bfloat16"),
        ("spatial-pack", "float16"),
        pytest.param("winograd", "bfloat16", marks=pytest.mark.kernels_full),
        pytest.param("gemm", "float16", marks=pytest.mark.kernels_full),
    ],
)
def test_network_is_right_in_halves(network: Any, algorithm: str, dtype: str) -> None:
    program = compile_model(exported(network), algorithm, dtype=dtype)
    # A batch norm is folded into weights that are rounded after it: a rounding more.
    assert error_of(program, network, dtype) <= 16 * ROUND_OFF[dtype]
    said = program.describe()["operators"]
    products = [o for o in said if o["kind"] in ("conv2d", "linear")]
    assert len(products) == 7
    assert {(o["dtype"], o["types"]["weight"]) for o in products} == {(dtype, dtype)}
    assert {o["types"]["accumulate"] for o in products} == {"float32"}


@pytest.mark.parametrize("target", ["x86-64-v4-bf16", "x86-64-v4-amx", "x86-64-v4"])
def test_images_are_halves_between_operators_that_know_them(network: Any, target: str) -> None:
    program = compile_model(exported(network), "spatial-pack", 1, target, dtype="bfloat16")
    stored = {s["record"]["operator"]: s["arguments"][-1]["dtype"] for s in program.plan["steps"]}
    inside = "float32" if target == "x86-64-v4" else "uint16"
    assert stored["stem.0"] == stored["wide"] == inside
    # What a concatenation reads, a product of another kind, and what goes outside.
    assert stored["deep"] == stored["side"] == stored["grouped"] == stored["fc"] == "float32"
    said = {o["operator"]: o for o in program.describe()["operators"]}
    assert said["wide"]["types"]["output"] == ("bfloat16" if inside == "uint16" else "float32")
    if runs_here(resolve(target)):
        assert error_of(program, network, "bfloat16") <= 16 * ROUND_OFF["bfloat16"]


def test_images_stay_float32_by_primitives_that_know_no_others(network: Any) -> None:
    program = compile_model(exported(network), "gemm", 1, "x86-64-v4-bf16", dtype="bfloat16")
    kinds = {
        a["dtype"] for s in program.plan["steps"] for a in s["arguments"] if a["in"] == "arena"
    }
    assert "uint16" not in kinds


@pytest.mark.parametrize("dtype", HALVES[:1])
def test_a_saved_network_is_half_as_large(network: Any, dtype: str, tmp_path: Path) -> None:
    program = compile_model(exported(network), "direct", target="x86-64-v3", dtype=dtype)
    whole = compile_model(exported(network), "direct", target="x86-64-v3")
    ours, theirs = (p.describe()["weight_bytes"] for p in (program, whole))
    assert ours < 0.62 * theirs  # biases, and each array begins at a line of the cache
    program.save(tmp_path)
    x = np.random.default_rng().standard_normal(SHAPE).astype(np.float32)
    np.testing.assert_array_equal(load(tmp_path).run(x), program.run(x))


@pytest.mark.kernels_full
def test_best_measures_in_the_type_that_is_asked(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    program = compile_model(exported(network), "best", dtype="bfloat16")
    convolutions = [o for o in program.describe()["operators"] if o["kind"] == "conv2d"]
    assert all("seconds" in o["measured"] for o in convolutions)
    assert error_of(program, network, "bfloat16") <= 16 * ROUND_OFF["bfloat16"]


def test_sparse_weights_in_halves_stay_dense_and_say_why(network: Any) -> None:
    program = compile_model(
        exported(network), "gemm", weights="csr", csr_threshold=0, dtype="float16"
    )
    said = [o for o in program.describe()["operators"] if "weights" in o]
    assert {o["weights"] for o in said} == {"dense"}
    assert all("CSR weights in float16" in o["fallback_reason"] for o in said)


def test_types_that_are_not_asked_for_by_name_are_refused(network: Any) -> None:
    with pytest.raises(UnsupportedError, match="give a quantized model"):
        compile_model(exported(network), dtype="int8")
    with pytest.raises(UnsupportedError, match="did you mean 'bfloat16'"):
        compile_model(exported(network), dtype="bfloat61")
