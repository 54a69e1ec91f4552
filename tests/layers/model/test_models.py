"""The contract of every model, and what is particular to each."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from dlas.core import registry
from dlas.core.errors import StepError, UserError
from dlas.core.protocols import Dataset, DataSpec, Model
from dlas.layers.model.mobilenet_v2 import strides
from dlas.layers.model.shared import checkpoint, state
from dlas.run.steps.inspect import inspect_network
from dlas.testing import Problem as On
from dlas.testing import SmallImages, contract

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

FACTORY = """
import torch
from torch import nn

print("imported")

def build(num_classes, in_channels, size):
    h, w = size
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * h * w, num_classes))

def fixed(num_classes, in_channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * size[0] * size[1], 7))

def nothing(**_):
    return None
"""


@dataclass(frozen=True, kw_only=True)
class Problem(Dataset):
    """A data set of which only the shape is asked."""

    name: ClassVar[str] = "problem"
    shape: DataSpec

    def spec(self) -> DataSpec:
        return self.shape


def problem(classes: int, channels: int, height: int, width: int, batch: int = 1) -> Problem:
    return Problem(shape=DataSpec(classes, channels, height, width, batch))


def make(technique: str, /, **params: object) -> Model:
    made = registry.make("model", technique, params)
    assert isinstance(made, Model)
    return made


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's module ``mine`` beside a study file."""
    path = tmp_path / "mine.py"
    path.write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return path


SHAPES = [(10, 1, 28, 28), (10, 1, 8, 8), (10, 3, 32, 32)]
MODELS: dict[str, dict[str, object]] = {
    "resnet-8": {},
    "mobilenet-v2": {"width": 0.35},
    "vit-tiny": {},
    "timm": {"name": "mobilenetv3_small_050"},
    "cifar-form": {"name": "mobilenet-v1"},
    "torch": {"factory": "mine:build"},
}


@pytest.mark.usefixtures("factory")
@pytest.mark.parametrize("name", MODELS)
class TestContract:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_it_keeps_it(self, name: str, shape: tuple[int, int, int, int]) -> None:
        classes, channels, height, width = shape
        data = SmallImages(classes=classes, channels=channels, height=height, width=width)
        for check in contract("model", name, on=On(dataset=data), **MODELS[name]):
            check()

    def test_another_seed_gives_other_weights(self, name: str) -> None:
        data = problem(10, 1, 8, 8)
        one, other = (
            make(name, **MODELS[name], seed=seed).build(data).module.state_dict()
            for seed in (0, 1)
        )
        assert any(not torch.equal(one[k], other[k]) for k in one)

    def test_it_uses_the_weights_of_a_file(self, name: str, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        data = problem(10, 1, 8, 8)
        trained = make(name, **MODELS[name], seed=5).build(data).module
        save_file(trained.state_dict(), tmp_path / "w.safetensors")
        torch.save(trained.state_dict(), tmp_path / "w.pt")
        for file in ("w.safetensors", "w.pt"):
            model = make(name, **MODELS[name], weights=str(tmp_path / file))
            assert model.weights(data) == tmp_path / file
            loaded = model.build(data).module.state_dict()
            assert all(torch.equal(loaded[k], t) for k, t in trained.state_dict().items())
            assert model.fingerprint() != make(name, **MODELS[name]).fingerprint()

    def test_random_weights_are_none(self, name: str) -> None:
        assert make(name, **MODELS[name]).weights(problem(10, 1, 8, 8)) is None

    def test_its_choice_can_be_revived(self, name: str) -> None:
        model = make(name, **MODELS[name], weights="w.safetensors")
        assert registry.revive("model", registry.choice(model)) == model


def test_planning_with_models_loads_no_torch(factory: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(factory.parent)!r})
from dlas.core import registry
for name, params in {MODELS!r}.items():
    model = registry.make("model", name, params)
    registry.identity(model)
    model.weights(registry.make("dataset", "fashion-mnist"))
