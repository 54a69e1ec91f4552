"""Clips of ONNX models recognized: TVM imports one as comparisons with tensors of one number.

Its bounds may be NaN there, which stands for none; here they are constants, and that is decided.
What is an activation with a kernel becomes that; any other comparison is an elementwise operator.
"""

import math
from typing import Any

import numpy as np
from tvm import relax

from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.graph.importer import OWN

MAXIMUM, MINIMUM = f"{OWN}maximum", f"{OWN}minimum"
_COMPARISONS = {MAXIMUM: relax.op.maximum, MINIMUM: relax.op.minimum}
_NONE = {MAXIMUM: -math.inf, MINIMUM: math.inf}
"""Bounds that bound nothing."""


def name_clips(graph: Graph) -> Graph:
    """Rewrite comparisons with constants as the activations that they are; return the graph.

    Others become operators of Relax, those with nothing are dropped.
    """
    relus: dict[str, Node] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        arrays = [graph.constant(name) for name in node.inputs]
        value = _known(node.attrs["kind"], arrays)
        if value is not None:
            graph.constants[node.output] = value
            continue
        kept.append(node)
        kind = node.attrs["kind"]
        if kind not in _COMPARISONS or len(node.inputs) != 2:
            continue
        bound, floats = _bound(arrays[1]), graph.values[node.output].dtype == "float32"
        relu = relus.get(node.inputs[0])
        if bound == _NONE[kind]:
            kept.remove(node)
            graph.rename(node.output, node.inputs[0])
        elif floats and (kind, bound) == (MAXIMUM, 0.0):
            node.inputs, node.attrs["kind"] = node.inputs[:1], "nn.relu"
            relus[node.output] = node
        elif (kind, bound) == (MINIMUM, 6.0) and relu and _alone(graph, relu.output):
            kept.remove(relu)
            node.inputs, node.attrs["kind"] = relu.inputs, "relu6"
        else:
            tensors = node.attrs["call"].args[1].fields
            node.attrs = {"kind": kind.removeprefix(OWN), "call": _COMPARISONS[kind](*tensors)}
    graph.nodes = kept
    return graph


def _known(kind: str, arrays: list[Any]) -> Any:
    """Return what can be computed now: the questions whether a bound is NaN."""
    if any(a is None for a in arrays):
        return None
    if kind == "isnan":
        return np.isnan(arrays[0])
    return np.where(*arrays) if kind == "where" else None


def _bound(array: Any) -> float | None:
    """Return the one number that a constant holds; None: it is no constant, or holds others."""
    return None if array is None or array.size != 1 else float(array.reshape(()))


def _alone(graph: Graph, name: str) -> bool:
    """Whether one operator reads a value, and nobody outside."""
    return sum(name in node.inputs for node in graph.nodes) == 1 and name not in graph.outputs
