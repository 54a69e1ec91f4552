"""Clips of ONNX models recognized: TVM imports one as comparisons with tensors of one number.

Its bounds may be NaN there, which stands for none; here they are constants, and that is decided.
"""

from typing import Any

import numpy as np

from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.ground.errors import UnsupportedError

_SIDES = {"maximum": "low", "minimum": "high"}
_NAMED = {(0.0, None): "nn.relu", (0.0, 6.0): "relu6"}
Bounds = dict[str, float]


def name_clips(graph: Graph) -> Graph:
    """Rewrite comparisons with constants as the activation that they are; return the graph.

    Raises:
        UnsupportedError: bounds that are no activation with a kernel.
    """
    found: dict[str, tuple[Node, Bounds]] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        arrays = [graph.constant(name) for name in node.inputs]
        value = _known(node.attrs["kind"], arrays)
        if value is not None:
            graph.constants[node.output] = value
            continue
        bounds = _bounds(node, arrays)
        if bounds is None:
            kept.append(node)
            continue
        before = found.pop(node.inputs[0], None)
        if before is not None and sum(node.inputs[0] in n.inputs for n in graph.nodes) == 1:
            kept.remove(before[0])
            node.inputs = before[0].inputs
            bounds = before[1] | bounds
        found[node.output] = (node, bounds)
        node.inputs = node.inputs[:1]
        kept.append(node)
    for node, bounds in found.values():
        sides = (bounds.get("low"), bounds.get("high"))
        if sides not in _NAMED:
            raise UnsupportedError(f"{node.name}: a clip to {sides} has no kernel: relu and relu6")
        node.attrs["kind"] = _NAMED[sides]
    graph.nodes = kept
    return graph


def _known(kind: str, arrays: list[Any]) -> Any:
    """Return what can be computed now: the questions whether a bound is NaN."""
    if any(a is None for a in arrays):
        return None
    if kind == "isnan":
        return np.isnan(arrays[0])
    return np.where(*arrays) if kind == "where" else None


def _bounds(node: Node, arrays: list[Any]) -> Bounds | None:
    """Return the bound that a comparison sets; None: it is another operator."""
    if node.attrs["kind"] != "call_tir":
        return None
    name = str(node.attrs["call"].args[0].name_hint)
    side = _SIDES.get(name.rstrip("0123456789_"))
    if side is None or len(arrays) != 2 or arrays[1] is None or arrays[1].size != 1:
        raise UnsupportedError(f"{node.name}: TVM's function {name} has no kernel")
    bound = float(arrays[1].reshape(()))
    return {side: bound} if np.isfinite(bound) else {}
