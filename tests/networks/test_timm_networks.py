"""What ``benchmarks/timm_networks.py`` says of a step; the whole runs for hours."""

import importlib.util
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
for needed in ("timm", "torch_pruning", "onnxruntime", "onnxscript"):
    pytest.importorskip(needed)
from torch import nn  # noqa: E402

from dlas.core.errors import StepError  # noqa: E402
from dlas.core.protocols import Network, Program  # noqa: E402
from dlas.layers.optimization import int8  # noqa: E402
from dlas.testing import SmallImages  # noqa: E402

PLACE = Path(__file__).parents[2] / "benchmarks"
DATA = SmallImages(classes=10, channels=3, height=16, width=16)
NAN = float("nan")


@pytest.fixture
def timm_networks(monkeypatch):
    monkeypatch.syspath_prepend(str(PLACE))
    spec = importlib.util.spec_from_file_location("timm_networks", PLACE / "timm_networks.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "timm_networks", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(int8, "export_onnx", int8.export_onnx)  # which it replaces
    return module


@pytest.fixture
def network():
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.AdaptiveAvgPool2d(1)
    return Network(DATA.spec(), nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 10)).eval())


def test_builds_find_all_that_they_may_ask_for(timm_networks, network, tmp_path):
    lowered = timm_networks.Lowered(network, tmp_path / "a")
    for name in vars(Program):
        assert name.startswith("_") or hasattr(lowered, name), name


def test_counting_is_a_step_that_may_fail(timm_networks, network, monkeypatch):
    said = {}
    timm_networks._count(network, said.__setitem__)
    assert said["count"] == "done" and said["macs"] == said["second"] > 0

    def fail(kind):
        def raises(*_):
            raise kind("no")

        return raises

    monkeypatch.setattr(timm_networks, "second_count", fail(AssertionError))
    said = {}
    timm_networks._count(network, said.__setitem__)
    assert said["count"] == "done" and said["macs"] > 0 and said["second"] is None
    assert "PyTorch cannot count it" in timm_networks.row("a", said)
    monkeypatch.setattr("dlas.networks.counting.count", fail(ValueError))
    said = {}
    timm_networks._count(network, said.__setitem__)
    assert timm_networks.kind(said["count"]) == "BARE" and "macs" not in said


@pytest.mark.parametrize(
    ("off", "pruned", "ran"),
    [
        (1e-5, "right", "done"), (NAN, "WRONG", "WRONG"), (float("inf"), "WRONG", "WRONG"),
        (0.5, "WRONG", "done"), (StepError("no such kernel"), "refused", "refused"),
    ],
)  # fmt: skip
def test_what_pruning_and_int8_made_is_judged_by_what_ran(
    off, pruned, ran, timm_networks, network, monkeypatch, tmp_path
):
    def run(*_):
        if isinstance(off, Exception):
            raise off
        return off

    monkeypatch.setattr(timm_networks, "run", run)
    places, said = iter(tmp_path / str(n) for n in range(9)), {}
    plain = timm_networks.Lowered(network, next(places))
    timm_networks._prune(network, said.__setitem__, places)
    timm_networks._quantize(network, plain, DATA.load("train"), said.__setitem__, places)
    found = {step: timm_networks.kind(said.get(step, "")) for step in timm_networks.STEPS}
    assert found["channel-pruning"] == found["int8"] == "done"
    assert (found["pruned"], found["ran int8"]) == (pruned, ran)
