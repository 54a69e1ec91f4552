import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from dlas.core import registry
from dlas.core.errors import StepError, UserError
from dlas.core.protocols import DataSpec, Network
from dlas.core.registry import entries
from dlas.layers.optimization.shared.calibration import chosen_range
from dlas.networks.export import export_onnx
from dlas.testing.stand_ins import PlainRuntime, stack_of

SPEC = DataSpec(classes=10, channels=1, height=12, width=12)


class Data:
    labels = np.arange(80) % 10
    ids = tuple(map(str, range(80)))
    content = "random"

    def __init__(self):
        self.asked = []
        self.pixels = np.random.default_rng(0).standard_normal((80, 1, 12, 12), np.float32)

    def images(self, indices):
        self.asked += list(indices)
        return self.pixels[list(indices)]


def net():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        nn.Conv2d(16, 16, 3, groups=16, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    for part in module:
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.05, 0.1)
    return module.eval()


def apply(name, network, folder=None, data=None, **params):
    return registry.make("optimization", name, params).apply(network, data, folder)


# ---------------------------------------------------------------- float16, bfloat16


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_weights_and_statistics_are_numbers_of_the_type_and_stay_float32(name):
    module = net()
    done = apply(name, Network(SPEC, module))
    assert done.network.precision == name
    after = done.network.module.state_dict()
    for key, value in module.state_dict().items():
        assert after[key].dtype == value.dtype
        if value.is_floating_point():
            assert torch.equal(after[key], value.to(getattr(torch, name)).float())
            assert after[key].any() == value.any()
        else:
            assert torch.equal(after[key], value)


def test_the_effect_of_rounding_is_in_the_outputs():
    module = net()
    x = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = module(x)
        errors = {
            name: float((apply(name, Network(SPEC, module)).network.module(x) - exact).abs().max())
            for name in ("float16", "bfloat16")
        }
    assert 0 < errors["float16"] < errors["bfloat16"] < 0.1 * float(exact.abs().max())


def test_what_rounding_does_is_reported():
    module = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 1 + 2**-12, 1e-9]]))
    done = apply("float16", Network(SPEC, module))
    assert done.network.module.weight.tolist() == [[1.0, 1.0, 0.0]]
    assert done.achieved["values"] == 3
    assert done.achieved["flushed"] == 1
    assert done.achieved["max_relative_change"] == pytest.approx(2**-12, rel=1e-3)
    assert apply("bfloat16", Network(SPEC, module)).achieved["flushed"] == 0


def test_a_weight_that_does_not_fit_is_an_error():
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight[0, 0] = 1e5
    with pytest.raises(StepError, match="weight holds a value of size 100000, which float16"):
        apply("float16", Network(SPEC, module))
    assert apply("bfloat16", Network(SPEC, module)).network.precision == "bfloat16"


def test_an_onnx_file_is_rounded_as_its_module_is(tmp_path):
    module = nn.Sequential(nn.Flatten(), nn.Linear(144, 10)).eval()
    source = tmp_path / "m.onnx"
    export_onnx(module, SPEC, source)
    done = apply("bfloat16", Network(SPEC, None, source), tmp_path)
    stored = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(done.network.onnx).graph.initializer
    }
    expected = apply("bfloat16", Network(SPEC, module)).network.module.state_dict()
    for name, value in expected.items():
        np.testing.assert_array_equal(stored[name], value.numpy())
    assert done.achieved["values"] == 1450


# ---------------------------------------------------------------- int8


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    data = Data()
    done = apply("int8", Network(SPEC, net()), tmp_path_factory.mktemp("q"), data, images=40)
    return done, data


