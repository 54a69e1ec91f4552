"""What every optimization promises, on the three networks of the standard study."""

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch

from dlas import registry
from dlas.protocols import Network
from dlas.steps.lowering import to_onnx
from dlas.steps.network import load_network, recipe, save_network

MODELS = {"resnet-8": {}, "mobilenet-v2": {"width": 0.35}, "vit-tiny": {}}
TUNED = {"epochs": 1, "images": 32, "batch_size": 16}
OPTIMIZATIONS = {
    "none": {},
    "weight-pruning": {"sparsity": 0.8, **TUNED},
    "channel-pruning": {"ratio": 0.5, **TUNED},
    "float16": {},
    "bfloat16": {},
    "int8": {"images": 16},
}
EVERY = pytest.mark.parametrize("name", OPTIMIZATIONS)


@pytest.fixture(scope="module")
def dataset():
    return registry.make("dataset", "fashion-mnist")


@pytest.fixture(scope="module")
def train(dataset):
    return dataset.load("train")


@pytest.fixture(scope="module")
def images(dataset):
    return dataset.load("test").images(range(8))


@pytest.fixture(scope="module", params=MODELS)
def model(request, dataset):
    made = registry.make("model", request.param, MODELS[request.param])
    module = made.build(dataset).module
    if made.weights(dataset) is None:
        _give_statistics(module)
    return SimpleNamespace(
        name=request.param,
        recipe=recipe(registry.choice(dataset), registry.choice(made)),
        network=Network(dataset.spec(), module.eval()),
    )


def _give_statistics(module):
    """Let the norms of an untrained network see something, so that its outputs differ."""
    module.train()
    with torch.no_grad():
        for seed in range(3):
            module(torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(seed)))


class Optimized(dict):
    """Each optimization of a model, carried out when it is first asked for."""

    def __init__(self, network, train, folder):
        super().__init__()
        self.network, self.train, self.folder = network, train, folder

    def __missing__(self, name):
        technique = registry.make("optimization", name, OPTIMIZATIONS[name])
        folder = self.folder / name
        folder.mkdir()
        module = self.network.module
        before = {k: v.clone() for k, v in module.state_dict().items()}
        data = self.train if technique.data == "train" else None
        self[name] = technique.apply(self.network, data, folder)
        after = module.state_dict()
        assert before.keys() == after.keys(), f"{name} changed its input"
        assert all(torch.equal(before[k], after[k]) for k in before), f"{name} changed its input"
        assert not module.training
        assert all(p.requires_grad for p in module.parameters())
        return self[name]


@pytest.fixture(scope="module")
def optimized(model, train, tmp_path_factory):
    return Optimized(model.network, train, tmp_path_factory.mktemp(model.name))


def outputs(network, images):
    if network.module is None:
        return run_onnx(network.onnx, images)
    with torch.no_grad():
        return network.module(torch.from_numpy(images)).numpy()


def run_onnx(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


@EVERY
def test_the_outputs_keep_their_shape_and_are_numbers(optimized, images, name):
    network = optimized[name].network
    assert network.precision == (registry.find("optimization", name).precision or "float32")
    got = outputs(network, images)
    assert got.shape == (8, 10)
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    assert np.ptp(got, axis=0).max() > 0, "the same for every image"


@EVERY
def test_saved_and_loaded_it_gives_the_same_outputs(optimized, model, images, name, tmp_path):
    network = optimized[name].network
    save_network(network, tmp_path, model.recipe)
    loaded = load_network(tmp_path)
    assert (loaded.spec, loaded.precision) == (network.spec, network.precision)
    np.testing.assert_array_equal(outputs(loaded, images), outputs(network, images))


@EVERY
def test_as_onnx_it_gives_the_same_outputs(optimized, images, name, tmp_path):
    network = optimized[name].network
    to_onnx(network, tmp_path / "m.onnx")
    expected = outputs(network, images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        run_onnx(tmp_path / "m.onnx", images), expected, atol=1e-5 * max(1, scale), rtol=1e-5
    )


@EVERY
def test_same_parameters_same_result(optimized, model, train, name, tmp_path):
    technique = registry.make("optimization", name, OPTIMIZATIONS[name])
    data = train if technique.data == "train" else None
    again, first = technique.apply(model.network, data, tmp_path), optimized[name]
    assert again.achieved == first.achieved
    if first.network.module is None:
        assert again.network.onnx.read_bytes() == first.network.onnx.read_bytes()
        return
    state = first.network.module.state_dict()
    for key, value in again.network.module.state_dict().items():
        assert torch.equal(value, state[key]), key


@EVERY
def test_what_is_achieved_is_json(optimized, name):
    import json

    achieved = optimized[name].achieved
    assert json.loads(json.dumps(achieved, allow_nan=False)) == achieved


def test_the_sparsity_reported_is_that_of_the_saved_tensors(optimized, model, tmp_path):
    from safetensors.torch import load_file

    done = optimized["weight-pruning"]
    save_network(done.network, tmp_path, model.recipe)
    stored = load_file(tmp_path / "tensors.safetensors")
    zeros = total = 0
    for layer, share in done.achieved["layers"].items():
        weight = stored[f"{layer}.weight"]
        assert share == int((weight == 0).sum()) / weight.numel()
        zeros, total = zeros + int((weight == 0).sum()), total + weight.numel()
    assert done.achieved["sparsity"] == zeros / total
    assert zeros / total == pytest.approx(0.8, abs=1e-3)


def test_channels_really_go(optimized, model, tmp_path):
    from safetensors.torch import load_file

    done = optimized["channel-pruning"]
    save_network(done.network, tmp_path, model.recipe)
    stored = load_file(tmp_path / "tensors.safetensors")
    for layer, (_, after) in done.achieved["layers"].items():
        assert stored[f"{layer}.weight"].shape[0] == after
    parameters = dict(done.network.module.named_parameters())
    size = sum(stored[name].numel() for name in parameters)
    assert done.achieved["params"][1] == size
    before = sum(p.numel() for p in model.network.module.parameters())
    assert size < 0.4 * before
    assert done.achieved["macs_ratio"] < 0.4


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_rounded_weights_are_numbers_of_the_type(optimized, name):
    for parameter in optimized[name].network.module.parameters():
        assert torch.equal(parameter, parameter.to(getattr(torch, name)).float())


def test_every_layer_with_weights_is_int8(optimized, model):
    achieved = optimized["int8"].achieved
    for kind in ("Conv", "Gemm"):
        assert achieved["quantized"].get(kind, 0) == achieved["operators"].get(kind, 0)
    assert achieved["weights_float"] < 0.01 * achieved["weights_int8"]


def test_int8_costs_little_accuracy(dataset, train, model, tmp_path):
    made = registry.make("model", model.name, MODELS[model.name])
    if made.weights(dataset) is None:
        pytest.skip(f"{model.name} has no trained weights")
    int8 = registry.make("optimization", "int8", {"images": 128})
    quantized = int8.apply(model.network, train, tmp_path).network
    test = dataset.load("test")
    images, labels = test.images(range(500)), test.labels[:500]
    float32, small = (outputs(n, images) for n in (model.network, quantized))
    drop = np.mean(float32.argmax(1) == labels) - np.mean(small.argmax(1) == labels)
    assert np.mean(float32.argmax(1) == labels) > 0.85
    assert drop < 0.02
    assert np.mean(float32.argmax(1) == small.argmax(1)) > 0.95
