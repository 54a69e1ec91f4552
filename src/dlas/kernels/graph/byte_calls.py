"""The calls of operators between quantized tensors that are no products."""

from dlas.kernels.graph.arrange import image_shape
from dlas.kernels.graph.call_list import Call, CallList
from dlas.kernels.graph.graph import Node
from dlas.kernels.operators.byte_average import ByteAverage
from dlas.kernels.operators.byte_mean import ByteMean
from dlas.kernels.operators.pointwise import Lookup, Pointwise
from dlas.kernels.operators.quantized import Dequantize, Quantize, QuantizedAdd, plain


class ByteCalls(CallList):
    """Writes the calls of operators that read or write bytes."""

    def _sum(self, node: Node) -> None:
        (a, first), (b, second) = self._inputs(node)
        goal, out = self._write(node.output)
        nchw = image_shape(self.graph.values[node.output].shape)
        kernel = QuantizedAdd(nchw, (first, second), out, self.schedule)
        constants = kernel.constants(node.attrs["sum"], node.attrs.get("clip"))
        record = {"dtype": "int8"}
        self._add(Call(node.name, "add", kernel, [a, b], constants, [goal], record))

    def _quantize(self, node: Node) -> None:
        self._scale(node, Quantize)

    def _dequantize(self, node: Node) -> None:
        self._scale(node, Dequantize)

    def _scale(self, node: Node, make: type[Quantize] | type[Dequantize]) -> None:
        ((source, layout),) = self._inputs(node)
        goal, out = self._write(node.output)
        nchw = image_shape(self.graph.values[node.output].shape)
        kernel = make(nchw, layout, out, self.schedule)
        constants = kernel.constants(node.attrs["scale"])
        self._add(Call(node.name, node.op, kernel, [source], constants, [goal]))

    def _lookup(self, node: Node) -> None:
        ((source, layout),) = self._inputs(node)
        goal, out = self._write(node.output)
        nchw = image_shape(self.graph.values[node.output].shape)
        kernel, table = Lookup(nchw, layout, out, self.target, self.threads), node.attrs["table"]
        record = {"formula": table.name}
        constants = kernel.constants(table)
        self._add(Call(node.name, "lookup", kernel, [source], constants, [goal], record))

    def _pointwise(self, node: Node) -> None:
        inputs = self._inputs(node)
        goal, out = self._write(node.output)
        values, shape = self.graph.values, self.graph.values[node.output].shape
        kinds = tuple(values[name].dtype for name in (*node.inputs, node.output))
        whole = tuple(values[name].shape == shape for name in node.inputs)
        expression, scales, to = (node.attrs[a] for a in ("expression", "scales", "scale"))
        kernel = Pointwise(
            image_shape(shape), tuple(layout for _, layout in inputs), kinds, whole, expression,
            out, plain((*scales, to)), self.target, self.threads,
        )  # fmt: skip
        record = {"formula": expression.text()}
        constants, names = kernel.constants(scales, to), [name for name, _ in inputs]
        self._add(Call(node.name, "pointwise", kernel, names, constants, [goal], record))

    def _byte_mean(self, node: Node) -> None:
        ((source, layout),) = self._inputs(node)
        goal, out = self._write(node.output)
        value, expression = self.graph.values[node.output], node.attrs["expression"]
        nchw = image_shape(self.graph.values[node.inputs[0]].shape)
        kernel = ByteMean(nchw, layout, out, expression, value.dtype, self.target, self.threads)
        record = {"formula": f"mean({expression.text()})"}
        (scale,) = node.attrs["scales"]
        constants = kernel.constants(scale, node.attrs["scale"])
        self._add(Call(node.name, "global_pool", kernel, [source], constants, [goal], record))

    def _byte_average(self, node: Node) -> None:
        ((source, layout),) = self._inputs(node)
        goal, out = self._write(node.output)
        a = node.attrs
        nchw, size = (
            image_shape(self.graph.values[name].shape) for name in (*node.inputs, node.output)
        )
        kernel = ByteAverage(
            nchw, size[2:], a["kernel"], a["stride"], a["padding"], a["count_padding"], layout,
            out, self.threads,
        )  # fmt: skip
        summed = "int32" if kernel.whole else "float32"
        record = {"types": {"input": "uint8", "accumulate": summed, "output": "uint8"}}
        constants = kernel.constants(*a["scales"])
        self._add(Call(node.name, "avg_pool", kernel, [source], constants, [goal], record))
