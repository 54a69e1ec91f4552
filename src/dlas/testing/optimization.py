"""What every optimization promises."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dlas.core.protocols import Network, Optimized, Samples
from dlas.testing.check import Suite
from dlas.testing.model import check_module, check_outputs, check_same, check_stored, outputs_of
from dlas.testing.stand_ins import OnnxNet, stack_of

if TYPE_CHECKING:
    from torch import nn

    from dlas.core.protocols import Array

IMAGES = 8
HAIR = 1e-6
"""What a share may differ by for being rounded."""


@dataclass(frozen=True)
class _Done:
    """An optimization carried out, and what became of the network that it was given."""

    given: Network
    kept: Network
    """A copy of the given network, made before."""
    optimized: Optimized


def _given(suite: Suite) -> Network:
    """Return the network to optimize; norms of an untrained one have seen images."""
    import torch

    suite.needs("torch", "safetensors")
    model, dataset = suite.on.model, suite.on.dataset
    network = model.build(dataset)
    norms = [m for m in network.module.modules() if hasattr(m, "running_mean")]
    if any(int(n.num_batches_tracked or 0) == 0 for n in norms) and not model.weights(dataset):
        network.module.train()
        seen = torch.from_numpy(dataset.load("train").images(range(16)))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for _ in range(3):
                network.module(seen)
        network.module.eval()
    return network


def _data(suite: Suite) -> Samples | None:
    return suite.on.dataset.load("train") if suite.technique.data == "train" else None


def _done(suite: Suite) -> _Done:
    def carry_out() -> _Done:
        import torch

        given = _given(suite)
        kept = replace(given, module=copy.deepcopy(given.module))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            optimized = suite.technique.apply(given, _data(suite), suite.folder("applied"))
        return _Done(given, kept, optimized)

    return suite.once("done", carry_out)


def _images(suite: Suite) -> Array:
    return suite.on.dataset.load("test").images(range(IMAGES))


def _stored(suite: Suite) -> Network:
    """Return the optimized network as it is loaded from the disk."""

    def store() -> Network:
        network = _done(suite).optimized.network
        return check_stored(suite, network, _images(suite), suite.on.model)

    return suite.once("stored", store)


def it_returns_an_optimized_network(suite: Suite) -> None:
    """``apply`` returns an :class:`Optimized` of the same problem."""
    done = _done(suite)
    suite.demand(
        isinstance(done.optimized, Optimized),
        f"apply() returns a {type(done.optimized).__name__}, not an Optimized",
    )
    network = done.optimized.network
    suite.demand(network.spec == done.given.spec, f"the spec became {network.spec}")
    there = network.module is not None or network.onnx is not None
    suite.demand(there, "the network has neither a module nor an ONNX file")


def the_given_network_is_not_changed(suite: Suite) -> None:
    """The given network keeps its tensors, eval mode, gradients and precision."""
    done = _done(suite)
    check_same(suite, done.kept, done.given, "the given network was changed")
    suite.demand(not done.given.module.training, "the given network was left in training mode")
    now, was = (
        {name: p.requires_grad for name, p in n.module.named_parameters()}
        for n in (done.given, done.kept)
    )
    suite.demand(now == was, "requires_grad of the given network's parameters was changed")
    one, two = (outputs_of(n, _images(suite)) for n in (done.kept, done.given))
    suite.demand((one == two).all(), "the given network gives other outputs than before")


def outputs_keep_their_shape_and_are_finite(suite: Suite) -> None:
    """The outputs are finite float32 ``(images, classes)`` and differ from image to image."""
    check_outputs(suite, outputs_of(_done(suite).optimized.network, _images(suite)), IMAGES)


def the_network_is_what_its_precision_means(suite: Suite) -> None:
    """It has the precision declared: rounded weights for half types, a QDQ model for int8.

    One whose runtime is to quantize it says on which images, and is the network that it was.
    """
    network = _done(suite).optimized.network
    wanted = suite.technique.precision or "float32"
    suite.demand(
        network.precision == wanted,
        f"the network's precision is {network.precision}, the technique declares {wanted}",
    )
    check_module(suite, network.module)
    if suite.technique.left_to_runtime:
        suite.demand(network.calibration, "the runtime is to quantize, and on no image")
        check_same(suite, _done(suite).kept, replace(network, precision="float32", calibration=()),
                   "it is left to the runtime")  # fmt: skip
    elif wanted == "int8":
        _check_quantized(suite, network)
    elif wanted != "float32" and network.module is not None:
        _check_rounded(suite, network.module, wanted)


def _check_rounded(suite: Suite, module: nn.Module, precision: str) -> None:
    import torch

    kind = getattr(torch, precision)
    odd = [n for n, p in module.named_parameters() if not torch.equal(p, p.to(kind).float())]
    suite.demand(not odd, f"the weights {', '.join(odd[:4])} are no numbers of {precision}")


def _check_quantized(suite: Suite, network: Network) -> None:
    import onnx

    suite.demand(network.onnx is not None, "an int8 network has its quantized model in `onnx`")
    operators = Counter(node.op_type for node in onnx.load(network.onnx).graph.node)
    suite.demand(
        operators["DequantizeLinear"] > 0,
        f"its ONNX model has no DequantizeLinear, only {', '.join(sorted(operators))}",
    )


def saved_and_loaded_it_gives_the_same_outputs(suite: Suite) -> None:
    """The network can be stored (recipe, attributes, tensors) and gives the same bits again."""
    _stored(suite)


def as_onnx_it_gives_the_same_outputs(suite: Suite) -> None:
    """Lowered to ONNX it gives the same outputs, to float32's rounding."""
    import numpy as np

    from dlas.run.steps.convert import to_onnx

    suite.needs("onnx", "onnxruntime", "onnxscript")
    network = _done(suite).optimized.network
    path = suite.folder("onnx") / "model.onnx"
    to_onnx(network, path)
    expected = outputs_of(network, _images(suite))
    found = outputs_of(Network(network.spec, None, path), _images(suite))
    largest = float(np.abs(found - expected).max())
    allowed = 2e-5 * max(1.0, float(np.abs(expected).max()))
    suite.demand(largest <= allowed, f"as ONNX its outputs differ by up to {largest:.3g}")


