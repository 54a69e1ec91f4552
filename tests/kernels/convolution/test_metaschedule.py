"""MetaSchedule: its candidates are built and run in children, what it finds is right."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernel_checks import random, worst_error

pytest.importorskip("tvm")
pytest.importorskip("xgboost")

from dlas.kernels import Conv2d, KernelError, UnsupportedError, build_conv2d, compile_model
from dlas.kernels.convolution.metaschedule import _Candidates, native
from dlas.kernels.convolution.native import packed, unpacked
from dlas.kernels.convolution.oracle import DIRECT_BOUND
from dlas.kernels.ground.subprocesses import Answer
from dlas.kernels.ground.target import resolve
from dlas.kernels.tune.tuner import Task, Tuner, Tuning, _module

OP = Conv2d(1, 8, 9, 9, 16, (3, 3), padding=(1, 1, 1, 1))


def tuning(tmp_path: Path, trials: int = 4) -> dict[str, Any]:
    return {"scheduler": "metaschedule", "trials": trials, "records": str(tmp_path)}


@pytest.mark.kernels_full
def test_a_scheduled_kernel_is_right_and_no_trial_is_lost(tmp_path: Path) -> None:
    weight, bias = random(OP.weight_shape), random((16,))
    options: dict[str, Any] = {"primitive": "native", "activation": "relu"}
    built = build_conv2d(OP, weight, bias, tuning=tuning(tmp_path), **options)
    for residual in (False, True):
        assert worst_error(built, weight, bias, "relu", residual) <= DIRECT_BOUND
    said = built.describe()["tuning"]
    assert said["scheduler"] == "metaschedule"
    assert said["trials"] >= 4 and said["lost"] == 0
    again = build_conv2d(OP, weight, bias, tuning=tuning(tmp_path), **options)
    assert again.describe()["tuning"]["reused"]
    assert again.describe()["schedule"] == built.describe()["schedule"]
    assert worst_error(again, weight, bias, "relu", residual=False) <= DIRECT_BOUND


@pytest.mark.kernels_full
def test_a_model_of_definitions_is_tuned_as_it_is_fused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Residual(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.a(x) + x)

    x = torch.randn(1, 4, 7, 7)
    model = Residual().eval()
    exported = torch.export.export(model, (x,))
    program = compile_model(exported, "native", tuning=tuning(tmp_path, 2))
    with torch.no_grad():
        np.testing.assert_allclose(program.run(x.numpy()), model(x).numpy(), atol=1e-5)
    (row,) = [o for o in program.describe()["operators"] if o["kind"] == "conv2d"]
    assert row["residual"] and row["activation"] == "relu" and row["tuning"]["trials"] >= 2


@pytest.mark.parametrize("primitive", ["direct", "winograd"])
def test_only_the_definition_is_scheduled(primitive: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="TVM's own definition"):
        build_conv2d(OP, random(OP.weight_shape), primitive=primitive, tuning=tuning(tmp_path))


class Broken:
    """Children that build every second candidate and run every second of these."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.turn = folder, 0

    def map(self, requests: list[dict[str, Any]], timeout_s: float) -> list[Answer]:
        good = Answer({"shapes": []})
        return [Answer(None, "crashed") if n % 2 else good for n in range(len(requests))]

    def one(self, request: dict[str, Any], timeout_s: float) -> Answer:
        self.turn += 1
        if self.turn % 2:
            return Answer(None, f"not done after {timeout_s:g} s")
        return Answer({"seconds": [[3.0, 1.0, 2.0]], "wrong": []})


def test_lost_candidates_are_counted_and_the_search_goes_on(tmp_path: Path) -> None:
    request = {"target": "native", "threads": 1}
    found = _Candidates(Broken(tmp_path), request)  # type: ignore[arg-type]
    function = native(Task(OP, "native", "dense", 1, 1).to_json(), resolve("native"))
    module = _module(function.function("main"))
    built = found.build([module] * 4)
    assert [error for _, error in built] == [None, "crashed", None, "crashed"]
    paths = [path for path, _ in built if path]
    assert len({Path(p).parent for p in paths}) == 2  # MetaSchedule removes the folder
    assert found.run(paths[0]) == (None, "not done after 60 s")
    assert found.run(paths[1]) == ([3.0, 1.0, 2.0], None)
    assert found.seconds == {paths[1]: 2.0}
    assert [x["reason"] for x in found.lost] == [
        "build: crashed", "build: crashed", "run: not done after 60 s"
    ]  # fmt: skip
    assert str(unpacked(packed(module))) == str(module["main"])


class Dead:
    """Children whose search has crashed."""

    count, folder = 1, Path("/nowhere")

    def one(self, request: dict[str, Any], timeout_s: float) -> Answer:
        return Answer(None, "crashed: ended by SIGSEGV")


def test_a_search_that_dies_is_an_error_with_its_reason(tmp_path: Path) -> None:
    tuner = Tuner(Tuning("metaschedule", 2, 0, str(tmp_path)), resolve("native"), Dead())  # type: ignore[arg-type]
    with pytest.raises(KernelError, match="crashed: ended by SIGSEGV"):
        tuner.best(Task(OP, "native", "dense", 1, 1))
