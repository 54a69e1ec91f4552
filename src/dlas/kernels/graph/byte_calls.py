"""The calls of operators between quantized tensors that are no products."""

from dlas.kernels.graph.arrange import image_shape
from dlas.kernels.graph.call_list import Call, CallList
from dlas.kernels.graph.graph import Node
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
        record = {"formula": table.name, "types": self._types(node)}
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
        record = {"formula": expression.text(), "types": self._types(node)}
        constants, names = kernel.constants(scales, to), [name for name, _ in inputs]
        self._add(Call(node.name, "pointwise", kernel, names, constants, [goal], record))

    def _byte_mean(self, node: Node) -> None:
        ((source, layout),) = self._inputs(node)
        goal, out = self._write(node.output)
        value, expression = self.graph.values[node.output], node.attrs["expression"]
        nchw = image_shape(self.graph.values[node.inputs[0]].shape)
        kernel = ByteMean(nchw, layout, out, expression, value.dtype, self.target, self.threads)
        record = {"formula": f"mean({expression.text()})", "types": self._types(node)}
        (scale,) = node.attrs["scales"]
        constants = kernel.constants(scale, node.attrs["scale"])
        self._add(Call(node.name, "global_pool", kernel, [source], constants, [goal], record))

    def _types(self, node: Node) -> dict[str, str]:
        """Return what an operator that computes in float32 reads and writes."""
        read = {self.graph.values[name].dtype: None for name in node.inputs}
        written = self.graph.values[node.output].dtype
        return {"input": "+".join(read), "accumulate": "float32", "output": written}
