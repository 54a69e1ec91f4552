"""From a simplified graph to a list of kernel calls on named buffers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.numbers import FLOAT32
from dlas.kernels.convolution import primitives
from dlas.kernels.convolution.contract import Request
from dlas.kernels.convolution.linear_csr import LinearCsr
from dlas.kernels.convolution.matrix import dense_linear, linear_op
from dlas.kernels.convolution.spatial_pack import SpatialPack
from dlas.kernels.graph.arrange import image_shape
from dlas.kernels.graph.byte_calls import ByteCalls
from dlas.kernels.graph.call_list import Buffer, Call
from dlas.kernels.graph.choose import Chosen
from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.graph.weights import fitted, skippable, whole, zeros
from dlas.kernels.ground.layout import NCHW, Layout
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget
from dlas.kernels.operators import attention, matmul
from dlas.kernels.operators.fallback import fallback
from dlas.kernels.operators.image import Concat, Elementwise, GlobalPool, WindowPool
from dlas.kernels.operators.quantized import numbers_of, plain
from dlas.kernels.operators.tile_pool import TilePool
from dlas.kernels.operators.tokens import LayerNorm, Softmax


class Calls(ByteCalls):
    """Writes the calls of a graph, in order."""

    def __init__(
        self, graph: Graph, choices: dict[str, Chosen], target: CpuTarget, threads: int
    ) -> None:
        super().__init__(graph, choices, target, threads)
        for name in graph.inputs:
            self._buffer(name, NCHW)
        for node in graph.nodes:
            getattr(self, f"_{node.op}")(node)
        self.outputs = [self._read(name, NCHW) for name in graph.outputs]

    def _conv2d(self, node: Node) -> None:
        op, choice = node.attrs["conv"], self.choices[node.name]
        inputs = self._inputs(node)
        goal, out = self._write(node.output)
        residual = inputs[1][1] if len(inputs) > 1 else None
        scales = node.attrs.get("quantization")
        more = (_epilogue(node, residual), choice.knobs, self._images(node))
        request = Request(self.target, self.threads, inputs[0][1], out, *more)
        kernel = primitives.find(choice.primitive, choice.weights, node.dtype).lower(op, request)
        constants = primitives.constants(kernel, *fitted(node), scales)
        schedule = kernel.describe()
        record = {
            "dtype": _dtype(kernel),
            "types": primitives.types_of(kernel)._asdict(),
            "asked": choice.asked,
            "asked_weights": choice.asked_weights,
            "primitive": choice.primitive,
            "fallback_reason": choice.reason,
            "weights": choice.weights,
            "filter": list(op.kernel),
            "filter_given": list(whole(node).shape[2:]),
            "zeros": zeros(node),
            "skippable": skippable(node)[0],
            "weight_count": int(whole(node).size),
            "input_layout": inputs[0][1].text(),
            "output_layout": out.text(),
            "multiplications": primitives.multiplications(
                op, schedule, choice.weights, node.attrs["weight"]
            ),
            "dense_multiplications": op.multiplications,
            "activation": _activation(node),
            "residual": residual is not None,
            "schedule": schedule,
            "tuning": choice.tuning,
            "measured": choice.measured,
        }
        names = [name for name, _ in inputs]
        self._add(Call(node.name, "conv2d", kernel, names, list(constants), [goal], record))

    def _linear(self, node: Node) -> None:
        weight, bias = fitted(node)
        wide_out, wide_in = weight.shape
        op = as_conv2d(self.graph, node)
        inputs = self._inputs(node)
        goal, _ = self._write(node.output)
        residual, activation = len(inputs) > 1, node.attrs["activation"]
        choice, scales = self.choices[node.name], node.attrs.get("quantization")
        kernel: LinearCsr | SpatialPack
        if choice.weights == "csr":
            kernel = LinearCsr(
                op.width, wide_in, wide_out, self.target, self.threads, activation, residual
            )
        else:
            epilogue = _epilogue(node, Layout(wide_out) if residual else None)
            kernel = dense_linear(
                op, self.target, self.threads, epilogue, choice.knobs, node.dtype
            )
            weight = weight.reshape(wide_out, wide_in, 1, 1)
        constants = primitives.constants(kernel, weight, bias, scales)
        schedule = kernel.describe()
        record = {
            "dtype": _dtype(kernel),
            "types": primitives.types_of(kernel)._asdict(),
            "asked_weights": choice.asked_weights,
            "weights": choice.weights,
            "zeros": zeros(node),
            "weight_count": int(whole(node).size),
            "fallback_reason": choice.reason,
            "multiplications": primitives.multiplications(op, schedule, choice.weights, weight),
            "dense_multiplications": op.multiplications,
            "activation": _activation(node),
            "residual": residual,
            "schedule": schedule,
            "tuning": choice.tuning,
        }
        names = [name for name, _ in inputs]
        self._add(Call(node.name, "linear", kernel, names, list(constants), [goal], record))

    def _affine(self, node: Node) -> None:
        ((source, layout),) = self._inputs(node)
        goal, out = self._write(node.output)
        nchw = image_shape(self.graph.values[node.output].shape)
        kernel = Elementwise(
            "affine", nchw, (layout,), out, node.attrs["activation"], self.schedule,
            images=self._images(node),
        )  # fmt: skip
        constants = list(kernel.constants(node.attrs["scale"], node.attrs["shift"]))
        self._add(Call(node.name, "affine", kernel, [source], constants, [goal]))

    def _unary(self, node: Node) -> None:
        self._elementwise(node, "unary")

    def _binary(self, node: Node) -> None:
        if "sum" in node.attrs:
            self._sum(node)
        else:
            self._elementwise(node, node.attrs["kind"])

    def _elementwise(self, node: Node, kind: str) -> None:
        inputs = self._inputs(node)
        goal, out = self._write(node.output)
        shape = self.graph.values[node.output].shape
        per_channel = self.graph.values[node.inputs[-1]].shape != shape
        layouts = tuple(layout for _, layout in inputs)
        kernel = Elementwise(
            kind, image_shape(shape), layouts, out, node.attrs["activation"], self.schedule,
            per_channel, self._images(node),
        )  # fmt: skip
        self._add(Call(node.name, kind, kernel, [n for n, _ in inputs], [], [goal]))

    def _pool(self, node: Node) -> None:
        if "scales" in node.attrs:
            self._byte_average(node)
            return
        ((source, layout),) = self._inputs(node)
        goal, out = self._write(node.output)
        a, value = node.attrs, self.graph.values[node.output]
        nchw = image_shape(self.graph.values[node.inputs[0]].shape)
        size = image_shape(value.shape)[2:]
        pool = WindowPool(
            a["kind"], nchw, size, a["kernel"], a["stride"], a["padding"], a["dilation"],
            a["count_padding"], layout, out, self.schedule, value.dtype, value.zero,
            self._images(node).x,
        )  # fmt: skip
        kernel = TilePool(pool) if layout.tiling else pool
        self._add(Call(node.name, f"{a['kind']}_pool", kernel, [source], [], [goal]))

    def _global_pool(self, node: Node) -> None:
        if "expression" in node.attrs:
            self._byte_mean(node)
            return
        ((source, layout),) = self._inputs(node)
        goal, out = self._write(node.output)
        nchw = image_shape(self.graph.values[node.inputs[0]].shape)
        kernel = GlobalPool(nchw, layout, out, self.threads, self._images(node))
        self._add(Call(node.name, "global_pool", kernel, [source], [], [goal]))

    def _concat(self, node: Node) -> None:
        inputs = self._inputs(node)
        goal, out = self._write(node.output)
        if self.layouts.sliced(node):
            self._fill(node, inputs, goal, out)
            return
        n, _, h, w = image_shape(self.graph.values[node.output].shape)
        channels = tuple(self.graph.values[name].shape[1] for name in node.inputs)
        layouts = tuple(layout for _, layout in inputs)
        kernel = Concat(channels, (n, h, w), layouts, out, self.schedule)
        self._add(Call(node.name, "concat", kernel, [n for n, _ in inputs], [], [goal]))

    def _fill(self, node: Node, inputs: list[tuple[str, Layout]], goal: str, out: Layout) -> None:
        """Copy those parts of a concatenation into place that were not written there."""
        start = 0
        for name, (source, layout) in zip(node.inputs, inputs, strict=True):
            nchw = image_shape(self.graph.values[name].shape)
            shape = out.shape(nchw)
            size = self._itemsize(name) * math.prod(shape)
            if self.layouts.whole.get(name) != node.output:
                part = f"{goal}#{start}"
                dtype = self.graph.values[name].dtype
                self.buffers[part] = Buffer(size, shape, dtype, goal, start)
                kernel = self._relayout(name, layout, out)
                record = {"copied": name, "from": layout.text(), "to": out.text()}
                self._add(Call(node.name, "concat", kernel, [source], [], [part], record))
            start += size

    def _attention(self, node: Node) -> None:
        self._strided(node, attention.of)

    def _matmul(self, node: Node) -> None:
        self._strided(node, matmul.of)

    def _strided(self, node: Node, make: Callable[..., Any]) -> None:
        """Write the call of an operator that reads its inputs by strides."""
        inputs = [name for name, _ in self._inputs(node)]
        goal, _ = self._write(node.output)
        sizes = [math.prod(self.graph.values[name].shape) for name in node.inputs]
        kernel = make(node.attrs, sizes, self.target, self.threads)
        record = {"schedule": kernel.describe()}
        self._add(Call(node.name, node.op, kernel, inputs, [], [goal], record))

    def _layer_norm(self, node: Node) -> None:
        ((source, _),) = self._inputs(node)
        goal, _ = self._write(node.output)
        shape = self.graph.values[node.output].shape
        scale = node.attrs.get("scale")
        kernel = LayerNorm(
            math.prod(shape[:-1]), shape[-1], node.attrs["epsilon"], self.target, self.threads,
            scale is not None, plain([scale]),
        )  # fmt: skip
        constants = [np.ascontiguousarray(node.attrs[x], np.float32) for x in ("gamma", "beta")]
        constants += [] if scale is None else [numbers_of([scale])]
        self._add(Call(node.name, "layer_norm", kernel, [source], constants, [goal]))

    def _softmax(self, node: Node) -> None:
        ((source, _),) = self._inputs(node)
        goal, _ = self._write(node.output)
        width = node.attrs["width"]
        rows = math.prod(self.graph.values[node.output].shape) // width
        kernel = Softmax(rows, width, self.target, self.threads)
        self._add(Call(node.name, "softmax", kernel, [source], [], [goal]))

    def _view(self, node: Node) -> None:
        ((source, _),) = self._inputs(node)
        self._buffer(node.output, NCHW, alias=source)

    def _relax(self, node: Node) -> None:
        inputs = [name for name, _ in self._inputs(node)]
        goals = [self._write(name)[0] for name in node.outputs]
        kernel = fallback(node.attrs["call"], self.threads, node.attrs.get("function"))
        taken = [inputs[at] for at in kernel.reads()]
        self._add(Call(node.name, node.attrs["kind"], kernel, taken, [], goals))


def as_conv2d(graph: Graph, node: Node) -> Conv2d:
    """Return the shape of a linear layer as that of a convolution."""
    wide_out, wide_in = node.attrs["weight"].shape
    return linear_op(math.prod(graph.values[node.output].shape[:-1]), wide_in, wide_out)


def _epilogue(node: Node, residual: Layout | None) -> Epilogue:
    """Return what follows the sum of a product to which a tensor in a layout may be added."""
    scales: Quantization | None = node.attrs.get("quantization")
    ahead = scales is not None and scales.sum is not None and scales.sum.first
    table = scales is not None and scales.table is not None
    return Epilogue(node.attrs["activation"], residual, ahead, table)


def _dtype(kernel: Any) -> str:
    """Return what a kernel multiplies in: what it was made for, not what was asked."""
    name: str = getattr(kernel, "numbers", FLOAT32).name
    return name


def _activation(node: Node) -> str | None:
    """Return what is applied in the last store; in int8 it is a bound there, or a table."""
    scales = node.attrs.get("quantization")
    if scales is None:
        found: str | None = node.attrs["activation"]
        return found
    table = None if scales.table is None else scales.table.name
    both = [name for name in (scales.activation, table) if name is not None]
    return ", then ".join(both) or None