def run(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def test_int8_leaves_an_onnx_file_and_no_module(quantized):
    done, _ = quantized
    assert (done.network.module, done.network.precision) == (None, "int8")
    assert [p.name for p in done.network.onnx.parent.iterdir()] == [done.network.onnx.name]
    onnx.checker.check_model(done.network.onnx, full_check=True)
    assert {node.domain for node in onnx.load(done.network.onnx).graph.node} <= {"", "ai.onnx"}


def test_weights_are_symmetric_int8_per_channel_and_activations_uint8(quantized):
    done, _ = quantized
    graph = onnx.load(done.network.onnx).graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    seen = {"weight": 0, "activation": 0}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            weight, scale, zero = (stored[name] for name in node.input)
            assert not zero.any()
            if weight.dtype == np.int8:
                seen["weight"] += 1
                channels = weight.shape[0] if weight.ndim == 4 else 10
                assert scale.shape == (channels,)
        elif node.op_type == "QuantizeLinear":
            assert stored[node.input[2]].dtype == np.uint8
            assert stored[node.input[1]].shape == ()
            seen["activation"] += 1
    assert seen["weight"] == 3
    assert seen["activation"] >= 3


def test_norms_are_folded_and_every_product_is_quantized(quantized):
    achieved = quantized[0].achieved
    assert achieved["operators"]["Conv"] == achieved["quantized"]["Conv"] == 2
    assert achieved["operators"]["Gemm"] == achieved["quantized"]["Gemm"] == 1
    assert "BatchNormalization" not in achieved["operators"]
    assert "Relu" not in achieved["operators"], "taken into the ranges"
    assert achieved["weights_int8"] == 16 * 9 + 16 * 9 + 160
    assert achieved["weights_float"] == 0


def test_calibration_takes_the_images_asked_for_evenly_over_the_classes(quantized):
    done, data = quantized
    assert len(data.asked) == len(set(data.asked)) == 40 == done.achieved["calibration_images"]
    assert np.bincount(data.labels[data.asked]).tolist() == [4] * 10


def test_the_outputs_stay_close_to_the_float_ones(quantized):
    images = Data().pixels[40:]
    with torch.no_grad():
        expected = net()(torch.from_numpy(images)).numpy()
    got = run(quantized[0].network.onnx, images)
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("method", ["entropy", "percentile", "mse"])
def test_other_ways_to_choose_ranges(method, tmp_path):
    done = apply("int8", Network(SPEC, net()), tmp_path, Data(), images=40, method=method)
    images = Data().pixels[40:]
    with torch.no_grad():
        expected = net()(torch.from_numpy(images)).numpy()
    got = run(done.network.onnx, images)
    assert np.abs(got - expected).mean() < 0.1 * np.abs(expected).mean()
    assert done.achieved["method"] == method


def stored_in(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_weights_of_seven_bits_keep_to_half_of_a_byte(tmp_path):
    done = apply("int8", Network(SPEC, net()), tmp_path, Data(), images=40, weight_bits=7)
    whole = [v for v in stored_in(done.network.onnx).values() if v.dtype == np.int8 and v.ndim > 1]
    assert len(whole) == 3 and max(np.abs(v.astype(int)).max() for v in whole) == 64


def test_the_first_and_the_last_layer_stay_float_on_request(tmp_path):
    done = apply("int8", Network(SPEC, net()), tmp_path, Data(), images=40, first_last="float32")
    graph = onnx.load(done.network.onnx).graph
    named = {node.name: node.op_type for node in graph.node}
    assert [named[name] for name in done.achieved["float_ends"]] == ["Conv", "Gemm"]
    assert done.achieved["quantized"]["Conv"] == 1 and "Gemm" not in done.achieved["quantized"]


def test_biases_make_up_for_what_rounded_weights_add(tmp_path):
    def off(**params):
        folder = tmp_path / str(len(params))
        folder.mkdir()
        done = apply("int8", Network(SPEC, module), folder, data, images=80, per_channel=False,
                     **params)  # fmt: skip
        return np.abs((run(done.network.onnx, data.pixels) - expected).mean(0)), done

    # One large weight in all: a scale for all channels rounds the others roughly.
    module, data = net(), Data()
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] = 4.0
        module[8].weight[0, 0] = 8.0
        expected = module(torch.from_numpy(data.pixels)).numpy()
    plain, _ = off()
    corrected, done = off(bias_correction=True)
    assert done.achieved["biases_corrected"] == 3
    assert corrected.mean() < 0.6 * plain.mean()


# ---------------------------------------------------------------- ranges


def histogram(values, bins=8192):
    edge = np.abs(values).max()
    counts, edges = np.histogram(values, bins, range=(-edge, edge))
    return counts, edges, float(values.min()), float(values.max())


def squared_error(values, low, high):
    step = (high - low) / 255
    zero = np.rint(-low / step)
    return (
        (((np.clip(np.rint(values / step) + zero, 0, 255)) - zero) * step - values) ** 2
    ).mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_entropy_leaves_out_what_is_far_from_the_rest(seed):
    values = np.random.default_rng(seed).normal(0, 1, 100_000)
    values[:3] = [60.0, -50.0, 55.0]
    low, high = chosen_range("entropy", *histogram(values))
    assert -10 < low < -2.5 and 2.5 < high < 10
    # Half of what ReLU leaves is zero: that must not draw the range in to nothing.
    cut = np.maximum(np.random.default_rng(seed).normal(0, 1, 100_000), 0)
    low, high = chosen_range("entropy", *histogram(cut))
    assert low == 0 and 2 < high <= cut.max() + 1e-9


def test_the_range_of_the_least_error_has_no_more_than_any_other():
    values = np.random.default_rng(2).laplace(0.3, 1, 50_000)
    found = squared_error(values, *chosen_range("mse", *histogram(values)))
    least, most = values.min(), values.max()
    every = [squared_error(values, a * least, b * most) for a in np.linspace(0.1, 1, 19)
             for b in np.linspace(0.1, 1, 19)]  # fmt: skip
    assert found <= min(every) * 1.02


@pytest.mark.parametrize("values", [np.zeros(10), np.full(10, 3.0), np.array([-1.0])])
def test_a_range_of_hardly_anything(values):
    for method in ("mse", "entropy"):
        low, high = chosen_range(method, *histogram(values))
        assert low <= 0 <= high and low <= values.min() + 1e-6 and high >= values.max() - 1e-6


def test_one_scale_for_all_channels_on_request(tmp_path):
    done = apply("int8", Network(SPEC, net()), tmp_path, Data(), images=40, per_channel=False)
    stored = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(done.network.onnx).graph.initializer
    }
    weights = [name for name, value in stored.items() if value.dtype == np.int8 and value.ndim > 1]
    assert len(weights) == 3
    assert all(stored[f"{w.removesuffix('_quantized')}_scale"].shape == () for w in weights)


