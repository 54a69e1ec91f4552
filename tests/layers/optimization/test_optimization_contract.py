"""What every optimization promises, on the three networks of the standard study."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dlas.core import registry
from dlas.core.protocols import Network
from dlas.run.steps.forward import forward, in_batches
from dlas.run.steps.saved import recipe, save_network
from dlas.testing import Problem, contract
from dlas.testing.optimization import OPTIMIZATION

pytestmark = pytest.mark.usefixtures("exported_once")

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
        data = self.train if technique.data == "train" else None
        self[name] = technique.apply(self.network, data, folder)
        return self[name]


@pytest.fixture(scope="module")
def optimized(model, train, tmp_path_factory):
    return Optimized(model.network, train, tmp_path_factory.mktemp(model.name))


def outputs(network, images):
    return in_batches(forward(network), images, 1)


SLOW = {
    # An export takes seconds; of these networks that of other weights in the same operators.
    ("mobilenet-v2", "weight-pruning"): "as-onnx-it-gives-the-same-outputs",
    ("mobilenet-v2", "bfloat16"): "as-onnx-it-gives-the-same-outputs",
    ("mobilenet-v2", "int8"): "same-parameters-give-the-same-result",
    ("vit-tiny", "weight-pruning"): "as-onnx-it-gives-the-same-outputs",
    ("vit-tiny", "bfloat16"): "as-onnx-it-gives-the-same-outputs",
}
"""What repeats on one network what the others show (`make test-slow`)."""


def every_check():
    own = {judge.__name__.replace("_", "-") for judge in OPTIMIZATION}
    fashion = registry.make("dataset", "fashion-mnist")
    for model, params in MODELS.items():
        on = Problem(fashion, registry.make("model", model, params))
        for name, chosen in OPTIMIZATIONS.items():
            for check in contract("optimization", name, on=on, **chosen):
                if check.name in own:  # what every technique promises hangs on no network
                    marks = [pytest.mark.slow] if SLOW.get((model, name)) == check.name else []
                    yield pytest.param(check, id=f"{model}-{name}-{check}", marks=marks)


@pytest.mark.parametrize("check", list(every_check()))
def test_it_keeps_its_contract(check, exported_once):
    if check.name == "same-parameters-give-the-same-result" and "int8" in check.technique:
        known = dict(exported_once)
        exported_once.clear()  # int8 exports the network itself: here it has to do so twice
        check()
        exported_once.update(known)
    else:
        check()


def test_the_share_asked_for_goes(optimized):
    assert optimized["weight-pruning"].achieved["sparsity"] == pytest.approx(0.8, abs=1e-3)


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
