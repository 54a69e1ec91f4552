"""``dlas train`` as a function: weights, card, and their use."""

import json
from pathlib import Path
from typing import Any

import pytest

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.protocols import Dataset, Model
from dlas.run.train import count_right, read_technique, run_train

torch = pytest.importorskip("torch")
pytest.importorskip("timm")


def digits() -> Dataset:
    data = registry.make("dataset", "digits")
    assert isinstance(data, Dataset)
    return data


def model(text: str) -> Model:
    made = read_technique("model", text)
    assert isinstance(made, Model)
    return made


class TestReadTechnique:
    def test_reads_what_a_study_file_has(self) -> None:
        assert read_technique("model", "mobilenet-v2: {width: 0.35}") == registry.make(
            "model", "mobilenet-v2", {"width": 0.35}
        )
        assert read_technique("dataset", "digits") == digits()

    @pytest.mark.parametrize("text", ["a: {b: 1}\nc: 2", "[digits]", "digits: [1]", "3", "{a: ["])
    def test_refuses_what_is_not_one_choice(self, text: str) -> None:
        with pytest.raises(UserError):
            read_technique("dataset", text)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("train") / "small"
    card = run_train(
        model("resnet-8"), digits(), out, epochs=4, batch_size=64, lr=5e-3, seed=1,
        augment="none", threads=1, float16=True,
    )  # fmt: skip
    return out.with_name("small.safetensors"), card


class TestRunTrain:
    def test_the_card_says_what_was_done(self, done: tuple[Path, dict[str, Any]]) -> None:
        path, card = done
        assert json.loads(path.with_suffix(".json").read_text()) == card
        assert card["model"] == {"name": "resnet-8", "params": {}}
        assert card["dataset"]["name"] == "digits"
        assert card["spec"] == {"classes": 10, "channels": 1, "height": 8, "width": 8}
        assert card["recipe"]["epochs"] == 4
        assert card["recipe"]["seed"] == 1
        assert card["accuracy_n"] == 359
        assert card["accuracy"] > 0.8

    def test_the_weights_are_used_and_as_accurate_as_written(
        self, done: tuple[Path, dict[str, Any]]
    ) -> None:
        from safetensors.torch import load_file

        path, card = done
        kinds = {t.dtype for t in load_file(path).values() if t.is_floating_point()}
        assert kinds == {torch.float16}
        data = digits()
        network = model(f"resnet-8: {{weights: {path}}}").build(data)
        assert count_right(network.module, data, data.load("test")) == card["accuracy"] * 359

    def test_it_repeats_itself(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            run_train(model("resnet-8"), digits(), tmp_path / name, epochs=1, limit=200, threads=1)
        a, b = (tmp_path / f"{n}.safetensors" for n in ("a", "b"))
        assert a.read_bytes() == b.read_bytes()

    def test_it_starts_from_scratch_unless_weights_are_named(
        self, tmp_path: Path, done: tuple[Path, dict[str, Any]]
    ) -> None:
        path, card = done
        again = model(f"resnet-8: {{weights: {path}}}")
        out = tmp_path / "again.safetensors"
        kept = run_train(again, digits(), out, epochs=0)
        assert kept["accuracy"] == card["accuracy"]
        fashion = registry.make("dataset", "fashion-mnist")
        assert isinstance(fashion, Dataset)
        module = model("resnet-8: {weights: random}").build(fashion).module
        from dlas.run.train import _from_scratch

        scratch = _from_scratch(model("resnet-8")).build(fashion).module
        assert all(
            torch.equal(p, q)
            for p, q in zip(module.parameters(), scratch.parameters(), strict=True)
        )

    def test_it_computes_in_bfloat16_and_keeps_its_weights_in_float32(
        self, tmp_path: Path
    ) -> None:
        from safetensors.torch import load_file

        def trained(name: str, *, narrow: bool) -> tuple[dict[str, Any], dict[str, Any]]:
            card = run_train(
                model("resnet-8"), digits(), tmp_path / name, epochs=3, batch_size=64, lr=5e-3,
                augment="none", threads=1, bfloat16=narrow,
            )  # fmt: skip
            return card, load_file(tmp_path / f"{name}.safetensors")

        (wide, one), (narrow, two) = trained("wide", narrow=False), trained("narrow", narrow=True)
        assert (wide["recipe"]["compute"], narrow["recipe"]["compute"]) == ("float32", "bfloat16")
        assert one.keys() == two.keys()
        assert all(two[n].dtype == one[n].dtype for n in one)
        assert any(not torch.equal(one[n], two[n]) for n in one)
        assert narrow["accuracy"] > 0.7

    def test_strided_depthwise_convolutions_stay_in_float32(self) -> None:
        """Their gradients are slow in bfloat16 on CPUs; the module is as it was afterwards."""
        from dlas.run.train import _computing

        module = torch.nn.Sequential(
            torch.nn.Conv2d(4, 4, 3, 2, groups=4), torch.nn.Conv2d(4, 4, 3, groups=4),
            torch.nn.Conv2d(4, 2, 1),
        )  # fmt: skip
        seen: dict[int, Any] = {}
        for at, part in enumerate(module):
            part.register_forward_hook(lambda _, x, y, at=at: seen.update({at: (x[0], y)}))
        x = torch.randn(1, 4, 9, 9, generator=torch.Generator().manual_seed(0))
        before = module(x)
        with _computing(module, "cpu", bfloat16=True):
            narrow = module(x)
            assert seen[0][1].dtype == torch.float32
            assert seen[1][1].dtype == seen[2][1].dtype == torch.bfloat16
        assert narrow.dtype == torch.float32
        assert torch.equal(module(x), before)

    def test_an_onnx_file_cannot_be_trained(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="only an ONNX file"):
            run_train(model("onnx: {path: m.onnx}"), digits(), tmp_path / "w")

    def test_a_place_that_cannot_be_written_is_found_before_training(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="cannot be written"):
            run_train(model("resnet-8"), digits(), tmp_path / "file" / "w", epochs=10_000)

    def test_a_minute_is_a_minute_and_stands_on_the_card(self, tmp_path: Path) -> None:
        card = run_train(
            model("resnet-8"), digits(), tmp_path / "w", minutes=0.02, first_size=4,
            label_smoothing=0.1, batch_size=64, threads=1,
        )  # fmt: skip
        recipe = card["recipe"]
        assert isinstance(recipe, dict)
        assert (recipe["minutes"], recipe["first_size"], recipe["label_smoothing"]) == (
            0.02, 4, 0.1,
        )  # fmt: skip
        assert recipe["steps"] >= 1

    @pytest.mark.parametrize(
        ("size", "said"), [(9, "Allowed: 4 to 8"), (2, "the images are 8 x 8")]
    )
    def test_a_size_that_there_is_not_is_refused(
        self, tmp_path: Path, size: int, said: str
    ) -> None:
        with pytest.raises(UserError, match=said):
            run_train(model("resnet-8"), digits(), tmp_path / "w", epochs=10_000, first_size=size)

    def test_a_network_of_one_size_is_told_before_training(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="takes no images of that size"):
            run_train(model("vit-tiny"), digits(), tmp_path / "w", epochs=10_000, first_size=4)