print([m for m in ("torch", "timm", "pandas", "mine") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestCifarForm:
    """Sizes of pytorch-cifar's networks at 32 x 32 and ten classes."""

    SIZES: ClassVar[dict[str, tuple[float, float]]] = {
        "vgg-16": (14.73e6, 313.5e6),
        "resnet-18": (11.17e6, 555.4e6),
        "mobilenet-v1": (3.22e6, 46.4e6),
        "mobilenet-v2": (2.24e6, 87.9e6),
    }

    @pytest.mark.parametrize("name", SIZES)
    def test_they_are_as_large_as_those_that_are_known(self, name: str) -> None:
        found = inspect_network(make("cifar-form", name=name).build(problem(10, 3, 32, 32)))
        params, macs = self.SIZES[name]
        assert found.params == pytest.approx(params, rel=0.01)
        assert found.macs == pytest.approx(macs, rel=0.01)

    def test_the_stem_halves_the_map_and_pools_where_that_is_asked(self) -> None:
        data = problem(10, 3, 64, 64)
        macs = [
            inspect_network(make("cifar-form", name="resnet-18", **stem).build(data)).macs
            for stem in ({}, {"stem_stride": 2}, {"stem_stride": 2, "stem_pool": True})
        ]
        assert macs[0] == pytest.approx(4 * macs[1], rel=0.01)
        assert macs[1] == pytest.approx(4 * macs[2], rel=0.05)
        with pytest.raises(UserError, match="only resnet-18 has"):
            make("cifar-form", name="vgg-16", stem_pool=True)

    def test_small_images_leave_something_of_the_map(self) -> None:
        module = make("cifar-form", name="vgg-16").build(problem(10, 1, 8, 8)).module
        assert module(torch.zeros(1, 1, 8, 8)).shape == (1, 10)

    def test_random_branches_are_alive(self) -> None:
        data = problem(10, 3, 32, 32)
        for model in (make("cifar-form", name="resnet-18"), make("timm", name="resnet18")):
            norms = [
                n for n, _ in model.build(data).module.named_parameters() if ".bn2.weight" in n
            ]
            state_dict = model.build(data).module.state_dict()
            assert len(norms) == 8
            assert all(state_dict[n].abs().min() > 0 for n in norms)

    def test_weights_are_random_unless_a_file_is_given(self) -> None:
        data = problem(10, 3, 32, 32)
        assert make("cifar-form", name="vgg-16").untrained(data)
        assert make("timm", name="resnet18").untrained(data)
        assert not make("timm", name="resnet18", weights="w.safetensors").untrained(data)
        assert not make("torch", factory="mine:build").untrained(data)  # it may have its own


class TestShipped:
    TARGETS: ClassVar[dict[str, tuple[dict[str, object], float]]] = {
        "resnet-8": ({}, 0.91),
        "mobilenet-v2": ({"width": 0.35}, 0.90),
        "vit-tiny": ({}, 0.88),
    }

    @pytest.mark.parametrize(
        "name",
        [
            "resnet-8",
            "mobilenet-v2",
            "vit-tiny",
        ],
    )
    def test_the_shipped_weights_are_as_good_as_their_card_says(self, name: str) -> None:
        params, target = self.TARGETS[name]
        data = registry.make("dataset", "fashion-mnist")
        assert isinstance(data, Dataset)
        model = make(name, **params)
        path = model.weights(data)
        assert path is not None
        card = json.loads(path.with_suffix(".json").read_text())
        assert card["accuracy"] >= target
        assert card["accuracy_n"] == 10_000
        samples = data.load("test")
        assert card["test_content"] == samples.content
        some = range(0, 10_000, 10)
        with torch.inference_mode():
            out = model.build(data).module(torch.from_numpy(samples.images(some))).numpy()
        right = data.correct(out, samples.labels[list(some)]).mean()
        assert abs(right - card["accuracy"]) < 3.3 * np.sqrt(0.1 * 0.9 / len(some))

    def test_they_serve_no_other_problem_and_no_other_architecture(self) -> None:
        data = registry.make("dataset", "fashion-mnist", {"batch": 4})
        larger = registry.make("dataset", "fashion-mnist", {"size": 32})
        assert isinstance(data, Dataset)
        assert isinstance(larger, Dataset)
        assert make("resnet-8").weights(data) is not None
        assert make("resnet-8", seed=3).weights(data) is not None
        assert make("resnet-8").weights(larger) is None
        assert make("resnet-8").weights(problem(10, 1, 28, 28)) is None
        assert make("resnet-8", weights="random").weights(data) is None
        assert make("mobilenet-v2", width=0.5).weights(data) is None
        assert make("vit-tiny", depth=2).weights(data) is None
        assert make("resnet-8").fingerprint() != make("resnet-8", weights="random").fingerprint()

    def test_they_are_small_float16_safetensors(self) -> None:
        from safetensors.torch import load_file

        files = list(state.SHIPPED.glob("*.safetensors"))
        assert sum(f.stat().st_size for f in files) < 5e6
        for file in files:
            kinds = {t.dtype for t in load_file(file).values() if t.is_floating_point()}
            assert kinds == {torch.float16}


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


class TestWeights:
    def test_a_malicious_pickle_is_refused_and_does_nothing(self, tmp_path: Path) -> None:
        import pickle

        sign = tmp_path / "executed"
        bad = tmp_path / "bad.pt"
        torch.save({"fc.weight": Payload(sign)}, bad)
        raw = tmp_path / "raw.pkl"
        raw.write_bytes(pickle.dumps(Payload(sign)))
        for file in (bad, raw):
            with pytest.raises(UserError, match="refused: the file holds more than tensors"):
                make("resnet-8", weights=str(file)).build(problem(10, 1, 8, 8))
        assert not sign.exists()
        torch.load(bad, weights_only=False)  # the payload is real
        assert sign.exists()

    def test_a_whole_pickled_module_is_refused(self, tmp_path: Path) -> None:
        torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pt")
        with pytest.raises(UserError, match=r"model\.state_dict\(\)"):
            checkpoint.read(tmp_path / "m.pt")

    def test_weights_of_another_network_are_refused(self, tmp_path: Path) -> None:
        for classes, channels, name in ((7, 1, "fc.weight"), (10, 3, "conv1.weight")):
            other = make("resnet-8").build(problem(classes, channels, 8, 8)).module
            torch.save(other.state_dict(), tmp_path / "w.pt")
            with pytest.raises(UserError, match=rf"do not fit the network.*{name}"):
                make("resnet-8", weights=str(tmp_path / "w.pt")).build(problem(10, 1, 8, 8))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "it is empty"),
            (b"hello world", "refused|neither safetensors nor"),
            (b"\x10\x00\x00\x00\x00\x00\x00\x00{broken json}}", "damaged"),
            (None, "no such file"),
        ],
    )
    def test_damaged_files_say_so(
        self, tmp_path: Path, content: bytes | None, message: str
    ) -> None:
        if content is not None:
            (tmp_path / "w").write_bytes(content)
        with pytest.raises(UserError, match=message):
            checkpoint.read(tmp_path / "w")

    def test_what_is_no_state_dict_is_refused(self, tmp_path: Path) -> None:
        torch.save([1, 2], tmp_path / "w.pt")
        with pytest.raises(UserError, match="no state dict"):
            checkpoint.read(tmp_path / "w.pt")

    def test_a_missing_file_is_found_before_anything_is_built(self) -> None:
        with pytest.raises(UserError, match="no such file"):
            make("resnet-8", weights="nowhere.pt").fingerprint()