def test_calibration_follows_the_batch_of_the_problem(tmp_path):
    spec = DataSpec(classes=10, channels=1, height=12, width=12, batch=16)
    done = apply("int8", Network(spec, net()), tmp_path, Data(), images=40)
    assert done.achieved["calibration_images"] == 32
    with pytest.raises(StepError, match="at least one batch of 16"):
        apply("int8", Network(spec, net()), tmp_path, Data(), images=8)


def test_calibration_without_images_is_an_error(tmp_path):
    with pytest.raises(StepError, match="calibrated on training images"):
        apply("int8", Network(SPEC, net()), tmp_path)


# ---------------------------------------------------------------- int8, each runtime's own


def test_left_to_the_runtime_the_network_stays_and_says_on_what_to_calibrate(tmp_path):
    data, given = Data(), net()
    done = apply("int8", Network(SPEC, given), tmp_path, data, images=40, route="own")
    assert (done.network.precision, done.network.onnx) == ("int8", None)
    assert done.network.module is given
    picked = done.network.calibration
    assert len(picked) == 40 and sorted(np.bincount(data.labels[list(picked)])) == [4] * 10
    assert done.achieved == {"calibration_images": 40, "route": "own"}
    assert data.asked == [], "the runtime asks for them"
    shared = apply("int8", Network(SPEC, net()), tmp_path, data, images=40)
    assert sorted(data.asked) == sorted(picked), "the same images as the shared model's"
    assert shared.network.calibration == ()


def test_a_runtimes_own_int8_needs_nothing_of_the_shared_model(tmp_path, monkeypatch):
    for module in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)
        with monkeypatch.context() as gone:
            gone.setattr(entries, "importable", lambda name, module=module: name != module)
            said = {}
            for route in ("own", "shared"):
                int8 = registry.make("optimization", "int8", {"route": route})
                said[route] = registry.refusal(stack_of(PlainRuntime(), int8))
            assert said["own"] is None
            assert said["shared"].reason == (
                f"int8 needs {module}: not installed; pip install 'dlas[onnx]'"
            )
    done = apply("int8", Network(SPEC, net()), tmp_path, Data(), images=40, route="own")
    assert done.network.precision == "int8"


def test_whole_batches_are_calibrated_on(tmp_path):
    spec = DataSpec(classes=10, channels=1, height=12, width=12, batch=16)
    done = apply("int8", Network(spec, net()), tmp_path, Data(), images=40, route="own")
    assert len(done.network.calibration) == 32
    with pytest.raises(StepError, match="at least one batch of 16"):
        apply("int8", Network(spec, net()), tmp_path, Data(), images=8, route="own")


def test_what_is_the_shared_models_is_not_asked_of_the_runtime():
    for params in (
        {"method": "entropy"}, {"per_channel": False}, {"weight_bits": 7},
        {"bias_correction": True}, {"first_last": "float32"},
    ):  # fmt: skip
        (name,) = params
        with pytest.raises(UserError, match=f"`{name}` is of the shared model"):
            registry.make("optimization", "int8", {"route": "own", **params})


def test_the_shared_route_is_the_choice_that_it_was():
    usual = registry.choice(registry.make("optimization", "int8")).params
    assert set(usual) == {"images", "method", "per_channel", "seed"}
    own = registry.choice(registry.make("optimization", "int8", {"route": "own"}))
    assert own.text == "int8(route=own)"


def test_it_is_stored_and_a_build_gets_the_images(tmp_path):
    from dlas.run.steps.build import StoredProgram
    from dlas.run.steps.saved import load_network, recipe, save_network

    dataset, model = registry.make("dataset", "digits"), registry.make("model", "resnet-8")
    made_by = recipe(registry.choice(dataset), registry.choice(model))
    train = dataset.load("train")
    for route, folder in (("own", tmp_path / "own"), ("shared", tmp_path / "plain")):
        network = model.build(dataset)
        if route == "own":
            network = apply("int8", network, tmp_path, train, images=20, route="own").network
        save_network(network, folder, made_by)
        program = StoredProgram(folder, None, registry.make("algorithm", "native"))
        assert load_network(folder).calibration == network.calibration
        found = program.calibration()
        if route == "own":
            np.testing.assert_array_equal(found, train.images(network.calibration))
        else:
            assert found is None


def test_a_runtime_without_a_way_of_its_own_is_refused():
    from dlas.testing import PlainRuntime, stack_of

    class Without(PlainRuntime):
        quantizer = ""

    own = registry.make("optimization", "int8", {"route": "own"})
    refused = own.why_not(stack_of(own, Without()))
    assert refused.status == "unavailable" and "take route: shared" in refused.reason
    assert own.why_not(stack_of(own, PlainRuntime())) is None
    shared = registry.make("optimization", "int8")
    assert shared.why_not(stack_of(shared, Without())) is None
