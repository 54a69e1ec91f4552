"""What every model promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.core import registry
from dlas.core.protocols import Model, Network
from dlas.testing.check import Suite

if TYPE_CHECKING:
    from torch import nn

    from dlas.core.protocols import Array

IMAGES = 4


def _network(suite: Suite) -> Network:
    suite.needs("torch")
    network: Network = suite.once("network", lambda: suite.technique.build(suite.on.dataset))
    return network


def _images(suite: Suite) -> Array:
    return suite.once("images", lambda: suite.on.dataset.load("test").images(range(IMAGES)))


def outputs_of(network: Network, images: Array) -> Array:
    """Return a network's outputs for images as it gives them, batch by batch, unconverted."""
    import numpy as np

    run, batch = _plain(network), network.spec.batch
    missing = -len(images) % batch
    filled = np.concatenate([images, np.repeat(images[:1], missing, axis=0)])
    parts = [run(filled[at : at + batch]) for at in range(0, len(filled), batch)]
    outputs: Array = np.concatenate(parts)[: len(images)]
    return outputs


def _plain(network: Network) -> Callable[[Array], Array]:
    """Return the forward pass; the module is neither put into eval mode nor converted for it."""
    import torch

    from dlas.run.steps.forward import forward

    if network.onnx is not None and (network.precision == "int8" or network.module is None):
        return forward(network)

    def run(x: Array) -> Array:
        with torch.inference_mode():
            y: Array = network.module(torch.from_numpy(x)).numpy()
        return y

    return run


def it_builds_a_network_for_the_problem(suite: Suite) -> None:
    """``build`` gives a float32 network of the data set's spec, in the form that it declares."""
    network = _network(suite)
    suite.demand(isinstance(network, Network), f"build() returns a {type(network).__name__}")
    spec = suite.on.dataset.spec()
    suite.demand(network.spec == spec, f"the network's spec is {network.spec}, needed is {spec}")
    suite.demand(network.precision == "float32", f"its precision is {network.precision}")
    if suite.technique.form == "onnx":
        there = network.onnx is not None and network.onnx.is_file() and network.module is None
        suite.demand(there, f"its form is onnx: needed is a file and no module, got {network}")
    else:
        suite.demand(network.module is not None, "its form is torch and there is no module")


def its_module_is_float32_in_eval_mode_on_the_cpu(suite: Suite) -> None:
    """The module is in eval mode, its floating-point tensors are float32, on the CPU."""
    check_module(suite, _network(suite).module)


def check_module(suite: Suite, module: nn.Module | None) -> None:
    """Demand a float32 ``torch.nn.Module`` in eval mode on the CPU; None is let pass."""
    import torch

    if module is None:
        return
    suite.demand(isinstance(module, torch.nn.Module), f"module is a {type(module).__name__}")
    training = [name or "it" for name, part in module.named_modules() if part.training]
    suite.demand(not training, f"parts are in training mode: {', '.join(training[:4])}")
    tensors = [*module.named_parameters(), *module.named_buffers()]
    odd = [
        f"{n} is {t.dtype}"
        for n, t in tensors
        if t.is_floating_point() and t.dtype != torch.float32
    ]
    odd += [f"{n} is on {t.device}" for n, t in tensors if t.device.type != "cpu"]
    suite.demand(not odd, "; ".join(odd[:4]))


def outputs_are_one_row_of_logits_per_image(suite: Suite) -> None:
    """The outputs are finite float32 ``(images, classes)`` and differ from image to image."""
    check_outputs(suite, outputs_of(_network(suite), _images(suite)))


def check_outputs(suite: Suite, outputs: Array, images: int = IMAGES) -> None:
    """Demand finite float32 outputs ``(images, classes)`` that depend on the image."""
    import numpy as np

    wanted = (images, suite.on.dataset.spec().classes)
    suite.demand(outputs.shape == wanted, f"the outputs are {outputs.shape}, needed: {wanted}")
    suite.demand(outputs.dtype == np.float32, f"the outputs are {outputs.dtype}")
    bad = int(outputs.size - np.isfinite(outputs).sum())
    suite.demand(not bad, f"{bad} of {outputs.size} outputs are NaN or infinite")
    suite.demand(np.ptp(outputs, axis=0).max() > 0, "the outputs are the same for every image")


