"""Checkpoints as people have them: found in their file, or refused in a sentence."""

import argparse

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from dlas.core.errors import UserError  # noqa: E402
from dlas.layers.model.shared import state  # noqa: E402


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))


def trained() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    tensors = network().state_dict()
    tensors["1.running_mean"].normal_()
    return tensors


def prefixed(start: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {start + name: tensor for name, tensor in tensors.items()}


OTHER = {"head.weight": torch.ones(2, 2)}
PLAIN = trained()
FOUND = {
    "plain": PLAIN,
    "nested": {"state_dict": PLAIN, "epoch": 3, "optimizer": {"state": {}, "groups": [1]}},
    "tutorial": {"model_state_dict": PLAIN, "loss": torch.tensor(0.1)},
    "deep": {"checkpoint": {"model": {"state_dict": PLAIN}}},
    "parallel": prefixed("module.", PLAIN),
    "compiled": prefixed("_orig_mod.", PLAIN),
    "both": {"model": prefixed("module._orig_mod.", PLAIN)},
    "lightning": {"state_dict": {**prefixed("model.", PLAIN), "criterion.weight": OTHER}},
    "with its loss": {**prefixed("net.", PLAIN), "loss.weight": torch.ones(3)},
    "two networks": {"generator": OTHER, "discriminator": PLAIN},
    "half": {name: t.half() if t.is_floating_point() else t for name, t in PLAIN.items()},
    "before 0.4.1": {n: t for n, t in PLAIN.items() if not n.endswith("num_batches_tracked")},
    "flat beside numbers": {**PLAIN, "epoch": 7},
    "with settings": {"model": PLAIN, "args": argparse.Namespace(lr=0.1), "best": np.float64(93)},
    "of NumPy's arrays": {name: tensor.numpy() for name, tensor in PLAIN.items()},
    "profiled by thop": {**PLAIN, "total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)},
}


@pytest.mark.parametrize("name", FOUND)
def test_the_network_is_found_in_its_file(name, tmp_path):
    torch.save(FOUND[name], tmp_path / "w.pth")
    module = network()
    state.load_into(module, tmp_path / "w.pth")
    for key, tensor in module.state_dict().items():
        assert torch.allclose(tensor, PLAIN[key], atol=1e-3 if name == "half" else 0)


def test_of_a_compiled_part_inside_the_names_are_mended_too(tmp_path):
    body = {name.replace("0.", "0._orig_mod.", 1): tensor for name, tensor in PLAIN.items()}
    torch.save(body, tmp_path / "w.pth")
    module = network()
    state.load_into(module, tmp_path / "w.pth")
    assert torch.equal(module[0].weight, PLAIN["0.weight"])


def moved():
    return {name: t + 1 if t.is_floating_point() else t for name, t in PLAIN.items()}


def test_of_two_that_fit_the_file_has_to_name_one(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"state_dict": PLAIN, "ema": {"shadow": moved()}}, path)
    module = network()
    with pytest.raises(UserError, match=r"2 times \(key: ema\.shadow, state_dict\).*`key: "):
        state.load_into(module, path)
    state.load_into(module, path, key="ema.shadow")
    assert torch.equal(module[0].weight, PLAIN["0.weight"] + 1)
    with pytest.raises(UserError, match=r"no state dict 'emma'.*Those it holds: ema"):
        state.load_into(module, path, key="emma")


def test_of_two_prefixes_that_fit_one_has_to_be_named(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({**prefixed("student.", PLAIN), **prefixed("teacher.", moved())}, path)
    module = network()
    with pytest.raises(UserError, match=r"`prefix: student\.`"):
        state.load_into(module, path)
    for prefix in ("teacher", "teacher."):
        state.load_into(module, path, prefix=prefix)
        assert torch.equal(module[0].weight, PLAIN["0.weight"] + 1)
    with pytest.raises(UserError, match=r"under 'ema\.'. Their names begin with: student, teach"):
        state.load_into(module, path, prefix="ema.")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused_by_name(value, tmp_path):
    tensors = {name: tensor.clone() for name, tensor in PLAIN.items()}
    tensors["0.weight"][0, 0, 0, 0] = value
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"not numbers .* in 0\.weight \(1 of 36 values\)"):
        state.built(network, 0, tmp_path / "w.pth")


def test_a_norms_own_statistics_count_and_a_mask_of_minus_infinity_does_not(tmp_path):
    tensors = {name: tensor.clone() for name, tensor in PLAIN.items()}
    tensors["1.running_var"][2] = float("nan")
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"1\.running_var"):
        state.built(network, 0, tmp_path / "w.pth")

    def masked():
        module = network()
        module.register_buffer("mask", torch.full((3,), float("-inf")))
        return module

    assert state.built(masked, 0, None)


def test_other_shapes_are_named(tmp_path):
    other = {**PLAIN, "3.weight": torch.ones(1000, 4)}
    torch.save({"state_dict": other}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"do not fit.*3\.weight"):
        state.load_into(network(), tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>quota exceeded</html>", "a web page"),
        (b"", "it is empty"),
    ],
)
def test_a_file_that_was_not_fetched_is_named(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"cannot be read: .*{words}"):
        state.load_into(network(), tmp_path / name)


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64])
def test_stored_numbers_of_another_kind_are_refused(kind, tmp_path):
    torch.save({**PLAIN, "0.weight": (PLAIN["0.weight"] * 99).to(kind)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"hold no floats in 0\.weight \((int8|complex64)\)"):
        state.load_into(network(), tmp_path / "w.pth")


def test_a_negative_variance_is_refused(tmp_path):
    torch.save({**PLAIN, "1.running_var": torch.tensor([1.0, -1, 1, 1])}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"in 1\.running_var \(1 of 4 values\)"):
        state.built(network, 0, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\x89HDF\r\n\x1a\n0000", "it is HDF5"), (b'{"weight_map": {}}', "it is JSON")],
)
def test_weights_of_no_form_of_pytorchs_are_told(content, words, tmp_path):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(UserError, match=words):
        state.load_into(network(), tmp_path / "w")


def test_safetensors_whose_length_reads_like_json_are_no_json(tmp_path):
    """8827 bytes of header: the length's own bytes are `{"`."""
    data = pytest.importorskip("safetensors.torch").save(PLAIN)
    short, long = int.from_bytes(data[:8], "little"), int.from_bytes(b'{"', "little")
    header, numbers = data[8 : 8 + short], data[8 + short :]
    path = tmp_path / "w.safetensors"
    path.write_bytes(long.to_bytes(8, "little") + header.ljust(long) + numbers)
    module = network()
    state.load_into(module, path)
    assert torch.equal(module[0].weight, PLAIN["0.weight"])


def test_json_with_a_brace_at_the_ninth_byte_is_no_safetensors(tmp_path):
    (tmp_path / "w").write_bytes(b'{"abc": {"weight": 1}}')
    with pytest.raises(UserError, match="it is JSON"):
        state.load_into(network(), tmp_path / "w")


def test_a_file_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    torch.save(PLAIN, tmp_path / "w.pth")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(UserError, match=r"w\.pth' cannot be read: Permission denied"):
        state.load_into(network(), tmp_path / "w.pth")


def test_torchscript_is_told_from_a_damaged_file(tmp_path):
    torch.jit.script(network()).save(str(tmp_path / "w.pt"))
    with pytest.raises(UserError, match="TorchScript archive"):
        state.load_into(network(), tmp_path / "w.pt")
