"""Float arithmetic between quantized tensors: written as operators that read and write bytes.

In a QDQ model what has no kernel in int8 stands in float between `dequantize` and `quantize`.
Computed operator by operator, each would read and write a tensor four times as large as the
quantized ones around. Here

- what depends on one quantized tensor alone and is quantized again becomes a `lookup`: a table of
  256 results (which the convolution before takes into its last store, see `fuse.fuse_table`);
- any other tree of elementwise operators becomes one `pointwise` operator, which computes in float
  what it reads and stores in registers;
- so is a batch norm, but behind a convolution in float32, which takes it into its filters;
- the mean of an image reads bytes, and so much of the tree before it as depends on these alone.

What several operators read is computed by each of them if it depends on one quantized tensor
alone, else once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dlas.kernels.graph.graph import Graph, Node, Value
from dlas.kernels.graph.simplify import batch_norm
from dlas.kernels.graph.strides import VIEWS
from dlas.kernels.ground.expression import (
    INPUT,
    OPERATORS,
    Expression,
    given,
    number,
    operator,
    table,
)
from dlas.kernels.ground.quantization import Scale

_NAMES: Mapping[str, str] = {
    "nn.silu": "silu",
    "nn.gelu": "gelu",
    "nn.gelu_tanh": "gelu_tanh",
    "nn.relu": "relu",
    **{name: name for name in OPERATORS},
}
"""Operators of TVM, and what expressions call them."""
EMITTED = frozenset(
    (
        *("add", "subtract", "multiply", "divide", "maximum", "minimum"),
        *("relu", "relu6", "sigmoid", "silu", "gelu"),
    )
)
"""Those that are written in float32; the others only stand in tables."""
MOVES = frozenset(("concat", "nn.max_pool2d", "nn.avg_pool2d"))
"""Operators that take no factors in."""
Shape = tuple[int, ...]


def fuse(graph: Graph) -> Graph:
    """Rewrite the graph in place, after operators in int8 are matched, and return it."""
    if any(node.op == "dequantize" for node in graph.nodes):
        _across_views(graph)
        _norms(graph)
        _tables(graph)
        _Islands(graph).run()
        graph.prune()
    return graph


Leaf = tuple[str, Scale | None]
"""A tensor, and its scale where it is quantized."""


class _TreeReader:
    """Reads trees of elementwise operators upwards, to the tensors that they are of."""

    def __init__(self, graph: Graph, known: frozenset[str]) -> None:
        self.graph, self.known = graph, known
        self.makers, self.users = graph.producers(), graph.users()
        self._sources: dict[str, frozenset[Leaf]] = {}

    def kept(self, name: str) -> bool:
        """Whether a value is computed once and stored, so that trees end there."""
        del name
        return False

    def absorbs(self, node: Node) -> bool:
        """Whether a node is an elementwise operator that trees are made of."""
        if node.op != "relax" or len(node.outputs) != 1:
            return False
        value, name = self.graph.values[node.output], node.attrs["kind"]
        named = "maximum" if name == "clip" else _NAMES.get(name)
        if named not in self.known or value.dtype != "float32" or 0 in value.shape:
            return False
        shapes = [self.graph.values[x].shape for x in node.inputs if not self._scalar(x)]
        fits = all(s in (value.shape, per_channel(value.shape)) for s in shapes)
        return fits and value.shape in shapes

    def _scalar(self, name: str) -> bool:
        constant = self.graph.constant(name)
        return constant is not None and constant.size == 1

    def sources(self, name: str) -> frozenset[Leaf]:
        """Return the tensors of which a value is, whatever is stored between."""
        if name not in self._sources:
            maker = self.makers.get(name)
            found: frozenset[Leaf] = frozenset([(name, None)])
            if maker is not None and maker.op == "dequantize":
                found = frozenset([(maker.inputs[0], maker.attrs["scale"])])
            elif maker is not None and self.absorbs(maker):
                found = frozenset().union(*(self.sources(each) for each in maker.inputs))
            elif self._scalar(name):
                found = frozenset()
            self._sources[name] = found
        return self._sources[name]

    def of_one(self, name: str) -> Leaf | None:
        """Return the quantized tensor, of the same shape, of which alone a value is."""
        found = self.sources(name)
        if len(found) != 1:
            return None
        ((source, scale),) = found
        same = self.graph.values[source].shape == self.graph.values[name].shape
        return (source, scale) if scale is not None and same else None

    def tree(self, name: str, leaves: list[Leaf], root: bool = True) -> Expression:
        """Return what computes a value; the tensors that it reads are appended to `leaves`.

        `root`: whether the value is computed even if it is stored.
        """
        constant, maker = self.graph.constant(name), self.makers.get(name)
        if constant is not None and constant.size == 1:
            return number(float(np.float32(constant.reshape(()))))
        if maker is not None and maker.op == "dequantize":
            return _leaf((maker.inputs[0], maker.attrs["scale"]), leaves)
        if maker is None or not self.absorbs(maker) or (self.kept(name) and not root):
            return _leaf((name, None), leaves)
        parts = [self.tree(each, leaves, False) for each in maker.inputs]
        if maker.attrs["kind"] != "clip":
            return operator(_NAMES[maker.attrs["kind"]], *parts)
        low, high = (number(float(bound.value)) for bound in maker.attrs["call"].args[1:])
        return operator("minimum", operator("maximum", parts[0], low), high)


def _leaf(leaf: Leaf, leaves: list[Leaf]) -> Expression:
    """Return a tensor as an input."""
    if leaf not in leaves:
        leaves.append(leaf)
    return given(leaves.index(leaf))


def per_channel(shape: Shape) -> Shape | None:
    """Return the shape of one number a channel of each image; None: it is no image's."""
    return (*shape[:2], 1, 1) if len(shape) == 4 else None


