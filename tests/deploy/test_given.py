"""MODEL and PATH: what a person may give, the study that is made of it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from dlas.cli import app
from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.protocols import Dataset
from dlas.deploy.given import Given, Options, read_given
from dlas.deploy.sizing import Wish, sized_study
from dlas.run.plan import plan as planning
from dlas.study.study import Study

NET = """
import torch


def build(num_classes, in_channels, size):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(num_classes))


def helper(x):
    return x
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, an ONNX file, and photos with and without labels."""
    (tmp_path / "net.py").write_text(NET)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "flat").mkdir(exist_ok=True)
        for number in range(6):
            picture = Image.new("RGB", (20, 16), (number * 9, 0, 0))
            picture.save(tmp_path / "photos" / name / f"{number}.png")
            picture.save(tmp_path / "flat" / f"{name}-{number}.png")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])
    weights = onnx.numpy_helper.from_array(np.zeros((432, 5), np.float32), "w")
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], [weights])
    (tmp_path / "net.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _study(given: Given, seconds: float | None = None) -> Study:
    sized = sized_study(given, Wish(threads=(1,)), seconds, "mine", given.folder)
    file = given.folder / "made.yaml"
    file.write_text(sized.text)
    return Study.load(file)


@pytest.mark.parametrize("model", ["net.py", "net.py:build", "net:build", "timm/resnet18"])
def test_a_network_in_python(place: Path, model: str) -> None:
    given = read_given(model, "photos", Options())
    assert given.dataset == {"image-folder": {"root": "photos", "size": 16}}
    assert given.labelled
    assert any("--size" in note for note in given.notes)
    study = _study(given)
    name = {"timm/resnet18": "timm(name=resnet18)"}.get(model, "torch(factory=net:build)")
    assert {s.text("model") for s in study.stacks} == {name}


def test_an_onnx_file_says_its_size_channels_and_classes(place: Path) -> None:
    given = read_given("net.onnx", "flat", Options())
    assert given.dataset == {
        "unlabelled-images": {"root": "flat", "size": 12, "channels": 3, "classes": 5}
    }
    assert not given.labelled
    assert any("agreement" in note for note in given.notes)
    study = _study(given)
    # PyTorch has no reader of ONNX files but for the quantized operators that it has kernels of.
    by_torch = {s.text("optimization") for s in study.stacks if s.text("software") == "pytorch"}
    assert by_torch == {"int8"}
    assert {s.text("optimization") for s in study.stacks} >= {"none", "int8"}


def test_a_catalogue_model_on_a_data_set_by_name(place: Path) -> None:
    given = read_given("resnet-8", "fashion-mnist", Options())
    assert (given.model, given.dataset) == ("resnet-8", "fashion-mnist")


def test_a_study_holds_only_what_can_run_here_and_fits_its_budget(place: Path) -> None:
    given = read_given("resnet-8", "fashion-mnist", Options())
    whole = sized_study(given, Wish(threads=(1,)), None, "mine", place)
    with whole.study.inside():
        plan = planning.make(whole.study)
    refused = [cell.refusal.reason for cell in plan.refused]
    assert all("may run" in reason for reason in refused), refused
    assert len(plan.runnable) >= whole.runnable > 10
    little = sized_study(given, Wish(threads=(1,)), 90, "mine", place)
    assert 1 <= little.runnable < whole.runnable
    assert little.left_out
    assert "Left out for a budget" in little.text
    assert all(word in whole.text for word in ("# Each layer's choices", "# What is sought"))
    assert len(whole.text.splitlines()) < 40


def test_everything_wrong_is_told_at_once(place: Path) -> None:
    with pytest.raises(UserError) as error:
        read_given("nets.py", "fotos", Options())
    assert [p.split(":")[0] for p in error.value.problems] == ["MODEL", "--data 'fotos'"]


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("net.py:biuld", "photos", "has no function 'biuld'. Did you mean 'build'"),
        ("nowhere:build", "photos", "no module 'nowhere' is found"),
        ("resnet-9", "photos", "Did you mean 'resnet-8'"),
        ("net.py", "flat", "say --classes N"),
        ("net.py", "net.py", "is a file, but no Parquet file"),
        ("net.py", "empty", "holds no images"),
        ("net.py", "mixed", "lie beside folders of images"),
        ("broken.onnx", "photos", "is no ONNX file"),
        ("timm/resnet", "photos", "timm has no model 'resnet'"),
    ],
)
def test_what_cannot_be_taken(place: Path, model: str, data: str, said: str) -> None:
    (place / "empty").mkdir()
    (place / "broken.onnx").write_bytes(b"\x99 no onnx")
    (place / "mixed" / "cat").mkdir(parents=True)
    for where in ("mixed", "mixed/cat"):
        Image.new("L", (8, 8)).save(place / where / "x.png")
    with pytest.raises(UserError, match=said):
        read_given(model, data, Options())


def test_the_command_init(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["init", "net.py", "--data", "photos", "--budget", "2m", "--threads", "1"]
    assert app.main(command) == 0
    assert "study.yaml" in capsys.readouterr().out
    assert Study.load(place / "study.yaml").goals.minimize == ("latency_ms",)
    assert app.main(command) == 0, "the same study again"
    assert app.main([*command, "--max-drop", "0.2"]) == 2
    assert "another study" in capsys.readouterr().err
    wrong = ["--budget", "soon"], ["--threads", "0"], ["--minimize", "latncy"]
    for more in wrong:
        assert app.main(["init", "net.py", "--data", "photos", *more]) == 2
        err = capsys.readouterr().err
        assert more[0] in err
        assert "Traceback" not in err


# ---------------------------------------------------------------- images without labels


def test_images_without_labels_are_no_training_data(place: Path) -> None:
    made = registry.make("dataset", "unlabelled-images", {"root": "flat", "classes": 5, "size": 8})
    assert isinstance(made, Dataset)
    assert not made.labelled
    train, test = made.load("train"), made.load("test")
    assert len(train.labels) == len(test.labels) == 6
    assert not set(train.ids) & set(test.ids)
    assert test.images([0]).shape == (1, 3, 8, 8)
    data = {"dataset": [{"unlabelled-images": {"root": "flat", "classes": 5, "size": 8}}],
            "model": ["resnet-8"], "software": ["onnxruntime"],
            "optimization": ["int8", {"weight-pruning": {"sparsity": 0.5}},
                             {"weight-pruning": {"sparsity": 0.5, "epochs": 0}}]}  # fmt: skip
    study = Study.from_dict({"name": "x", "layers": data}, place)
    refused = [cell.refusal.reason for cell in planning.make(study).refused]
    assert len(refused) == 1
    assert "fine-tunes on labels" in refused[0]
    with pytest.raises(UserError, match="at least 2 are needed"):
        (place / "none").mkdir()
        registry.make(  # type: ignore[attr-defined]
            "dataset", "unlabelled-images", {"root": "none", "classes": 5}
        ).load("test")
