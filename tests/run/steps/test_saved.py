import json
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from safetensors import safe_open

from dlas.core import registry
from dlas.core.errors import StepError, StorageError
from dlas.core.protocols import Dataset, DataSpec, Model, Network
from dlas.core.stack import Choice
from dlas.run.steps import saved as on_disk
from dlas.run.steps.saved import load_network, read_network_info, recipe, save_network

SPEC = DataSpec(classes=3, channels=2, height=8, width=8)


class Net(torch.nn.Module):
    """Of everything something: a convolution, a norm, attention, shared and hidden tensors."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer_norm = torch.nn.LayerNorm(8)
        self.first = torch.nn.Linear(8, 8)
        self.second = torch.nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.head = torch.nn.Linear(8, 3)
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)
        self.act = torch.relu
        self.heads = (1, 2)

    def forward(self, x):
        x = self.act(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        x = self.layer_norm(x + self.attention(x, x, x, need_weights=False)[0])
        x = self.second(self.first(x)) * self.scale * self.heads[0]
        return self.head(x.mean(1))


@dataclass(frozen=True, kw_only=True)
class SmallData(Dataset):
    name: ClassVar[str] = "small"
    licence: ClassVar[str] = "none"

    def spec(self):
        return SPEC


@dataclass(frozen=True, kw_only=True)
class SmallModel(Model):
    name: ClassVar[str] = "small"

    def build(self, dataset):
        torch.manual_seed(1)
        return Network(spec=dataset.spec(), module=Net().eval())


@pytest.fixture(autouse=True)
def small_techniques(monkeypatch):
    made = {"dataset": SmallData(), "model": SmallModel()}
    monkeypatch.setattr(registry.parameters, "revive", lambda layer, choice: made[layer])


RECIPE = recipe(Choice("small"), Choice("small"))


def trained(seed=5):
    torch.manual_seed(seed)
    module = Net()
    with torch.no_grad():
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.add_(torch.rand_like(buffer))
    return module.eval()


def outputs(module, seed=0):
    x = torch.randn(SPEC.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return module(x)


def slim(module):
    """Drop 4 of the 8 channels by hand, as channel pruning does."""
    keep = torch.tensor([0, 2, 4, 5])

    def cut(owner, name, *dims):
        tensor = getattr(owner, name)
        for dim in dims:
            tensor = tensor.index_select(dim, keep)
        is_parameter = isinstance(getattr(owner, name), torch.nn.Parameter)
        setattr(owner, name, torch.nn.Parameter(tensor.detach()) if is_parameter else tensor)

    cut(module.conv, "weight", 0)
    cut(module.conv, "bias", 0)
    module.conv.out_channels = 4
    for name in ("weight", "bias", "running_mean", "running_var"):
        cut(module.norm, name, 0)
    module.norm.num_features = 4
    for name in ("weight", "bias"):
        cut(module.layer_norm, name, 0)
    module.layer_norm.normalized_shape = (4,)
    attention = torch.nn.MultiheadAttention(4, 1, batch_first=True)
    for name, value in attention.named_parameters():
        owner, leaf = (
            (module.attention.out_proj, name[9:])
            if name.startswith("out_proj")
            else (module.attention, name)
        )
        setattr(owner, leaf, value)
    module.attention.out_proj.in_features = module.attention.out_proj.out_features = 4
    module.attention.embed_dim = module.attention.kdim = module.attention.vdim = 4
    module.attention.num_heads = 1
    cut(module.first, "weight", 0, 1)
    cut(module.first, "bias", 0)
    cut(module.second, "bias", 0)
    module.second.weight = module.first.weight
    for linear in (module.first, module.second):
        linear.in_features = linear.out_features = 4
    cut(module.head, "weight", 1)
    module.head.in_features = 4
    return module.eval()


@pytest.mark.parametrize("change", [lambda m: m, slim])
def test_a_loaded_network_gives_the_same_outputs(tmp_path, change):
    module = change(trained())
    save_network(Network(SPEC, module, None, "bfloat16"), tmp_path / "n", RECIPE)
    loaded = load_network(tmp_path / "n")
    assert loaded.spec == SPEC
    assert loaded.precision == "bfloat16"
    assert loaded.onnx is None
    assert not loaded.module.training
    for seed in range(3):
        assert torch.equal(outputs(loaded.module, seed), outputs(module, seed))
    assert loaded.module.second.weight is loaded.module.first.weight
    assert loaded.module.state_dict().keys() == module.state_dict().keys()


def test_only_what_differs_from_a_fresh_build_is_written_down(tmp_path):
    save_network(Network(SPEC, trained()), tmp_path / "a", RECIPE)
    assert read_network_info(tmp_path / "a")["attributes"] == {}
    save_network(Network(SPEC, slim(trained())), tmp_path / "b", RECIPE)
    changed = read_network_info(tmp_path / "b")["attributes"]
    assert changed["conv"] == {"out_channels": 4}
    assert changed["attention"] == {"embed_dim": 4, "kdim": 4, "vdim": 4, "num_heads": 1}
    assert changed["layer_norm"] == {"normalized_shape": {"tuple": [4]}}
    assert "" not in changed


def test_tuples_and_types_come_back(tmp_path):
    module = trained()
    module.heads = (3, 4)
    save_network(Network(SPEC, module), tmp_path, RECIPE)
    assert load_network(tmp_path).module.heads == (3, 4)
    assert torch.equal(outputs(load_network(tmp_path).module), outputs(module))


def test_every_tensor_is_stored_in_its_type_and_no_pickle(tmp_path):
    save_network(Network(SPEC, trained()), tmp_path, RECIPE)
    assert sorted(p.name for p in tmp_path.iterdir()) == [on_disk.INFO, on_disk.TENSORS]
    with safe_open(tmp_path / on_disk.TENSORS, "pt") as stored:
        names = set(stored.keys())
        assert stored.get_tensor("norm.num_batches_tracked").dtype == torch.int64
    assert "scale" in names, "a buffer outside the state dict"
    assert "second.weight" not in names, "shared with first.weight"
    assert read_network_info(tmp_path)["tied"] == {"second.weight": "first.weight"}


def test_same_network_same_bytes(tmp_path):
    for name in "ab":
        save_network(Network(SPEC, slim(trained())), tmp_path / name, RECIPE)
    for file in (on_disk.INFO, on_disk.TENSORS):
        one, two = ((tmp_path / name / file).read_bytes() for name in "ab")
        assert one == two


def test_saving_changes_neither_the_network_nor_the_random_state(tmp_path):
    module = slim(trained())
    before = {k: v.clone() for k, v in module.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    save_network(Network(SPEC, module), tmp_path, RECIPE)
    load_network(tmp_path)
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_loaded_networks_share_no_memory(tmp_path):
    save_network(Network(SPEC, trained()), tmp_path, RECIPE)
    one, two = load_network(tmp_path).module, load_network(tmp_path).module
    expected = outputs(two)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.zero_()
    assert torch.equal(outputs(two), expected)


def test_a_replaced_submodule_is_refused(tmp_path):
    module = trained()
    module.norm = torch.nn.Identity()
    with pytest.raises(StepError, match="norm is a Identity, its recipe builds a BatchNorm2d"):
        save_network(Network(SPEC, module), tmp_path, RECIPE)
    module = trained()
    module.extra = torch.nn.Linear(1, 1)
    with pytest.raises(StepError, match="submodules are not those its recipe builds"):
        save_network(Network(SPEC, module), tmp_path, RECIPE)


def test_a_change_that_no_file_holds_is_refused(tmp_path):
    module = trained()
    module.act = torch.sigmoid  # a function: neither a tensor nor a plain value
    with pytest.raises(StepError, match="gives other outputs"):
        save_network(Network(SPEC, module), tmp_path, RECIPE)


def test_a_new_parameter_is_refused(tmp_path):
    module = trained()
    module.first.extra = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(StepError, match=r"first\.extra"):
        save_network(Network(SPEC, module), tmp_path, RECIPE)


def test_a_network_that_is_an_onnx_file_only(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], range(12))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [weight],
    )
    inside, beside = tmp_path / "inside.onnx", tmp_path / "beside.onnx"
    onnx.save(helper.make_model(graph), inside)
    onnx.save_model(
        onnx.load(inside), beside, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    for path in (inside, beside):
        folder = tmp_path / f"{path.stem}-saved"
        save_network(Network(SPEC, None, path, "int8"), folder, RECIPE)
        loaded = load_network(folder)
        assert (loaded.module, loaded.precision) == (None, "int8")
        assert loaded.onnx == folder / on_disk.ONNX
        stored = onnx.load(loaded.onnx, load_external_data=False).graph.initializer[0]
        assert onnx.numpy_helper.to_array(stored).ravel().tolist() == list(range(12))
    assert (tmp_path / "inside-saved" / on_disk.ONNX).read_bytes() == inside.read_bytes()


def test_saving_into_the_folder_that_holds_the_onnx_file(tmp_path):
    (tmp_path / on_disk.ONNX).write_bytes(b"as it is")
    save_network(Network(SPEC, None, tmp_path / on_disk.ONNX, "int8"), tmp_path, RECIPE)
    assert (tmp_path / on_disk.ONNX).read_bytes() == b"as it is"


def test_reading_the_facts_loads_no_torch(tmp_path):
    save_network(Network(SPEC, trained()), tmp_path, RECIPE)
    code = (
        "import sys; from pathlib import Path\n"
        "from dlas.run.steps.saved import read_network_info\n"
        "info = read_network_info(Path(sys.argv[1]))\n"
        "print(info['spec'], {'torch', 'onnx', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    spec = {"batch": 1, "channels": 2, "classes": 3, "height": 8, "width": 8}
    assert done.stdout.strip() == f"{spec} set()"


def test_damage_is_named(tmp_path):
    with pytest.raises(StorageError, match="no network can be read"):
        load_network(tmp_path)
    save_network(Network(SPEC, trained()), tmp_path, RECIPE)
    info = read_network_info(tmp_path)
    path = tmp_path / on_disk.INFO
    path.write_text(json.dumps({**info, "format": 99}))
    with pytest.raises(StorageError, match="its format is 99"):
        load_network(tmp_path)
    path.write_text(json.dumps({**info, "tied": {}}))
    with pytest.raises(StorageError, match=r"do not fit.*second\.weight"):
        load_network(tmp_path)
    path.write_text("{")
    with pytest.raises(StorageError, match="no network can be read"):
        read_network_info(tmp_path)
