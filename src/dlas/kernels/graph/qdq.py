"""Quantized operators recognized: dequantize, operator, quantize become one operator in int8.

A QDQ model says what is computed in eight bits by operators in float between DequantizeLinear
and QuantizeLinear. Here, before anything else is simplified, such a triple becomes one node that
reads and writes uint8. What has no kernel in int8 stays in float between a `dequantize` and
a `quantize`, and is listed so when the program is described.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import relax

from dlas.kernels.graph.graph import Graph, Node, Value
from dlas.kernels.graph.simplify import conv_of, pool_of
from dlas.kernels.graph.strides import VIEWS
from dlas.kernels.ground.quantization import Quantization, Scale

Numbers = npt.NDArray[Any]
_CLIPS = {"nn.relu": "relu", "relu6": "relu6"}


@dataclass(frozen=True)
class Stored:
    """A constant as the model stores it: whole numbers and their scales."""

    numbers: Numbers
    scale: Numbers
    """One value, or one for each entry of an axis."""
    axis: int
    """That axis."""

    def along(self, axis: int) -> bool:
        """Whether scales go along this axis (one value goes along any)."""
        return self.scale.size == 1 or self.axis == axis


def match(graph: Graph) -> Graph:
    """Rewrite the quantized operators of an imported graph in place and return it."""
    return _Matcher(graph).run()


class _Matcher:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.stored: dict[str, Stored] = {}
        """Constants that are dequantized, by the name of the float value."""

    def run(self) -> Graph:
        graph = self.graph
        self._constants()
        if not any(n.op in ("quantize", "dequantize") for n in graph.nodes):
            return graph
        makers = graph.producers()
        for node in list(graph.nodes):
            if node.op == "quantize":
                self._operator(node, makers)
        graph.prune()
        _name_means(graph)
        return graph

    def _constants(self) -> None:
        """Name the quantizing operators; keep what is stored in eight or 32 bits as it is."""
        kept = []
        for node in self.graph.nodes:
            kind = node.attrs["kind"]
            if kind == "dequantize" and self._keep(node):
                continue
            if kind in (*VIEWS, "permute_dims") and node.inputs[0] in self.stored:
                if self._moved(node):
                    continue
            elif kind in ("quantize", "dequantize"):
                self._scaled(node, kind)
            kept.append(node)
        self.graph.nodes = kept

    def _keep(self, node: Node) -> bool:
        """Fold a dequantized constant; a symmetric one is remembered as it is stored."""
        numbers, scale, zero = (self.graph.constant(name) for name in node.inputs)
        if numbers is None or scale is None or zero is None:
            return False
        axis = int(node.attrs["call"].attrs.axis) % max(1, numbers.ndim)
        shape = [1] * numbers.ndim
        if scale.size > 1:
            shape[axis] = -1
        wide = numbers.astype(np.int32) - zero.astype(np.int32).reshape(shape)
        value = wide.astype(np.float32) * scale.astype(np.float32).reshape(shape)
        if not zero.any():
            self.stored[node.output] = Stored(numbers, scale.reshape(-1), axis)
        self._fold(node, value)
        return True

    def _moved(self, node: Node) -> bool:
        """Move a view or transpose of a stored constant into it."""
        old, value = self.stored[node.inputs[0]], self.graph.constants[node.inputs[0]]
        shape, axis = self.graph.values[node.output].shape, old.axis
        if node.attrs["kind"] == "permute_dims":
            axes = node.attrs["call"].attrs.axes
            count = old.numbers.ndim
            order = [int(a) % count for a in axes] if axes is not None else [*range(count)][::-1]
            moved, value, axis = (
                old.numbers.transpose(order),
                value.transpose(order),
                order.index(axis),
            )
        elif old.numbers.ndim > 1 and old.scale.size > 1:
            return False  # who knows where the axis goes
        else:
            moved, value = old.numbers.reshape(shape), value.reshape(shape)
        self.stored[node.output] = Stored(moved, old.scale, axis)
        self._fold(node, value)
        return True

    def _fold(self, node: Node, value: Numbers) -> None:
        self.graph.constants[node.output] = np.ascontiguousarray(value)
        if node.inputs[0] in self.graph.labels:
            self.graph.labels[node.output] = self.graph.labels[node.inputs[0]]

    def _scaled(self, node: Node, kind: str) -> None:
        """Make a quantizing operator of activations one of ours."""
        quantized = node.output if kind == "quantize" else node.inputs[0]
        scale, zero = (self.graph.constant(name) for name in node.inputs[1:])
        if scale is None or zero is None or scale.size != 1 or zero.size != 1:
            return  # as TVM defines it
        dtype = str(zero.dtype)
        if dtype != "uint8" and (dtype != "int8" or not self._between(quantized)):
            return
        # Signed numbers are stored 128 higher: the same steps, all of them positive.
        moved = 128 if dtype == "int8" else 0
        found = Scale(float(scale.reshape(())), int(zero.reshape(())) + moved)
        attrs = {"kind": kind, "scale": found, "moved": moved}
        node.op, node.inputs, node.attrs = kind, node.inputs[:1], attrs
        value = self.graph.values[quantized]
        self.graph.values[quantized] = Value(value.shape, "uint8", found.zero)

    def _between(self, name: str) -> bool:
        """Whether a tensor is written by a `quantize`, and read by nothing but `dequantize`."""
        if name in (*self.graph.inputs, *self.graph.outputs):
            return False
        made = [n.attrs["kind"] for n in self.graph.nodes if name in n.outputs]
        read = {n.attrs["kind"] for n in self.graph.nodes if name in n.inputs}
        return made == ["quantize"] and read == {"dequantize"}

    # ------------------------------------------------------------ one operator

    def _operator(self, last: Node, makers: dict[str, Node]) -> None:
        """Replace what a `quantize` ends, if there is a kernel for it."""
        node, activation = self._before(last.inputs[0], makers), None
        if node is not None and node.attrs.get("kind") in _CLIPS:
            activation = _CLIPS[node.attrs["kind"]]
            node = self._before(node.inputs[0], makers)
        if node is None or node.op != "relax":
            return
        bias = None
        if node.attrs["kind"] == "add" and (found := self._bias(node, makers)):
            node, bias = found
        make = _MAKE.get(node.attrs["kind"])
        if make is None or (activation and make not in (_conv2d, _linear, _add)):
            return
        made = make(self, node, last, bias, makers)
        if made is None:
            return
        if activation is not None and "quantization" in made.attrs:
            scales = made.attrs["quantization"]
            made.attrs["quantization"] = replace(scales, activation=activation)
        elif activation is not None:
            made.attrs["clip"] = activation
        made.outputs = last.outputs
        self.graph.nodes[self.graph.nodes.index(last)] = made
        makers[made.output] = made

    def _before(self, name: str, makers: dict[str, Node]) -> Node | None:
        """Return the operator that makes a value that nobody else reads."""
        users = [n for n in self.graph.nodes if name in n.inputs]
        return makers.get(name) if len(users) == 1 and name not in self.graph.outputs else None

    def _bias(self, add: Node, makers: dict[str, Node]) -> tuple[Node, Stored] | None:
        """Return the product that a stored int32 vector is added to, and that."""
        for x, constant in (add.inputs, add.inputs[::-1]):
            stored = self.stored.get(constant)
            node = self._before(x, makers)
            if stored is None or node is None or stored.numbers.dtype != np.int32:
                continue
            if node.attrs.get("kind") in ("nn.conv2d", "matmul"):
                return node, stored
        return None

    def read(self, name: str, makers: dict[str, Node]) -> tuple[str, Scale] | None:
        """Return the quantized tensor behind a float one, and its scale."""
        node = makers.get(name)
        if node is None or node.op != "dequantize":
            return None
        return node.inputs[0], node.attrs["scale"]

    def product(
        self, x: tuple[str, Scale], filters: Stored, bias: Stored | None, y: Scale
    ) -> tuple[Quantization, Numbers | None] | None:
        """Return the scales of a product and its int32 bias; None: the bias has another scale."""
        scales = Quantization(x[1], tuple(float(s) for s in filters.scale), y)
        if bias is None:
            return scales, None
        exact = np.float32(x[1].scale) * filters.scale.astype(np.float32)
        if not np.allclose(np.broadcast_to(bias.scale, exact.shape), exact, rtol=1e-5, atol=0):
            return None
        return scales, bias.numbers.reshape(-1)


def _name_means(graph: Graph) -> None:
    """Let averages over windows as large as the image, which stay in float, be means over it."""
    for node in graph.nodes:
        pool = pool_of(node) if node.attrs.get("kind") == "nn.avg_pool2d" else None
        if pool is None or node.op != "relax" or any(pool["padding"]):
            continue
        if pool["kernel"] == graph.values[node.inputs[0]].shape[2:]:
            (x,) = node.attrs["call"].args
            node.attrs = {"kind": "mean", "call": relax.op.mean(x, [2, 3], keepdims=True)}


Make = Callable[[_Matcher, Node, Node, Stored | None, dict[str, Node]], Node | None]


def _named(matcher: _Matcher, node: Node) -> str:
    return matcher.graph.labels.get(node.inputs[1], node.name)


def _conv2d(
    matcher: _Matcher, node: Node, last: Node, bias: Stored | None, makers: dict[str, Node]
) -> Node | None:
    filters, x = matcher.stored.get(node.inputs[1]), matcher.read(node.inputs[0], makers)
    if filters is None or x is None or filters.numbers.dtype != np.int8 or not filters.along(0):
        return None
    op = conv_of(matcher.graph, node, filters.numbers.shape)
    found = matcher.product(x, filters, bias, last.attrs["scale"])
    if op is None or found is None:
        return None
    attrs = {
        "conv": op, "weight": filters.numbers, "bias": found[1], "activation": None,
        "quantization": found[0],
    }  # fmt: skip
    return Node(_named(matcher, node), "conv2d", [x[0]], [], attrs)


def _linear(
    matcher: _Matcher, node: Node, last: Node, bias: Stored | None, makers: dict[str, Node]
) -> Node | None:
    filters, x = matcher.stored.get(node.inputs[1]), matcher.read(node.inputs[0], makers)
    if filters is None or x is None or filters.numbers.dtype != np.int8 or not filters.along(1):
        return None
    weight = np.ascontiguousarray(filters.numbers.T)
    whole = weight.ndim == 2 and weight.shape[1] % 4 == 0  # rows of whole elements
    found = matcher.product(x, filters, bias, last.attrs["scale"])
    if not whole or found is None or len(filters.scale) not in (1, len(weight)):
        return None
    attrs = {"weight": weight, "bias": found[1], "activation": None, "quantization": found[0]}
    return Node(_named(matcher, node), "linear", [x[0]], [], attrs)


def _add(
    matcher: _Matcher, node: Node, last: Node, bias: Stored | None, makers: dict[str, Node]
) -> Node | None:
    del bias
    terms = [matcher.read(name, makers) for name in node.inputs]
    shapes = {matcher.graph.values[n].shape for n in (*node.inputs, last.output)}
    if None in terms or len(shapes) > 1:
        return None
    (a, first), (b, second) = terms  # type: ignore[misc]
    sums = (first, second, last.attrs["scale"])
    return Node(node.name, "binary", [a, b], [], {"kind": "add", "activation": None, "sum": sums})


def _max_pool(
    matcher: _Matcher, node: Node, last: Node, bias: Stored | None, makers: dict[str, Node]
) -> Node | None:
    del bias
    x, attrs = matcher.read(node.inputs[0], makers), pool_of(node)
    if x is None or attrs is None or x[1] != last.attrs["scale"]:
        return None
    return Node(node.name, "pool", [x[0]], [], attrs)


def _average_pool(
    matcher: _Matcher, node: Node, last: Node, bias: Stored | None, makers: dict[str, Node]
) -> Node | None:
    del bias
    x, attrs = matcher.read(node.inputs[0], makers), pool_of(node, beyond=True)
    if x is None or attrs is None or attrs["dilation"] != (1, 1):
        return None
    scales = (x[1], last.attrs["scale"], last.attrs["moved"])
    return Node(node.name, "pool", [x[0]], [], {**attrs, "scales": scales})


def _view(
    matcher: _Matcher, node: Node, last: Node, bias: Stored | None, makers: dict[str, Node]
) -> Node | None:
    del bias
    x = matcher.read(node.inputs[0], makers)
    if x is None or x[1] != last.attrs["scale"]:
        return None
    return Node(node.name, "view", [x[0]], [], {})


def _concat(
    matcher: _Matcher, node: Node, last: Node, bias: Stored | None, makers: dict[str, Node]
) -> Node | None:
    """Channels of one image side by side, where all are quantized alike."""
    del bias
    parts = [matcher.read(name, makers) for name in node.inputs]
    shape = matcher.graph.values[node.output].shape
    if len(shape) != 4 or int(node.attrs["call"].attrs.axis) != 1 or shape[0] != 1:
        return None
    if None in parts or any(part[1] != last.attrs["scale"] for part in parts):  # type: ignore[index]
        return None
    return Node(node.name, "concat", [part[0] for part in parts], [], {})  # type: ignore[index]


_MAKE: dict[str, Make] = {
    "nn.conv2d": _conv2d,
    "matmul": _linear,
    "add": _add,
    "nn.max_pool2d": _max_pool,
    "nn.avg_pool2d": _average_pool,
    "concat": _concat,
    **dict.fromkeys(VIEWS, _view),
}