def _across_views(graph: Graph) -> None:
    """Let bytes be reshaped, not floats: behind a `quantize` and before a `dequantize`."""
    made: list[Node] = []
    makers, users = graph.producers(), graph.users()
    for node in graph.nodes:
        view = makers.get(node.inputs[0]) if node.inputs else None
        if node.op == "quantize":
            made += _quantized_first(graph, node, makers, users)
        elif _is_view(node) and view is not None and view.op == "dequantize":
            name, scale = f"{node.output}.bytes", view.attrs["scale"]
            graph.values[name] = Value(graph.values[node.output].shape, "uint8", scale.zero)
            made.append(Node(f"{node.name}.view", "view", view.inputs[:1], [name]))
            made.append(Node(node.name, "dequantize", [name], node.outputs, view.attrs))
            makers[node.output] = made[-1]
        else:
            made.append(node)
    graph.nodes = made


def _is_view(node: Node) -> bool:
    return node.op == "relax" and node.attrs["kind"] in VIEWS


def _quantized_first(
    graph: Graph, node: Node, makers: dict[str, Node], users: Mapping[str, list[Node]]
) -> Iterator[Node]:
    """Yield what quantizes a value before it is reshaped, and then reshapes it."""
    name, view = node.inputs[0], makers.get(node.inputs[0])
    while view is not None and _is_view(view) and len(users[name]) == 1:
        if name in graph.outputs:
            break
        name, view = view.inputs[0], makers.get(view.inputs[0])
    if name == node.inputs[0]:
        yield node
        return
    scale, early = node.attrs["scale"], f"{node.output}.early"
    graph.values[early] = Value(graph.values[name].shape, "uint8", scale.zero)
    yield Node(node.name, "quantize", [name], [early], node.attrs)
    yield Node(f"{node.name}.view", "view", [early], node.outputs)


def _norms(graph: Graph) -> None:
    """Write batch norms as products and sums with numbers of channels, but behind convolutions."""
    reader, made = _TreeReader(graph, frozenset(OPERATORS)), list[Node]()
    for node in graph.nodes:
        known = node.op == "relax" and node.attrs["kind"] == "nn.batch_norm"
        value = graph.values[node.inputs[0]] if known else None
        constant = known and all(graph.constant(name) is not None for name in node.inputs[1:])
        if value is None or not constant or value.dtype != "float32" or len(value.shape) != 4:
            made.append(node)
            continue
        floats = [name for name, scale in reader.sources(node.inputs[0]) if scale is None]
        makers = [reader.makers.get(name) for name in floats]
        if any(maker is None or maker.attrs.get("kind") not in MOVES for maker in makers):
            made.append(node)  # a convolution may take it into its filters
            continue
        made += _product_and_sum(graph, node)
    graph.nodes = made


def _product_and_sum(graph: Graph, node: Node) -> Iterator[Node]:
    """Yield a batch norm's product and sum."""
    form = (1, graph.values[node.inputs[0]].shape[1], 1, 1)
    scale, shift = (each.astype(np.float32).reshape(form) for each in batch_norm(graph, node))
    name, between = node.outputs[0], f"{node.outputs[0]}.scaled"
    graph.values[between] = Value(graph.values[name].shape)
    factors, terms = (
        graph.add_constant(f"{name}.{what}", each)
        for what, each in (("factors", scale), ("terms", shift))
    )
    yield Node(f"{node.name}.scaled", "relax", [node.inputs[0], factors], [between],
               {"kind": "multiply"})  # fmt: skip
    yield Node(node.name, "relax", [between, terms], [name], {"kind": "add"})


def _tables(graph: Graph) -> None:
    """Let functions of one quantized tensor that are quantized again be tables."""
    reader = _TreeReader(graph, frozenset(OPERATORS))
    for node in graph.nodes:
        source = reader.of_one(node.inputs[0]) if node.op == "quantize" else None
        if source is None or source[1] is None:
            continue
        found = table(reader.tree(node.inputs[0], []), source[1], node.attrs["scale"])
        if found is not None:
            node.op, node.inputs, node.attrs = "lookup", [source[0]], {"table": found}
    graph.prune()


class _Islands(_TreeReader):
    """Fuses what is no table."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph, EMITTED)

    def kept(self, name: str) -> bool:
        """Whether a value is computed once and stored, so that trees end there."""
        users = self.users[name]
        if name in self.graph.outputs or not users:
            return True
        alone = self.of_one(name) is not None
        if not all(self.absorbs(user) or self._ends(user, alone) for user in users):
            return True
        return len(users) > 1 and not alone

    def _ends(self, user: Node, alone: bool) -> bool:
        """Whether an operator that is not elementwise computes what it reads."""
        return user.op == "quantize" or (alone and _pooled(self.graph, user))

    def run(self) -> None:
        """Rewrite the graph in place."""
        made: list[Node] = []
        for node in self.graph.nodes:
            fused = None
            if node.op == "quantize":
                fused = self._pointwise(node, node.inputs[0], node.attrs["scale"])
                if fused is None and self._quantizes(node, made):
                    continue
            elif self.absorbs(node) and self.kept(node.output):
                fused = self._pointwise(node, node.output, None)
            elif _pooled(self.graph, node) and self.of_one(node.inputs[0]):
                made += self._mean(node)
                continue
            made.append(node if fused is None else fused)
        self.graph.nodes = made

    def _pointwise(self, last: Node, name: str, scale: Scale | None) -> Node | None:
        """Return the operator that stores a value, computed from tensors; None: nothing is fused.

        Args:
            last: the operator that stores it now.
            name: the value.
            scale: of what is stored; None: float32.
        """
        shape, leaves = self.graph.values[name].shape, list[Leaf]()
        expression = self.tree(name, leaves, root=last.output == name)
        floats = scale is None and all(each is None for _, each in leaves)
        if expression.op == INPUT or floats:
            return None
        whole = [self.graph.values[leaf].shape == shape for leaf, _ in leaves]
        if not any(whole):
            return None
        # Images before numbers of channels, bytes before floats: layouts follow the first.
        order = sorted(range(len(leaves)), key=lambda at: (not whole[at], leaves[at][1] is None))
        attrs = {
            "expression": _renumbered(expression, [order.index(at) for at in range(len(order))]),
            "scales": tuple(leaves[at][1] for at in order),
            "scale": scale,
        }
        maker = self.makers.get(name, last)
        return Node(maker.name, "pointwise", [leaves[at][0] for at in order], last.outputs, attrs)

    def _mean(self, node: Node) -> Iterator[Node]:
        """Yield the mean over an image of bytes, and a view where the model drops its axes."""
        graph, name, leaves = self.graph, node.output, list[Leaf]()
        # It may be stored as well, for others: here it is computed.
        expression = _TreeReader(graph, EMITTED).tree(node.inputs[0], leaves)
        ((source, scale),) = leaves
        attrs: dict[str, Any] = {"expression": expression, "scales": (scale,), "scale": None}
        made = Node(node.name, "global_pool", [source], [name], attrs)
        yield made
        if len(graph.values[name].shape) == 2:
            made.outputs = [f"{name}.pooled"]
            graph.values[made.output] = Value((*graph.values[name].shape, 1, 1))
            yield Node(f"{node.name}.view", "view", [made.output], [name])

    def _quantizes(self, last: Node, made: list[Node]) -> bool:
        """Let a mean of bytes store what alone reads it: bytes. Returns whether it does.

        Between the two there may be the view without the image's axes.
        """
        graph, name = self.graph, last.inputs[0]
        if len(self.users[name]) > 1 or name in graph.outputs:
            return False
        writers = {node.output: node for node in made if node.op in ("global_pool", "view")}
        view = pool = writers.get(name)
        if view is not None and view.op == "view":
            pool = writers.get(view.inputs[0])
        if view is None or pool is None or "expression" not in pool.attrs:
            return False
        scale = pool.attrs["scale"] = last.attrs["scale"]
        if view is not pool:
            pooled = pool.output
            graph.values[pooled] = Value(graph.values[pooled].shape, "uint8", scale.zero)
        view.outputs = last.outputs
        return True


def _pooled(graph: Graph, node: Node) -> bool:
    """Whether a node is the mean over an image."""
    if node.op != "relax" or node.attrs["kind"] != "mean":
        return False
    shape = graph.values[node.inputs[0]].shape
    axes = sorted(int(axis) % len(shape) for axis in node.attrs["call"].attrs.axis or [])
    return len(shape) == 4 and axes == [2, 3]


def _renumbered(expression: Expression, places: list[int]) -> Expression:
    """Return an expression whose inputs have other places."""
    if expression.op == INPUT:
        return given(places[int(expression.value)])
    parts = tuple(_renumbered(part, places) for part in expression.parts)
    return Expression(expression.op, parts, expression.value)
