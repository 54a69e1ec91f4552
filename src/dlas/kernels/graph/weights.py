"""The weights of an operator: as they came, as kernels take them, and what of them is zero."""

import numpy as np

from dlas.kernels.code.numbers import INT8, left_out
from dlas.kernels.graph.graph import Node
from dlas.kernels.ground.layout import AnyArray


def whole(node: Node) -> AnyArray:
    """Return the weights as they came."""
    weight: AnyArray = node.attrs.get("whole", node.attrs["weight"])
    return weight


def zeros(node: Node) -> float:
    """Return the share of zeros in the weights, those among them that meet only padding."""
    weight = whole(node)
    return float(1 - np.count_nonzero(weight) / weight.size)


def skippable(node: Node) -> tuple[float, str]:
    """Return the share of what CSR weights leave out, and what that is.

    In int8 that are fours of input channels without any number but zero.
    """
    weight = node.attrs["weight"]
    if node.dtype != INT8.name or node.op == "linear":
        return float(1 - np.count_nonzero(weight) / weight.size), "zeros"
    share = left_out(node.attrs["conv"], weight, node.dtype)
    return share, f"zero groups of {INT8.group} channels"


def fitted(node: Node) -> tuple[AnyArray, AnyArray | None]:
    """Return the weights and the bias as kernels take them."""
    weight, bias = node.attrs["weight"], node.attrs["bias"]
    if "quantization" in node.attrs:
        return np.ascontiguousarray(weight), bias
    weight = np.ascontiguousarray(weight, np.float32)
    return weight, None if bias is None else np.ascontiguousarray(bias, np.float32)
