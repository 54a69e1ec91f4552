"""Attention recognized in its parts: what ONNX has of it are products and a softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.graph.strides import locate

_TURNED = (0, 2, 1, 3)
"""From heads before tokens to tokens before heads."""
_ORDERS = (_TURNED, (0, 3, 1, 2), _TURNED)
"""The axes batch, token, head and depth of queries, of keys (which are transposed), of values."""


class _Multiple(NamedTuple):
    """A tensor times a number."""

    name: str
    factor: float


def find_attention(graph: Graph) -> Graph:
    """Rewrite softmax(q k) v, and the permutation behind it, as one operator, in place."""
    finder = _AttentionFinder(graph)
    for node in list(graph.nodes):
        if node.op == "relax" and node.attrs["kind"] == "permute_dims":
            finder.rewrite(node)
    graph.prune()
    return graph


class _AttentionFinder:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.makers, self.users = graph, graph.producers(), graph.users()

    def rewrite(self, last: Node) -> None:
        """Let the permutation of an attention's output be that attention."""
        axes = last.attrs["call"].attrs.axes
        values = self._only(last.inputs[0], "matmul")
        softmax = None if values is None else self._only(values.inputs[0], "nn.softmax")
        if values is None or softmax is None or axes is None or [*map(int, axes)] != [*_TURNED]:
            return
        scores = self._scaled(softmax.inputs[0])
        product = self._only(scores.name, "matmul")
        if product is None:
            return
        q, k = (self._scaled(name) for name in product.inputs)
        names = (q.name, k.name, values.inputs[1])
        shapes = [self.graph.values[name].shape for name in names]
        axis = int(softmax.attrs["call"].attrs.axis)
        if any(len(s) != 4 for s in shapes) or axis not in (-1, 3) or not self._readable(names):
            return
        (n, heads, _, depth), (_, key_heads, key_depth, keys), (_, value_heads, tokens, _) = shapes
        if (heads, heads, depth, keys) != (key_heads, value_heads, key_depth, tokens):
            return
        if any(shape[0] != n for shape in shapes):
            return
        scale = scores.factor * q.factor * k.factor
        last.op, last.inputs = "attention", [*names]
        last.attrs = {"scale": scale, "orders": _ORDERS}

    def _only(self, name: str, kind: str) -> Node | None:
        """Return the operator of a kind that makes a float32 value that nobody else reads."""
        maker = self.makers.get(name)
        if maker is None or maker.op != "relax" or maker.attrs["kind"] != kind:
            return None
        alone = len(self.users[name]) == 1 and name not in self.graph.outputs
        return maker if alone and self.graph.values[name].dtype == "float32" else None

    def _scaled(self, name: str) -> _Multiple:
        """Return the tensor of which a value is a multiple."""
        for kind in ("multiply", "divide"):
            node = self._only(name, kind)
            pairs: list[tuple[str, str]] = []
            if node is not None:
                pairs = [(node.inputs[0], node.inputs[1])]
                pairs += [(node.inputs[1], node.inputs[0])] if kind == "multiply" else []
            for x, other in pairs:
                number = self.graph.constant(other)
                if number is not None and number.size == 1:
                    factor = float(number.reshape(()))
                    return _Multiple(x, factor if kind == "multiply" else 1 / factor)
        return _Multiple(name, 1.0)

    def _readable(self, names: tuple[str, ...]) -> bool:
        """Whether all lie in memory such that numbers of a token's head are neighbours."""
        makers: Mapping[str, Node] = self.makers
        depths = (
            locate(self.graph, makers, name).strides[order[-1]]
            for name, order in zip(names, _ORDERS, strict=True)
        )
        return all(depth == 1 for depth in depths)
