"""Weights and multiply-accumulates of an ONNX file, float or quantized (QDQ or QOperator)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.core.errors import StepError
from dlas.core.protocols import DataSpec
from dlas.networks.counting import LayerMacs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

    Stored = NDArray[np.generic]

# Where an operator's left and right operand stand among its inputs; the right one is the weight.
_PRODUCTS = {
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
}
_UNCOUNTED = {"Einsum", "LSTM", "GRU", "RNN", "Attention", "DeformConv", "If", "Loop", "Scan"}
# Operators that hand a weight on: what comes out has the same elements.
_PASSING = {"Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Cast"}


@dataclass(frozen=True, slots=True)
class _Weight:
    name: str
    elements: int
    nonzero: int


class OnnxWeights:
    """The weights of an ONNX file and the products that use them.

    A weight is a tensor of numbers stored in the file that has at least one dimension and is no
    scale, no zero point and no shape: floats, and integers that are dequantized.
    """

    def __init__(self, path: Path, spec: DataSpec) -> None:
        import onnx

        model = onnx.load(path)
        self._shapes = _infer_shapes(model, spec)
        self._nodes = list(model.graph.node)
        self._made_by = {name: node for node in self._nodes for name in node.output}
        self._stored = _stored_tensors(model.graph)
        self._minor = _scales_and_zero_points(self._nodes)
        self._weights = self._find_weights()
        self.uncounted: tuple[str, ...] = tuple(
            sorted({n.op_type for n in self._nodes if _is_uncounted(n)})
        )

    @property
    def params(self) -> int:
        """Elements of all weights."""
        return sum(weight.elements for weight in self._weights.values())

    @property
    def nonzero(self) -> int:
        """Elements of all weights that are not zero (for integers: not their zero point)."""
        return sum(weight.nonzero for weight in self._weights.values())

    @property
    def stored_bytes(self) -> int:
        """Bytes of the weights as they are stored, with their scales and zero points."""
        names = {*self._weights, *self._minor}
        return sum(self._stored[name].nbytes for name in names if name in self._stored)

    def layers(self) -> tuple[LayerMacs, ...]:
        """Return the multiply-accumulates of every product, in the order of the graph."""
        return tuple(self._layer(node) for node in self._nodes if node.op_type in _PRODUCTS)

    def _layer(self, node: NodeProto) -> LayerMacs:
        left, right = (node.input[place] for place in _PRODUCTS[node.op_type])
        weight = self._weight_of(right)
        if weight is None:
            weight = self._weight_of(left)
        macs = self._macs(node, left, right)
        if weight is None:
            return LayerMacs(node.name, node.op_type, macs, macs)
        effective = macs * weight.nonzero // weight.elements
        name = weight.name.removesuffix("_quantized").removesuffix(".weight")
        return LayerMacs(name, node.op_type, macs, effective, weight.elements, weight.nonzero)

    def _macs(self, node: NodeProto, left: str, right: str) -> int:
        out = math.prod(self._shape(node, node.output[0]))
        if node.op_type == "ConvTranspose":
            kernel = self._shape(node, right)
            return math.prod(self._shape(node, left)) * math.prod(kernel[1:])
        if "Conv" in node.op_type:
            return out * math.prod(self._shape(node, right)[1:])
        shape = self._shape(node, left)
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return out * shape[-2 if transposed else -1]

    def _shape(self, node: NodeProto, name: str) -> tuple[int, ...]:
        shape = self._stored[name].shape if name in self._stored else self._shapes.get(name)
        if shape is None:
            raise StepError(
                f"the shape of {name} at {node.op_type} {node.name!r} cannot be inferred, so its "
                "multiply-accumulates cannot be counted"
            )
        return tuple(shape)

    def _weight_of(self, name: str) -> _Weight | None:
        """Return the weight that a value is, looking through operators that only hand it on."""
        while name not in self._weights:
            node = self._made_by.get(name)
            passing = node is not None and (
                node.op_type in _PASSING or node.op_type == "DequantizeLinear"
            )
            if node is None or not passing:
                return None
            name = node.input[0]
        return self._weights[name]

    def _find_weights(self) -> dict[str, _Weight]:
        import numpy as np

        zero_points = {
            node.input[0]: _along_axis(self._stored[node.input[2]], node, self._stored)
            for node in self._nodes
            if node.op_type == "DequantizeLinear" and len(node.input) > 2
            if node.input[0] in self._stored and node.input[2] in self._stored
        }
        dequantized = {n.input[0] for n in self._nodes if n.op_type == "DequantizeLinear"}
        weights = {}
        for name, values in self._stored.items():
            floating = np.issubdtype(values.dtype, np.floating) or values.dtype.name == "bfloat16"
            integer = name in dequantized or self._feeds_integer_product(name)
            if not values.ndim or name in self._minor or not (floating or integer):
                continue
            zero = zero_points.get(name, np.zeros((), values.dtype))
            weights[name] = _Weight(name, values.size, int(np.count_nonzero(values != zero)))
        return weights

    def _feeds_integer_product(self, name: str) -> bool:
        kinds = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
        return any(
            node.op_type in kinds and node.input[_PRODUCTS[node.op_type][1]] == name
            for node in self._nodes
        )


def _along_axis(zero: Stored, dequantize: NodeProto, stored: Mapping[str, Stored]) -> Stored:
    """Shape a zero point per channel so that it lies along its axis of the weight."""
    if zero.size == 1:
        return zero.reshape(())
    axis = next((a.i for a in dequantize.attribute if a.name == "axis"), 1)
    rank = stored[dequantize.input[0]].ndim
    return zero.reshape([-1 if at == axis % rank else 1 for at in range(rank)])


def _stored_tensors(graph: GraphProto) -> dict[str, Stored]:
    from onnx import numpy_helper

    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    stored[node.output[0]] = numpy_helper.to_array(attribute.t)
    return stored


def _scales_and_zero_points(nodes: list[NodeProto]) -> set[str]:
    minor: set[str] = set()
    for node in nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            minor.update(node.input[1:])
        elif node.op_type in ("QLinearConv", "QLinearMatMul"):
            minor.update(node.input[at] for at in (1, 2, 4, 5, 6, 7))
        elif node.op_type in ("ConvInteger", "MatMulInteger"):
            minor.update(node.input[2:])
    return minor


def _is_uncounted(node: NodeProto) -> bool:
    foreign = node.domain not in ("", "ai.onnx") and node.op_type not in (
        "QuantizeLinear",
        "DequantizeLinear",
    )
    return foreign or node.op_type in _UNCOUNTED


def _infer_shapes(model: ModelProto, spec: DataSpec) -> dict[str, tuple[int, ...]]:
    """Return every value's shape for one inference of the problem's batch."""
    import onnx

    stored = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in stored:
            for dim, size in zip(value.type.tensor_type.shape.dim, spec.shape, strict=False):
                dim.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes
