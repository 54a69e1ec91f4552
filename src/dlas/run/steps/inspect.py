"""Facts of a network: parameters, multiply-accumulates, bytes of weights; by layer and in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dlas.core.errors import StepError
from dlas.core.keys import Json
from dlas.core.protocols import Network, Precision
from dlas.networks.counting import Counted, LayerMacs, count
from dlas.networks.onnx_graph import OnnxWeights

if TYPE_CHECKING:
    from torch import Tensor

BYTES: Mapping[Precision, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
"""Bytes of one weight."""

__all__ = ["BYTES", "LayerMacs", "NetworkFacts", "inspect_network"]


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What a network is, counted from its tensors and from one inference (of ``spec.batch``)."""

    params: int
    """Elements of weights: a module's parameters; of an ONNX file its weight initializers (norms
    are folded into convolutions there, so a few less)."""
    nonzero_params: int
    macs: int | None
    """Multiply-accumulates of convolutions, linear layers and matrix products, attention's
    included; None where an operator multiplies in a way that is not counted (``uncounted``)."""
    effective_macs: int | None
    """Those of them whose weight is not zero; products of two activations count in full."""
    weights_mb: float
    """10^6 bytes of weights in the precision asked: 4, 2 or 2 a parameter; of an ONNX file what
    it stores, scales and zero points included."""
    layers: tuple[LayerMacs, ...]
    uncounted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form."""
        return asdict(self)


def inspect_network(network: Network) -> NetworkFacts:
    """Return the facts of a network: of its module where it has one, else of its ONNX file.

    Raises:
        StepError: the network has neither.
    """
    if network.module is not None:
        return _of_module(network)
    if network.onnx is None:
        raise StepError("the network has neither a torch module nor an ONNX file")
    return _of_onnx(network)


def _of_module(network: Network) -> NetworkFacts:
    parameters = dict(network.module.named_parameters())
    size = sum(p.numel() for p in parameters.values())
    counted = count(network.module, network.spec)
    return NetworkFacts(
        params=size,
        nonzero_params=_nonzero(parameters, counted),
        macs=counted.macs,
        effective_macs=counted.effective,
        weights_mb=size * BYTES[network.precision] / 1e6,
        layers=counted.layers,
        uncounted=counted.uncounted,
    )


def _nonzero(parameters: Mapping[str, Tensor], counted: Counted) -> int:
    """Count what is not zero in the weight that is used: ``forward`` may multiply by a mask."""
    used = {layer.name: layer for layer in counted.layers if layer.weights}
    total = 0
    for name, parameter in parameters.items():
        stored = int(parameter.count_nonzero())
        layer = used.get(name.removesuffix(".weight"))
        same = layer is not None and layer.weights == parameter.numel()
        total += min(stored, layer.nonzero) if layer and same else stored
    return total


def _of_onnx(network: Network) -> NetworkFacts:
    if network.onnx is None:
        raise StepError("the network has no ONNX file")
    graph = OnnxWeights(network.onnx, network.spec)
    known = not graph.uncounted
    # Rounded weights come as float32 tensors; the runtime is asked to store them narrow.
    widest = {"float16": 2, "bfloat16": 2}.get(network.precision, 8)
    return NetworkFacts(
        params=graph.params,
        nonzero_params=graph.nonzero,
        macs=sum(layer.macs for layer in graph.layers) if known else None,
        effective_macs=sum(layer.effective for layer in graph.layers) if known else None,
        weights_mb=graph.stored_bytes(widest) / 1e6,
        layers=graph.layers,
        uncounted=graph.uncounted,
    )
