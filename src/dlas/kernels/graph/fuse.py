"""Batch norm and bias folded into weights; residual and activation fused into the last store."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.ground.quantization import Sum

Array = npt.NDArray[Any]

_FUSIBLE = {
    "conv2d": (None, "relu", "relu6", "silu", "sigmoid"),
    "linear": (None, "relu", "relu6", "silu", "sigmoid", "gelu"),
    "affine": (None, "relu", "relu6", "silu", "sigmoid"),
    "binary": (None, "relu", "relu6", "silu", "sigmoid"),
}


def _only_producer(graph: Graph, name: str) -> Node | None:
    """Return the operator that computes `name` if exactly one operator reads it."""
    if len(graph.users()[name]) != 1 or name in graph.outputs:
        return None
    return graph.producers().get(name)


def _merge(graph: Graph, first: Node, second: Node) -> None:
    """Put `first` in the place of `second`, whose output it now computes."""
    first.outputs = second.outputs
    graph.nodes.remove(first)
    graph.nodes[graph.nodes.index(second)] = first


def _each(graph: Graph, op: str, rewrite: Callable[[Graph, Node], None]) -> None:
    for node in [n for n in graph.nodes if n.op == op]:
        rewrite(graph, node)


def fold_bias(graph: Graph) -> None:
    """Add a constant vector that follows a linear layer to its bias."""

    def rewrite(graph: Graph, node: Node) -> None:
        if node.attrs["kind"] != "add" or len(node.inputs) != 2:
            return
        for x, constant in (node.inputs, node.inputs[::-1]):
            bias, producer = graph.constant(constant), _only_producer(graph, x)
            if bias is None or producer is None or producer.op != "linear":
                continue
            if bias.size == bias.shape[-1] == len(producer.attrs["weight"]):
                old = producer.attrs["bias"]
                producer.attrs["bias"] = bias.reshape(-1) + (0 if old is None else old)
                _merge(graph, producer, node)
                return

    _each(graph, "relax", rewrite)


def _scaled(weight: Array, scale: Array) -> Array:
    """Return weight * scale, multiplied in float64, without a float64 copy of large weights."""
    result = np.empty_like(weight)
    return np.multiply(weight, scale, out=result, dtype=np.float64, casting="same_kind")


def fold_affine(graph: Graph) -> None:
    """Multiply a per-channel scale and shift into the convolution or affine before it."""

    def rewrite(graph: Graph, node: Node) -> None:
        producer = _only_producer(graph, node.inputs[0])
        if producer is None or producer.attrs.get("activation") is not None:
            return
        scale, shift = node.attrs["scale"], node.attrs["shift"]
        attrs = producer.attrs
        if producer.op == "conv2d" and len(producer.inputs) == 1:
            attrs["weight"] = _scaled(attrs["weight"], scale.reshape(-1, 1, 1, 1))
            old = 0.0 if attrs["bias"] is None else attrs["bias"]
            attrs["bias"] = old * scale + shift
        elif producer.op == "affine":
            attrs["shift"] = attrs["shift"] * scale + shift
            attrs["scale"] = attrs["scale"] * scale
        else:
            return
        _merge(graph, producer, node)

    _each(graph, "affine", rewrite)


def chain_concats(graph: Graph) -> None:
    """Let a concatenation take up an earlier one whose inputs it begins with.

    The same bytes are copied, but by code for two parts instead of dozens (DenseNet).
    """
    known: dict[tuple[str, ...], str] = {}
    for node in graph.nodes:
        if node.op != "concat":
            continue
        names = tuple(node.inputs)
        for length in range(len(names) - 1, 1, -1):
            if names[:length] in known:
                node.inputs = [known[names[:length]], *names[length:]]
                break
        known[names] = node.output


def _takes_sum(producer: Node, node: Node, x: str) -> bool:
    """Whether a convolution in int8 can add a tensor as a quantized sum does."""
    scales, (first, second, _) = producer.attrs.get("quantization"), node.attrs["sum"]
    mine = first if node.inputs[0] == x else second
    fits = scales is not None and scales.activation is None and scales.y == mine
    return fits and producer.op == "conv2d"


def _take_sum(producer: Node, node: Node, other: str) -> None:
    first, second, total = node.attrs["sum"]
    ahead = node.inputs[0] == other
    added = Sum(first if ahead else second, total, ahead)
    scales = producer.attrs["quantization"]
    producer.attrs["quantization"] = replace(scales, sum=added, activation=node.attrs.get("clip"))


def fuse_residual(graph: Graph) -> None:
    """Let a convolution or linear layer add the tensor that is added to its output."""

    def rewrite(graph: Graph, node: Node) -> None:
        if node.attrs["kind"] != "add":
            return
        shape = graph.values[node.output].shape
        if any(graph.values[name].shape != shape for name in node.inputs):
            return
        candidates = []
        for x, other in (node.inputs, node.inputs[::-1]):
            producer = _only_producer(graph, x)
            if producer is None or producer.op not in ("conv2d", "linear") or x == other:
                continue
            if "sum" in node.attrs and not _takes_sum(producer, node, x):
                continue
            if len(producer.inputs) == 1 and producer.attrs["activation"] is None:
                candidates.append((graph.nodes.index(producer), producer, other))
        if candidates:
            # The later one: the other branch is complete by then.
            _, producer, other = max(candidates, key=lambda c: c[0])
            if "sum" in node.attrs:
                _take_sum(producer, node, other)
            producer.inputs = [*producer.inputs, other]
            producer.attrs["activation"] = node.attrs["activation"]
            _merge(graph, producer, node)

    _each(graph, "binary", rewrite)


def fuse_table(graph: Graph) -> None:
    """Let a convolution or linear layer in int8 store what a table makes of its output."""

    def rewrite(graph: Graph, node: Node) -> None:
        table, last = node.attrs["table"], _only_producer(graph, node.inputs[0])
        producer = last
        while producer is not None and producer.op == "view":
            producer = _only_producer(graph, producer.inputs[0])
        scales = None if producer is None else producer.attrs.get("quantization")
        if last is None or producer is None or scales is None or scales.table is not None:
            return
        producer.attrs["quantization"] = replace(scales, table=table)
        _merge(graph, last, node)
        name = producer.output
        while name != node.output:  # what is reshaped on the way holds the results, too
            graph.values[name] = replace(graph.values[name], zero=table.scale.zero)
            name = graph.users()[name][0].output

    _each(graph, "lookup", rewrite)


def fuse_quantize(graph: Graph) -> None:
    """Let a layer normalization store what it is quantized to."""

    def rewrite(graph: Graph, node: Node) -> None:
        producer = _only_producer(graph, node.inputs[0])
        if producer is not None and producer.op == "layer_norm":
            producer.attrs["scale"] = node.attrs["scale"]
            _merge(graph, producer, node)

    _each(graph, "quantize", rewrite)


def fuse_activation(graph: Graph) -> None:
    """Apply an activation in the store of the operator before it."""

    def rewrite(graph: Graph, node: Node) -> None:
        producer = _only_producer(graph, node.inputs[0])
        if producer is None or producer.attrs.get("activation") is not None:
            return
        if node.attrs["activation"] in _FUSIBLE.get(producer.op, ()):
            producer.attrs["activation"] = node.attrs["activation"]
            _merge(graph, producer, node)

    _each(graph, "unary", rewrite)