class TestResNet8:
    def test_has_the_size_of_mlperf_tiny(self) -> None:
        module = make("resnet-8").build(problem(10, 3, 32, 32)).module
        kernels = sum(p.numel() for p in module.parameters() if p.ndim > 1)
        # 3x3: 3*16, 2 of 16*16, 16*32, 32*32, 32*64, 64*64; 1x1: 16*32, 32*64; fully connected
        assert kernels == 9 * (48 + 512 + 512 + 1024 + 2048 + 4096) + 512 + 2048 + 640


class TestMobileNetV2:
    @pytest.mark.parametrize(
        ("side", "total"), [(8, 2), (16, 4), (28, 8), (32, 8), (64, 16), (128, 32), (224, 32)]
    )
    def test_the_total_stride_suits_the_image(self, side: int, total: int) -> None:
        stem, stages = strides(side)
        assert stem * int(np.prod(stages)) == total
        module = make("mobilenet-v2", width=0.1).build(problem(5, 1, side, side)).module
        with torch.inference_mode():
            maps = module.forward_features(torch.zeros(1, 1, side, side))
        assert maps.shape[-1] == -(-side // total)

    def test_at_224_it_is_timms(self) -> None:
        import timm

        ours = make("mobilenet-v2").build(problem(1000, 3, 224, 224)).module.eval()
        theirs = timm.create_model("mobilenetv2_100").eval()
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            torch.testing.assert_close(ours(x), theirs(x))


class TestVitTiny:
    def test_images_without_a_patch_are_impossible(self) -> None:
        data, model = problem(10, 3, 8, 8), make("vit-tiny", patch=16)
        refusal = model.why_not(_stack(data))
        assert refusal is not None
        assert refusal.status == "impossible"
        with pytest.raises(StepError, match="an image of 8 x 8 holds no patch of 16 x 16"):
            model.build(data)
        # without the rule the network cannot run: the sentence is true
        module = model._network(data.spec())  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError):
            module(torch.zeros(1, 3, 8, 8))
        assert make("vit-tiny", patch=5).why_not(_stack(data)) is None

    def test_a_border_that_fills_no_patch_is_not_seen(self) -> None:
        module = make("vit-tiny", depth=1).build(problem(10, 1, 10, 10)).module
        x = torch.randn(1, 1, 10, 10, generator=torch.Generator().manual_seed(0))
        inner = x.clone()
        inner[..., 8:], inner[..., 8:, :] = 0, 0
        with torch.inference_mode():
            assert torch.equal(module(x), module(inner))

    def test_heads_must_divide_the_width(self) -> None:
        with pytest.raises(UserError, match=r"vit-tiny\.heads: must divide the width \(128\)"):
            make("vit-tiny", heads=3)


