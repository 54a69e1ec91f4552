"""Weights and multiply-accumulates of an ONNX file, float or quantized (QDQ or QOperator)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.core.protocols import DataSpec
from dlas.networks.counting import LayerMacs
from dlas.networks.onnx_file import QUANTIZES, in_order
from dlas.networks.onnx_operators import PASSING, is_uncounted, operand, product
from dlas.networks.onnx_shapes import KnownShapes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto, TensorProto

    Stored = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class _Weight:
    name: str
    elements: int
    nonzero: int


class OnnxWeights:
    """The weights of an ONNX file and the products that use them.

    A weight is a tensor of numbers stored in the file that has at least one dimension and is no
    scale, no zero point and no shape: floats, and integers that are dequantized or that a
    quantized operator multiplies by or adds. Nothing here is a condition for running: what cannot
    be counted is named in ``uncounted``.
    """

    def __init__(self, path: Path, spec: DataSpec) -> None:
        import onnx

        model = in_order(onnx.load(path))
        self._nodes = list(model.graph.node)
        self._made_by = {name: node for node in self._nodes for name in node.output}
        tensors = _stored_tensors(model.graph)
        self._bits = {name: _bits(tensor) for name, tensor in tensors.items()}
        self._stored = {name: _values(tensor) for name, tensor in tensors.items()}
        self._minor = set(self._scales_and_zero_points())
        self._weights = self._find_weights()
        products = [node for node in self._nodes if product(node) is not None]
        self._shapes = KnownShapes(model, spec, _needed(products))
        self.layers: tuple[LayerMacs, ...] = tuple(
            layer for node in products if (layer := self._layer(node)) is not None
        )
        """The multiply-accumulates of every product that is counted, in the order of the graph."""
        unknown = (f"{n.op_type} {n.name!r}" for n in products if self._macs(n) is None)
        self.uncounted: tuple[str, ...] = (
            *sorted({_foreign_name(n) for n in self._nodes if is_uncounted(n)}),
            *(f"{name}: nothing states its shape" for name in unknown),
        )
        """Operators that multiply, or may, in a way that is not counted."""

    @property
    def params(self) -> int:
        """Elements of all weights."""
        return sum(weight.elements for weight in self._weights.values())

    @property
    def nonzero(self) -> int:
        """Elements of all weights that are not zero (for integers: not their zero point)."""
        return sum(weight.nonzero for weight in self._weights.values())

    def stored_bytes(self, at_most: int = 8) -> int:
        """Return the bytes of the weights as they are stored, with their scales and zero points.

        Of a floating-point element at most ``at_most`` bytes count: a float16 network may come as
        float32 tensors whose values were rounded.
        """
        bits = 0
        for name in sorted({*self._weights, *self._minor}):
            if name in self._bits:
                size, floating = self._bits[name]
                bits += self._elements(name) * (min(size, 8 * at_most) if floating else size)
        return -(-bits // 8)

    def _elements(self, name: str) -> int:
        return self._weights[name].elements if name in self._weights else self._stored[name].size

    # ------------------------------------------------------------ products

    def _layer(self, node: NodeProto) -> LayerMacs | None:
        place, macs = product(node), self._macs(node)
        if place is None or macs is None:
            return None
        weight = self._weight_of(operand(node, place.right))
        if weight is None:
            weight = self._weight_of(operand(node, place.left))
        if weight is None:
            return LayerMacs(node.name, node.op_type, macs, macs)
        effective = macs * weight.nonzero // max(weight.elements, 1)
        name = weight.name.removesuffix("_quantized").removesuffix(".weight")
        return LayerMacs(name, node.op_type, macs, effective, weight.elements, weight.nonzero)

    def _macs(self, node: NodeProto) -> int | None:
        """Return the multiply-accumulates of a product, None: its shape is not known."""
        place = product(node)
        assert place is not None
        left, right = (
            self._shape(operand(node, place.left)),
            self._shape(operand(node, place.right)),
        )
        if node.op_type == "ConvTranspose":
            known = left is not None and right is not None
            return math.prod(left) * math.prod(right[1:]) if known else None  # type: ignore[index,arg-type]
        shape = self._shape(node.output[0])
        if shape is None:
            return None
        if "Conv" in node.op_type:
            return None if right is None else math.prod(shape) * math.prod(right[1:])
        if right is not None:
            return math.prod(shape) * _depth(right, node, "transB", -2)
        return None if left is None else math.prod(shape) * _depth(left, node, "transA", -1)

    def _shape(self, name: str) -> tuple[int, ...] | None:
        if name in self._stored:
            return tuple(self._stored[name].shape)
        return self._shapes.of(name)

    # ------------------------------------------------------------ weights

    def _weight_of(self, name: str) -> _Weight | None:
        """Return the weight that a value is, looking through operators that only hand it on."""
        while name not in self._weights:
            node = self._made_by.get(name)
            if node is None or node.op_type not in (*PASSING, *QUANTIZES):
                return None
            name = node.input[0]
        return self._weights[name]

    def _find_weights(self) -> dict[str, _Weight]:
        import numpy as np

        zeros = dict(self._zero_points())
        integers = set(self._integers())
        settings = {
            name
            for n in self._nodes
            if n.op_type in ("Resize", "Upsample")
            for name in n.input[1:]
        }
        weights = {}
        for name, values in self._stored.items():
            if not values.ndim or name in self._minor or name in settings:
                continue
            if not (self._bits[name][1] or name in integers):
                continue
            zero = zeros.get(name, np.zeros((), values.dtype))
            weights[name] = _Weight(name, values.size, int(np.count_nonzero(values != zero)))
        return weights

    def _integers(self) -> Iterator[str]:
        """Yield the names of integers that are dequantized, or an integer product's operand."""
        for node in self._nodes:
            place = product(node)
            if node.op_type == "DequantizeLinear":
                yield node.input[0]
            elif place is not None and place.integer:
                yield from (operand(node, at) for at in (place.left, place.right, place.bias))

    def _zero_points(self) -> Iterator[tuple[str, Stored]]:
        """Yield stored weights with their zero points, shaped to lie along their axis."""
        for node in self._nodes:
            place = product(node)
            if node.op_type == "DequantizeLinear":
                name, zero = node.input[0], operand(node, 2)
                axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            elif place is not None and place.zero is not None:
                name, zero = operand(node, place.right), operand(node, place.zero)
                axis = 0 if "Conv" in node.op_type else -1
            else:
                continue
            if name in self._stored and zero in self._stored:
                yield name, _along(self._stored[zero], self._stored[name].shape, axis)

    def _scales_and_zero_points(self) -> Iterator[str]:
        dynamic = {n.output[1] for n in self._nodes if n.op_type == "DynamicQuantizeLinear"}
        for node in self._nodes:
            place = product(node)
            if node.op_type in QUANTIZES:
                yield from node.input[1:]
            elif place is not None:
                yield from (operand(node, at) for at in place.minor)
            elif node.op_type == "Mul" and dynamic.intersection(node.input):
                yield from node.input  # the scale of what was quantized as it came, and a weight's


