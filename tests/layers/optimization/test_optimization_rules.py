"""Order rules: each refuses with its sentence, and without it the pipeline really fails."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from dlas.core import registry
from dlas.core.errors import StepError, UserError
from dlas.core.protocols import (
    Algorithm,
    Dataset,
    DataSpec,
    HardwareTechnique,
    Model,
    Network,
    Software,
    Techniques,
)
from dlas.networks.export import export_onnx

SPEC = DataSpec(classes=2, channels=1, height=6, width=6)


@dataclass(frozen=True, kw_only=True)
class TorchNet(Model):
    name: ClassVar[str] = "a"


@dataclass(frozen=True, kw_only=True)
class OnnxNet(Model):
    name: ClassVar[str] = "b"
    form: ClassVar[str] = "onnx"


class Data:
    labels = np.arange(32) % 2
    ids = tuple(map(str, range(32)))
    content = "c"

    def images(self, indices):
        rng = np.random.default_rng(0)
        return rng.standard_normal((32, 1, 6, 6)).astype(np.float32)[list(indices)]


PARAMS = {
    "weight-pruning": {"sparsity": 0.5},
    "channel-pruning": {"ratio": 0.5},
    "int8": {"images": 8},
}


def pipeline(*names, model=TorchNet):
    steps = tuple(registry.make("optimization", n, PARAMS.get(n)) for n in names)
    return Techniques(Dataset(), model(), steps, Algorithm(), Software(), HardwareTechnique())


def refusals(stack):
    return [step.why_not(stack) for step in stack.optimization]


def small():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 2),
    )
    return module.eval()


def carry_out(stack, folder, network=None):
    """Apply a pipeline with its rules switched off."""
    network = network or Network(SPEC, small())
    for at, step in enumerate(stack.optimization):
        place = folder / str(at)
        place.mkdir()
        network = step.apply(network, Data() if step.data == "train" else None, place).network
    return network


ALLOWED = [
    ("none",),
    ("none", "none"),
    ("weight-pruning", "int8"),
    ("channel-pruning", "weight-pruning", "float16"),
    ("weight-pruning", "channel-pruning", "bfloat16"),
    ("weight-pruning", "none", "int8"),
    ("int8", "none"),
]


@pytest.mark.parametrize("names", ALLOWED, ids="+".join)
def test_what_is_allowed_works(names, tmp_path):
    stack = pipeline(*names)
    assert refusals(stack) == [None] * len(names)
    assert carry_out(stack, tmp_path).precision == stack.precision


PRECISIONS = ["float16", "bfloat16", "int8"]


@pytest.mark.parametrize("first", PRECISIONS)
@pytest.mark.parametrize("second", PRECISIONS)
def test_two_precisions_are_impossible(first, second, tmp_path):
    stack = pipeline(first, second)
    one, two = refusals(stack)
    assert one is None
    assert two.status == "impossible"
    assert f"asks for two: {first}, then {second}" in two.reason
    with pytest.raises(StepError, match=f"{second} needs a float32 network"):
        carry_out(stack, tmp_path)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("pruning", ["weight-pruning", "channel-pruning"])
def test_pruning_comes_before_a_precision(pruning, precision, tmp_path):
    stack = pipeline(precision, pruning)
    one, two = refusals(stack)
    assert one is None
    assert two.status == "unavailable"
    assert f"Write {pruning} before {precision}" in two.reason
    with pytest.raises(StepError, match=f"{pruning} needs a float32 network"):
        carry_out(stack, tmp_path)


@pytest.mark.parametrize("pruning", ["weight-pruning", "channel-pruning"])
def test_pruning_needs_a_torch_module(pruning, tmp_path):
    stack = pipeline(pruning, model=OnnxNet)
    (refusal,) = refusals(stack)
    assert refusal.status == "unavailable"
    assert "the model is an ONNX file: not implemented" in refusal.reason
    export_onnx(small(), SPEC, tmp_path / "m.onnx")
    with pytest.raises(StepError, match="needs a torch module"):
        carry_out(stack, tmp_path, Network(SPEC, None, tmp_path / "m.onnx"))


@pytest.mark.parametrize("name", ["none", *PRECISIONS])
def test_an_onnx_model_can_change_its_precision(name, tmp_path):
    export_onnx(small(), SPEC, tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    stack = pipeline(name, model=OnnxNet)
    assert refusals(stack) == [None]
    network = carry_out(stack, tmp_path, Network(SPEC, None, tmp_path / "m.onnx"))
    assert network.precision == stack.precision
    assert network.module is None
    assert (tmp_path / "m.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("weight-pruning", {}, "needs the parameter 'sparsity'"),
        ("weight-pruning", {"sparsity": 1.0}, "less than 1, got 1.0"),
        ("weight-pruning", {"sparsity": -0.1}, "greater than or equal to 0"),
        ("weight-pruning", {"sparsity": 0.5, "epoch": 1}, "Did you mean 'epochs'"),
        ("weight-pruning", {"sparsity": 0.5, "scope": "all"}, "'global' or 'layer'"),
        ("channel-pruning", {"ratio": 1}, "less than 1, got 1"),
        ("channel-pruning", {"ratio": 0.5, "lr": 0}, "greater than 0, got 0"),
        ("channel-pruning", {"ratio": 0.5, "round_to": 0}, "greater than or equal to 1"),
        ("int8", {"method": "max"}, "'minmax', 'entropy', 'percentile' or 'mse'"),
        ("int8", {"images": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_parameters_are_named(name, params, said):
    with pytest.raises(UserError) as caught:
        registry.make("optimization", name, params)
    assert said in str(caught.value)