def _stack(data: Dataset) -> Any:
    """As much of a stack as a model's rule looks at."""

    class Stack:
        dataset = data

    return Stack


class TestTimm:
    @pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv2_100"])
    def test_any_name_for_any_problem(self, name: str) -> None:
        module = make("timm", name=name).build(problem(7, 1, 64, 64)).module
        with torch.inference_mode():
            assert module(torch.zeros(2, 1, 64, 64)).shape == (2, 7)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("resnet81", r"no model 'resnet81'. Did you mean 'resnet18'"),
            ("resnet18.a1_in1k", "downloads nothing.*weights: PATH"),
            ("hf_hub:timm/resnet18", "downloads nothing"),
        ],
    )
    def test_wrong_names_say_what_to_do(self, name: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            make("timm", name=name)

    def test_the_names_read_from_the_source_are_timms(self) -> None:
        import timm

        from dlas.layers.model.timm_model import _known

        assert set(timm.list_models()) <= _known()

    def test_a_network_that_does_not_take_the_images_is_refused(self) -> None:
        with pytest.raises(StepError, match=r"cannot build|does not take"):
            make("timm", name="vit_tiny_patch16_224").build(problem(7, 1, 8, 8))


@pytest.mark.usefixtures("factory")
class TestTorch:
    def test_the_source_is_hashed_and_not_run(
        self, factory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = make("torch", factory="mine:build")
        before = model.fingerprint()
        factory.write_text(FACTORY + "\n# changed\n")
        assert model.fingerprint() != before
        assert "mine" not in sys.modules
        assert capsys.readouterr().out == ""

    def test_the_working_folder_comes_before_what_is_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        study = tmp_path / "study"
        study.mkdir()
        (study / "mine_too.py").write_text(FACTORY)
        monkeypatch.chdir(study)
        model, path = make("torch", factory="mine_too:build"), list(sys.path)
        assert model.fingerprint() == make("torch", factory="mine:build").fingerprint()
        assert model.build(problem(3, 1, 4, 4)).module is not None
        assert sys.path == path
        sys.modules.pop("mine_too")

    def test_a_package_is_hashed_whole(self, factory: Path) -> None:
        package = factory.parent / "nets"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "blocks.py").write_text("")
        model = make("torch", factory="nets:build")
        before = model.fingerprint()
        (package / "blocks.py").write_text("x = 1")
        assert model.fingerprint() != before
        assert make("torch", factory="nets.blocks:build").fingerprint()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("mine:biuld", "no function 'biuld'. Did you mean 'build'"),
            ("absent_module:build", "beside the study file"),
            ("mine:nothing", r"must be a torch\.nn\.Module, got NoneType"),
        ],
    )
    def test_a_wrong_factory_says_what_is_wrong(self, text: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            make("torch", factory=text).build(problem(3, 1, 4, 4))

    @pytest.mark.parametrize("text", ["mine", "mine.build", "a b:c", "mine:", "../x:f"])
    def test_the_form_is_checked_at_once(self, text: str) -> None:
        with pytest.raises(UserError, match="module:function"):
            make("torch", factory=text)

    def test_other_outputs_than_one_logit_a_class_are_refused(self) -> None:
        with pytest.raises(StepError, match=r"returns \(1, 7\).*needed: a tensor of \(1, 3\)"):
            make("torch", factory="mine:fixed").build(problem(3, 1, 4, 4))


def write_onnx(
    path: Path,
    shape: tuple[object, ...] = ("n", 1, 4, 4),
    classes: int = 3,
    external: bool = False,
) -> Path:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).standard_normal((16, classes)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (shape[0], classes))],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(
        model,
        str(path),
        save_as_external_data=external,
        location="w.bin" if external else None,
        size_threshold=0,
    )
    return path