def _along(zero: Stored, shape: tuple[int, ...], axis: int) -> Stored:
    """Shape a zero point per channel so that it lies along its axis of the weight."""
    if zero.size == 1 or not shape:
        return zero.reshape(-1)[:1].reshape(())
    axis %= len(shape)
    if shape[axis] != zero.size:  # a transposed weight has its channels first
        axis = next((at for at, size in enumerate(shape) if size == zero.size), axis)
    return zero.reshape([-1 if at == axis else 1 for at in range(len(shape))])


def _depth(shape: tuple[int, ...], node: NodeProto, flag: str, usual: int) -> int:
    """Return the length that a matrix product sums over, from one operand's shape."""
    if len(shape) == 1:
        return shape[0]
    turned = any(a.name == flag and a.i for a in node.attribute)
    return shape[-3 - usual if turned else usual]


def _needed(products: Iterable[NodeProto]) -> set[str]:
    """Return the names of the values whose shapes tell the multiply-accumulates."""
    names: set[str] = set()
    for node in products:
        place = product(node)
        if place is not None:
            names |= {node.output[0], operand(node, place.left), operand(node, place.right)}
    return names - {""}


def _foreign_name(node: NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def _stored_tensors(graph: GraphProto) -> Mapping[str, TensorProto]:
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    stored[node.output[0]] = attribute.t
    return stored


def _bits(tensor: TensorProto) -> tuple[int, bool]:
    """Return the bits of one stored element, and whether it is a floating-point number."""
    from onnx import TensorProto

    name = TensorProto.DataType.Name(tensor.data_type)
    floating = "FLOAT" in name or name == "DOUBLE"
    if name in ("FLOAT", "DOUBLE"):
        return (64 if name == "DOUBLE" else 32), True
    digits = "".join(c for c in name.partition("E")[0] if c.isdigit())
    return int(digits or 8), floating


def _values(tensor: TensorProto) -> Stored:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)