def same_parameters_give_the_same_result(suite: Suite) -> None:
    """Applied again, whatever the global random state, it gives the same network and facts."""
    import torch

    first = _done(suite)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        again = suite.technique.apply(first.kept, _data(suite), suite.folder("again"))
    suite.demand(
        again.achieved == first.optimized.achieved,
        f"applied twice it achieved {first.optimized.achieved}, then {again.achieved}",
    )
    check_same(suite, first.optimized.network, again.network, "applied twice")


def what_is_achieved_is_json(suite: Suite) -> None:
    """``achieved`` is JSON without NaN, and comes back from it as it is."""
    achieved = _done(suite).optimized.achieved
    try:
        again = json.loads(json.dumps(dict(achieved), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"optimization {suite.name!r}: achieved is not JSON: {error}: {achieved!r}"
        ) from error
    suite.demand(again == achieved, f"achieved is {achieved!r}, as JSON it is {again!r}")


def the_sparsity_reported_is_that_of_the_tensors(suite: Suite) -> None:
    """``achieved["sparsity"]`` (and ``layers``) is the share of zeros in the stored weights."""
    achieved = _done(suite).optimized.achieved
    if "sparsity" not in achieved:
        suite.demand(not suite.technique.sparse, "it is sparse and reports no sparsity")
        return
    module = _stored(suite).module
    suite.demand(module is not None, "it reports a sparsity and has no module to see it in")
    counts = _zeros(module)
    layers, whole = _share(counts.values()), _share(_parameters(module))
    reported = achieved["sparsity"]
    suite.demand(
        min(abs(reported - layers), abs(reported - whole)) < HAIR,
        f"it reports a sparsity of {reported:.4f}; the stored weights of convolutions and linear "
        f"layers have {layers:.4f} zeros, all parameters {whole:.4f}",
    )
    said = achieved.get("layers", {})
    for layer, (zeros, size) in counts.items():
        share = said.get(layer) if isinstance(said, dict) else None
        if isinstance(share, float):
            found = zeros / size
            suite.demand(
                abs(share - found) < HAIR, f"{layer}: reported {share:.4f}, stored {found:.4f}"
            )


def zeros_are_declared(suite: Suite) -> None:
    """Only a technique that declares itself ``sparse`` leaves many more zeros in the weights."""
    done = _done(suite)
    module = done.optimized.network.module
    if module is None:
        return
    before, after = (_share(_zeros(m).values()) for m in (done.kept.module, module))
    suite.demand(
        suite.technique.sparse or after < before + 0.05,
        f"sparse is False, and the share of zeros rose from {before:.3f} to {after:.3f}",
    )


def _zeros(module: nn.Module) -> dict[str, tuple[int, int]]:
    from dlas.layers.optimization.shared.fine_tuning import zeros

    return zeros(module)


def _parameters(module: nn.Module) -> list[tuple[int, int]]:
    return [(int((p == 0).sum()), p.numel()) for p in module.parameters()]


def _share(counts: Iterable[tuple[int, int]]) -> float:
    zeros, size = (sum(column) for column in zip(*counts, strict=True))
    return float(zeros / size)


def what_changes_nothing_changes_nothing(suite: Suite) -> None:
    """What declares ``changes_nothing`` returns the network as it is and achieves nothing."""
    done = _done(suite)
    if suite.technique.changes_nothing:
        suite.demand(not done.optimized.achieved, "it changes nothing and yet achieved something")
        check_same(suite, done.kept, done.optimized.network, "changes_nothing is declared")


def an_onnx_model_is_taken_or_refused(suite: Suite) -> None:
    """A network that is only an ONNX file is refused by a rule, or works."""
    from dlas.run.steps.convert import to_onnx

    suite.needs("torch", "onnx", "onnxruntime", "onnxscript")
    if suite.technique.why_not(stack_of(suite.technique, OnnxNet())) is not None:
        return
    path = suite.folder("given") / "model.onnx"
    to_onnx(_done(suite).kept, path)
    kept = path.read_bytes()
    network = Network(_done(suite).kept.spec, None, path)
    done = suite.technique.apply(network, _data(suite), suite.folder("from-onnx"))
    suite.demand(path.read_bytes() == kept, "it changed the given ONNX file")
    check_outputs(suite, outputs_of(done.network, _images(suite)), IMAGES)


OPTIMIZATION = (
    it_returns_an_optimized_network,
    the_given_network_is_not_changed,
    outputs_keep_their_shape_and_are_finite,
    the_network_is_what_its_precision_means,
    saved_and_loaded_it_gives_the_same_outputs,
    as_onnx_it_gives_the_same_outputs,
    same_parameters_give_the_same_result,
    what_is_achieved_is_json,
    the_sparsity_reported_is_that_of_the_tensors,
    zeros_are_declared,
    what_changes_nothing_changes_nothing,
    an_onnx_model_is_taken_or_refused,
)