def inference_is_deterministic(suite: Suite) -> None:
    """The same image gives the same bits twice, and is not written to."""
    import numpy as np

    images = _images(suite)
    kept = images.copy()
    one, two = (outputs_of(_network(suite), images) for _ in range(2))
    largest = float(np.abs(one - two).max())
    suite.demand(
        np.array_equal(one, two), f"the same images give outputs that differ by {largest:.3g}"
    )
    suite.demand(np.array_equal(images, kept), "inference writes to its input")


def images_of_a_batch_do_not_mix(suite: Suite) -> None:
    """A module computes each image of a batch as if it were alone."""
    import numpy as np
    import torch

    module = _network(suite).module
    if module is None:
        return
    images = torch.from_numpy(_images(suite))
    with torch.inference_mode():
        whole = module(images).numpy()
        alone = np.concatenate([module(image[None]).numpy() for image in images])
    error = float(np.abs(whole - alone).max())
    allowed = 1e-4 * max(1.0, float(np.abs(alone).max()))
    suite.demand(error <= allowed, f"in a batch outputs differ by {error:.3g} from one by one")


def building_twice_gives_the_same(suite: Suite) -> None:
    """Same parameters, same weights, whatever the global random state, which is left alone."""
    import torch

    network = _network(suite)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(987)
        before = torch.random.get_rng_state()
        again = suite.technique.build(suite.on.dataset)
        touched = not torch.equal(before, torch.random.get_rng_state())
    suite.demand(not touched, "building changes torch's global random state")
    check_same(suite, network, again, "built twice")


def check_same(suite: Suite, one: Network, two: Network, how: str) -> None:
    """Demand that two networks have the same tensors, or the same ONNX file."""
    import torch

    suite.demand((one.module is None) == (two.module is None), f"{how}: module and no module")
    if one.onnx is not None or two.onnx is not None:
        files = [n.onnx.read_bytes() if n.onnx else b"" for n in (one, two)]
        suite.demand(files[0] == files[1], f"{how}: the ONNX files differ")
    if one.module is None:
        return
    states = [network.module.state_dict() for network in (one, two)]
    suite.demand(states[0].keys() == states[1].keys(), f"{how}: the names of the tensors differ")
    odd = [name for name, tensor in states[0].items() if not torch.equal(tensor, states[1][name])]
    suite.demand(not odd, f"{how}: the tensors {', '.join(odd[:4])} differ")


def saved_and_loaded_it_gives_the_same_outputs(suite: Suite) -> None:
    """The network can be stored (recipe and tensors, no pickle) and gives the same bits again."""
    check_stored(suite, _network(suite), _images(suite), suite.technique)


def check_stored(suite: Suite, network: Network, images: Array, model: Model) -> Network:
    """Demand that a network can be saved and gives the same outputs when loaded; return that."""
    import numpy as np

    from dlas.core.errors import StepError
    from dlas.run.steps.saved import load_network, recipe, save_network

    folder = suite.folder("stored")
    made_by = recipe(registry.choice(suite.on.dataset), registry.choice(model))
    try:
        save_network(network, folder, made_by)
    except StepError as error:
        raise AssertionError(f"{suite.layer} {suite.name!r}: {error}") from error
    loaded = load_network(folder)
    same = (loaded.spec, loaded.precision) == (network.spec, network.precision)
    suite.demand(same, f"stored it is {loaded.spec}, {loaded.precision}")
    one, two = outputs_of(network, images), outputs_of(loaded, images)
    suite.demand(
        np.array_equal(one, two),
        f"loaded again its outputs differ by {float(np.abs(one - two).max()):.3g}",
    )
    return loaded


def its_weights_are_a_file_or_none(suite: Suite) -> None:
    """``weights`` names a file that is there, or None for random ones."""
    suite.needs()
    path: object = suite.technique.weights(suite.on.dataset)
    good = path is None or (isinstance(path, Path) and path.is_file())
    suite.demand(good, f"weights() must be a Path to a file or None, it is {path!r}")


MODEL = (
    it_builds_a_network_for_the_problem,
    its_module_is_float32_in_eval_mode_on_the_cpu,
    outputs_are_one_row_of_logits_per_image,
    inference_is_deterministic,
    images_of_a_batch_do_not_mix,
    building_twice_gives_the_same,
    saved_and_loaded_it_gives_the_same_outputs,
    its_weights_are_a_file_or_none,
)
