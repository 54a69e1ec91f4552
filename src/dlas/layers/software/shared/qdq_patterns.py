"""What of a quantized ONNX model PyTorch computes in eight bits, and as which operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlas.layers.software.shared.qdq_parts import (
    ADD,
    CONCAT,
    CONV,
    LINEAR,
    Meaning,
    QdqReading,
    attributes,
)

if TYPE_CHECKING:
    from onnx import NodeProto

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity")
CUT = ("Conv", "Gemm", "MatMul", "Add")
"""Operators whose outcome can be cut by a Relu or Clip before it is quantized."""


def narrow(known: QdqReading, node: NodeProto, becomes: Meaning) -> bool:
    """Whether an operator whose outcome is quantized is there in eight bits."""
    match = _MATCH.get(node.op_type)
    return match is not None and match(known, node, becomes)


def add_narrow(known: QdqReading, node: NodeProto, output: str, attrs: Mapping[str, Any]) -> None:
    """Add such an operator in eight bits; ``attrs``: what its outcome means, whether it is cut."""
    _MAKE[node.op_type](known, node, output, attrs)


# ---------------------------------------------------------------- what matches


def _is_conv(known: QdqReading, node: NodeProto, becomes: Meaning) -> bool:
    """Two dimensions, padded alike on both sides, weights of int8, a bias that is a constant."""
    weight, attrs = known.kept.get(node.input[1]), attributes(node)
    return (
        node.input[0] in known.quantized
        and weight is not None
        and weight.numbers.ndim == 4
        and weight.along(0)
        and _evenly_padded(attrs)
        and _bias_is_known(known, node, weight.numbers.shape[0])
    )


def _evenly_padded(attrs: Mapping[str, Any]) -> bool:
    pads = attrs.get("pads", [0, 0, 0, 0])
    half = len(pads) // 2
    return attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") and pads[:half] == pads[half:]


def _is_linear(known: QdqReading, node: NodeProto, becomes: Meaning) -> bool:
    """A product with a matrix of int8 weights, a scale for each of its outputs or one."""
    weight, attrs = known.kept.get(node.input[1]), attributes(node)
    plain = attrs.get("alpha", 1.0), attrs.get("beta", 1.0), attrs.get("transA", 0)
    rows = 0 if attrs.get("transB") else 1
    return (
        node.input[0] in known.quantized
        and plain == (1.0, 1.0, 0)
        and weight is not None
        and weight.numbers.ndim == 2
        and weight.along(rows)
        and _bias_is_known(known, node, weight.numbers.shape[rows])
    )


def _bias_is_known(known: QdqReading, node: NodeProto, outputs: int) -> bool:
    if len(node.input) < 3 or not node.input[2]:
        return True
    value = known.value(node.input[2])
    return value is not None and value.size == outputs


def _is_add(known: QdqReading, node: NodeProto, becomes: Meaning) -> bool:
    """A sum of eight bits and eight bits, one of which may be a constant."""
    read = [name in known.quantized for name in node.input]
    kept = [name in known.kept and known.kept[name].one_scale for name in node.input]
    return any(read) and all(a or b for a, b in zip(read, kept, strict=True))


def _is_concat(known: QdqReading, node: NodeProto, becomes: Meaning) -> bool:
    return all(name in known.quantized for name in node.input)


def _keeps_meaning(known: QdqReading, node: NodeProto, becomes: Meaning) -> bool:
    """Whether an operator moves numbers that mean the same before and after it."""
    found = known.quantized.get(node.input[0])
    return found is not None and found[1] == becomes


def _is_pool(known: QdqReading, node: NodeProto, becomes: Meaning) -> bool:
    attrs = attributes(node)
    plain = _evenly_padded(attrs) and len(attrs["kernel_shape"]) == 2 and len(node.output) == 1
    return plain and _keeps_meaning(known, node, becomes)


# ---------------------------------------------------------------- what it becomes


def _conv(known: QdqReading, node: NodeProto, output: str, attrs: Mapping[str, Any]) -> None:
    _weighted(known, node, output, CONV, {**attributes(node), **attrs})


def _linear(known: QdqReading, node: NodeProto, output: str, attrs: Mapping[str, Any]) -> None:
    _weighted(known, node, output, LINEAR, attrs, turned=not attributes(node).get("transB"))


def _weighted(
    known: QdqReading, node: NodeProto, output: str, op: str, attrs: Mapping[str, Any],
    turned: bool = False,
) -> None:  # fmt: skip
    """Add a product with weights: numbers (outputs first), scales for each output, float bias."""
    kept, name = known.kept[node.input[1]], node.input[1]
    numbers = np.ascontiguousarray(kept.numbers.T if turned else kept.numbers)
    scales = np.broadcast_to(kept.scale.astype(np.float64).reshape(-1), (len(numbers),))
    parts = {f"{name}, numbers": numbers, f"{name}, scales": scales.copy()}
    if len(node.input) > 2 and node.input[2]:
        bias = known.value(node.input[2])
        assert bias is not None  # it is matched
        parts[f"{node.input[2]}, bias"] = bias.astype(np.float32).reshape(-1)
    known.constants.update(parts)
    numbers_read, meaning = known.quantized[node.input[0]]
    known.add(op, [numbers_read, *parts], output, {**attrs, "read": [meaning.attrs()]})


def _several(op: str) -> Callable[[QdqReading, NodeProto, str, Mapping[str, Any]], None]:
    """Return what adds an operation on several values in eight bits."""

    def make(known: QdqReading, node: NodeProto, output: str, attrs: Mapping[str, Any]) -> None:
        parts = [known.numbers(name) for name in node.input]
        read = [meaning.attrs() for _, meaning in parts]
        names = [name for name, _ in parts]
        known.add(op, names, output, {**attributes(node), **attrs, "read": read})

    return make


def _moved(known: QdqReading, node: NodeProto, output: str, attrs: Mapping[str, Any]) -> None:
    """Add an operator that moves numbers: it is the same in eight bits."""
    known.add(
        node.op_type,
        [known.quantized[node.input[0]][0], *node.input[1:]],
        output,
        attributes(node),
    )


_MATCH: Mapping[str, Callable[[QdqReading, NodeProto, Meaning], bool]] = {
    "Conv": _is_conv,
    "Gemm": _is_linear,
    "MatMul": _is_linear,
    "Add": _is_add,
    "Concat": _is_concat,
    "MaxPool": _is_pool,
    **dict.fromkeys(VIEWS, _keeps_meaning),
}
_MAKE: Mapping[str, Callable[[QdqReading, NodeProto, str, Mapping[str, Any]], None]] = {
    "Conv": _conv,
    "Gemm": _linear,
    "MatMul": _linear,
    "Add": _several(ADD),
    "Concat": _several(CONCAT),
    "MaxPool": _moved,
    **dict.fromkeys(VIEWS, _moved),
}