class TestOnnx:
    def test_it_is_the_file(self, tmp_path: Path) -> None:
        file = write_onnx(tmp_path / "m.onnx")
        model = make("onnx", path=str(file))
        assert model.form == "onnx"
        network = model.build(problem(3, 1, 4, 4, batch=2))
        assert (network.module, network.onnx) == (None, file)
        assert model.why_not(_stack(problem(3, 1, 4, 4))) is None

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (problem(3, 3, 4, 4), r"takes images of \? x 1 x 4 x 4, the data set gives 1 x 3 x"),
            (problem(4, 1, 4, 4), r"returns \? x 3, the data set needs 1 x 4"),
        ],
    )
    def test_another_problem_is_impossible(
        self, tmp_path: Path, data: Problem, message: str
    ) -> None:
        model = make("onnx", path=str(write_onnx(tmp_path / "m.onnx")))
        refusal = model.why_not(_stack(data))
        assert refusal is not None
        assert refusal.status == "impossible"
        with pytest.raises(StepError, match=message):
            model.build(data)

    def test_a_fixed_batch_must_be_the_data_sets(self, tmp_path: Path) -> None:
        model = make("onnx", path=str(write_onnx(tmp_path / "m.onnx", (1, 1, 4, 4))))
        assert model.why_not(_stack(problem(3, 1, 4, 4, batch=1))) is None
        assert model.why_not(_stack(problem(3, 1, 4, 4, batch=8))) is not None

    def test_tensors_beside_the_file_count(self, tmp_path: Path) -> None:
        model = make("onnx", path=str(write_onnx(tmp_path / "m.onnx", external=True)))
        before = model.fingerprint()
        data = bytearray((tmp_path / "w.bin").read_bytes())
        data[0] ^= 1
        (tmp_path / "w.bin").write_bytes(data)
        assert model.fingerprint() != before

    def test_wrong_files_say_so(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such file"):
            make("onnx", path=str(tmp_path / "no.onnx")).fingerprint()
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n"
        for content, words in (
            (b"", "it is empty"),
            (b"\x00not onnx", ""),
            (pointer, "it is a Git LFS pointer"),
            (b"<html>quota</html>", "it is a web page"),
        ):
            (tmp_path / "bad.onnx").write_bytes(content)
            with pytest.raises(UserError, match=f"no ONNX.*{words}"):
                make("onnx", path=str(tmp_path / "bad.onnx")).build(problem(3, 1, 4, 4))
