"""Operators recognized: from TVM's vocabulary to the few kinds that have kernels here."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dlas.kernels.graph.fuse import (
    chain_concats,
    fold_affine,
    fold_bias,
    fuse_activation,
    fuse_quantize,
    fuse_residual,
    fuse_table,
)
from dlas.kernels.graph.graph import Graph, Node, Value
from dlas.kernels.graph.live_taps import cut_dead_taps
from dlas.kernels.graph.strides import VIEWS, read_in_place
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.shape import Conv2d

_UNARY = {
    "nn.relu": "relu",
    "relu6": "relu6",
    "nn.silu": "silu",
    "sigmoid": "sigmoid",
    "nn.gelu": "gelu",
}


def simplify(graph: Graph) -> Graph:
    """Rewrite the graph in place and return it."""
    _fold_constants(graph)
    for node in list(graph.nodes):
        if node.op == "relax" and node.attrs["kind"] in _RECOGNIZE:
            _RECOGNIZE[node.attrs["kind"]](graph, node)
    graph.prune()
    fold_bias(graph)
    fold_affine(graph)
    chain_concats(graph)
    fuse_residual(graph)
    fuse_activation(graph)
    fuse_table(graph)
    fuse_quantize(graph)
    graph.prune()
    read_in_place(graph)
    cut_dead_taps(graph)
    _unique_names(graph)
    return graph


def _unique_names(graph: Graph) -> None:
    """Number the uses of a module that is called more than once."""
    seen: dict[str, int] = {}
    for node in graph.nodes:
        seen[node.name] = count = seen.get(node.name, 0) + 1
        if count > 1:
            node.name = f"{node.name}:{count}"


def _fold_constants(graph: Graph) -> None:
    """Compute views and transposes of constants now."""
    kept = []
    for node in graph.nodes:
        arrays = [graph.constant(name) for name in node.inputs]
        folded = _folded(graph, node, arrays[0]) if len(arrays) == 1 else None
        if folded is None:
            kept.append(node)
            continue
        graph.constants[node.output] = np.ascontiguousarray(folded)
        if node.inputs[0] in graph.labels:
            graph.labels[node.output] = graph.labels[node.inputs[0]]
    graph.nodes = kept


def _folded(graph: Graph, node: Node, array: Any) -> Any:
    if array is None:
        return None
    kind = node.attrs["kind"]
    if kind in VIEWS:
        return array.reshape(graph.values[node.output].shape)
    if kind == "permute_dims":
        axes = node.attrs["call"].attrs.axes
        return array.transpose([int(a) for a in axes] if axes is not None else None)
    if kind == "broadcast_to":
        return np.broadcast_to(array, graph.values[node.output].shape)
    return None


def _become(node: Node, op: str, inputs: list[str], **attrs: Any) -> None:
    node.op, node.inputs, node.attrs = op, inputs, attrs


def _pair(values: Any) -> tuple[int, int]:
    first, second = (int(v) for v in values)
    return (first, second)


def _sides(values: Any) -> tuple[int, int, int, int]:
    numbers = [int(v) for v in values]
    top, left, bottom, right = numbers * (4 // len(numbers))
    return (top, left, bottom, right)


def _is_image(graph: Graph, name: str) -> bool:
    value = graph.values[name]
    return len(value.shape) == 4 and value.dtype == "float32"


def conv_of(graph: Graph, node: Node, filters: tuple[int, ...]) -> Conv2d | None:
    """Return the shape of a convolution with such filters; None: it is not in NCHW."""
    a = node.attrs["call"].attrs
    if (str(a.data_layout), str(a.kernel_layout), str(a.out_layout)) != ("NCHW", "OIHW", "NCHW"):
        return None
    n, c, h, w = graph.values[node.inputs[0]].shape
    return Conv2d(
        n, c, h, w, filters[0], _pair(filters[2:]), _pair(a.strides),
        _sides(a.padding), _pair(a.dilation), int(a.groups),
    )  # fmt: skip


def _conv2d(graph: Graph, node: Node) -> None:
    weight = graph.constant(node.inputs[1])
    op = None if weight is None else conv_of(graph, node, weight.shape)
    if op is None:
        return
    node.name = graph.labels.get(node.inputs[1], node.name)
    _become(node, "conv2d", node.inputs[:1], conv=op, weight=weight, bias=None, activation=None)


def _matmul(graph: Graph, node: Node) -> None:
    weight = graph.constant(node.inputs[1])
    if weight is None:
        _product(graph, node)
        return
    if weight.ndim != 2 or len(graph.values[node.inputs[0]].shape) < 2:
        return
    node.name = graph.labels.get(node.inputs[1], node.name)
    weight = np.ascontiguousarray(weight.T)
    _become(node, "linear", node.inputs[:1], weight=weight, bias=None, activation=None)


def _product(graph: Graph, node: Node) -> None:
    """A product of two computed tensors, each at least a matrix."""
    values = [graph.values[name] for name in (*node.inputs, node.output)]
    if all(len(value.shape) >= 2 and value.dtype == "float32" for value in values):
        _become(node, "matmul", node.inputs)


def batch_norm(graph: Graph, node: Node) -> tuple[Any, Any]:
    """Return what a batch norm multiplies each channel by, and what it adds, in float64.

    Raises:
        UnsupportedError: its statistics are no constants, or it is of no image.
    """
    arrays = [graph.constant(name) for name in node.inputs[1:]]
    value = graph.values[node.inputs[0]]
    if any(a is None for a in arrays) or value.dtype != "float32" or len(value.shape) < 2:
        raise UnsupportedError(
            f"{node.name}: batch norm needs constant statistics and a float32 tensor [N, C, ...], "
            f"got {value.dtype} {value.shape}"
        )
    gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in arrays)
    a = node.attrs["call"].attrs
    scale = (gamma if a.scale else 1.0) / np.sqrt(variance + float(a.epsilon))
    return scale, (beta if a.center else 0.0) - mean * scale


def _batch_norm(graph: Graph, node: Node) -> None:
    scale, shift = batch_norm(graph, node)
    value = graph.values[node.inputs[0]]
    node.outputs = node.outputs[:1]
    if len(value.shape) != 4:
        _between_views(graph, node)
    _become(node, "affine", node.inputs[:1], scale=scale, shift=shift, activation=None)


def _between_views(graph: Graph, node: Node) -> None:
    """Let an operator on [N, C, ...] work on an image [N, C, pixels, 1], as kernels do."""
    x, out = node.inputs[0], node.output
    n, c, *rest = graph.values[x].shape
    image, made = f"{out}.image", f"{out}.normed"
    graph.values[image] = graph.values[made] = Value((n, c, math.prod(rest), 1))
    at = graph.nodes.index(node)
    graph.nodes.insert(at + 1, Node(f"{node.name}.view", "view", [made], [out]))
    graph.nodes.insert(at, Node(f"{node.name}.image", "view", [x], [image]))
    node.inputs, node.outputs = [image, *node.inputs[1:]], [made]


def _add(graph: Graph, node: Node) -> None:
    _elementwise(graph, node, "add")


def _multiply(graph: Graph, node: Node) -> None:
    _elementwise(graph, node, "multiply")


def _elementwise(graph: Graph, node: Node, kind: str) -> None:
    left, right = node.inputs
    if graph.constant(left) is not None or len(_shape(graph, left)) < len(_shape(graph, right)):
        left, right = right, left
    shape, other = _shape(graph, left), _shape(graph, right)
    if graph.values[left].dtype != "float32" or shape != _shape(graph, node.output):
        return
    per_channel = len(shape) == 4 and other == (1, shape[1], 1, 1)
    constant = graph.constant(right)
    if constant is not None and per_channel:
        flat = constant.reshape(-1).astype(np.float64)
        scale, shift = (1.0, flat) if kind == "add" else (flat, 0.0)
        ones = np.ones(shape[1])
        _become(node, "affine", [left], scale=scale * ones, shift=shift * ones, activation=None)
    elif constant is None and (other == shape or _per_channel(shape, other)):
        _become(node, "binary", [left, right], kind=kind, activation=None)


def _per_channel(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(shape) == 4 and other == (*shape[:2], 1, 1)


def _shape(graph: Graph, name: str) -> tuple[int, ...]:
    return graph.values[name].shape


def _unary(graph: Graph, node: Node) -> None:
    if graph.values[node.output].dtype == "float32":
        _become(node, "unary", node.inputs, activation=_UNARY[node.attrs["kind"]])


def _clip(graph: Graph, node: Node) -> None:
    bounds = [float(a.value) for a in node.attrs["call"].args[1:]]
    if bounds == [0.0, 6.0] and graph.values[node.output].dtype == "float32":
        _become(node, "unary", node.inputs[:1], activation="relu6")


def pool_of(node: Node, beyond: bool = False) -> dict[str, Any] | None:
    """Return what a pool's node says of it; None: there is no kernel for it.

    Args:
        node: the pool.
        beyond: whether the kernel averages over windows that end beyond the padding.
    """
    a, kind = node.attrs["call"].attrs, node.attrs["kind"]
    average = kind == "nn.avg_pool2d"
    if str(a.layout) != "NCHW" or (average and a.ceil_mode and not beyond):
        return None
    return {
        "kind": "avg" if average else "max", "kernel": _pair(a.pool_size),
        "stride": _pair(a.strides), "padding": _sides(a.padding), "dilation": _pair(a.dilation),
        "count_padding": bool(average and a.count_include_pad),
    }  # fmt: skip


def _pool(graph: Graph, node: Node) -> None:
    attrs = pool_of(node)
    if attrs is not None:
        _become(node, "pool", node.inputs, **attrs)


def _adaptive_pool(graph: Graph, node: Node) -> None:
    if graph.values[node.output].shape[2:] == (1, 1):
        _become(node, "global_pool", node.inputs)


def _mean(graph: Graph, node: Node) -> None:
    shape = graph.values[node.inputs[0]].shape
    axes = sorted(int(a) % len(shape) for a in node.attrs["call"].attrs.axis or [])
    if not _is_image(graph, node.inputs[0]) or axes != [2, 3]:
        return
    out = node.output
    if len(graph.values[out].shape) == 2:
        pooled = f"{out}.pooled"
        graph.values[pooled] = Value((*shape[:2], 1, 1))
        at = graph.nodes.index(node)
        graph.nodes.insert(at + 1, Node(f"{node.name}.view", "view", [pooled], [out]))
        node.outputs = [pooled]
    _become(node, "global_pool", node.inputs)


def _concat(graph: Graph, node: Node) -> None:
    if not _is_image(graph, node.output) or int(node.attrs["call"].attrs.axis) != 1:
        return
    if len(node.inputs) == 1:
        _drop(graph, node)
    elif all(graph.constant(name) is None for name in node.inputs):
        _become(node, "concat", node.inputs)


def _attention(graph: Graph, node: Node) -> None:
    a = node.attrs["call"].attrs
    shapes = [graph.values[name].shape for name in node.inputs]
    plain = a.causal_mask is None and a.window_size is None and len(node.inputs) == 3
    if not plain or graph.values[node.output].dtype != "float32":
        return
    if shapes[0][2] != shapes[1][2]:
        return  # fewer key heads than query heads: left to TVM
    scale = shapes[0][3] ** -0.5 if a.scale is None else float(a.scale.value)
    _become(node, "attention", node.inputs, scale=scale)


def _layer_norm(graph: Graph, node: Node) -> None:
    a = node.attrs["call"].attrs
    arrays = [graph.constant(name) for name in node.inputs[1:]]
    width = graph.values[node.output].shape[-1]
    axes = [int(axis) % len(graph.values[node.output].shape) for axis in a.axes]
    if axes != [len(graph.values[node.output].shape) - 1] or any(x is None for x in arrays):
        return
    gamma, beta = arrays if len(arrays) == 2 else (np.ones(width), np.zeros(width))
    if graph.values[node.output].dtype == "float32":
        _become(
            node, "layer_norm", node.inputs[:1], gamma=gamma, beta=beta, epsilon=float(a.epsilon)
        )


def _softmax(graph: Graph, node: Node) -> None:
    """A softmax whose axis is the last one, apart from axes of length 1."""
    value = graph.values[node.output]
    axis = int(node.attrs["call"].attrs.axis) % max(1, len(value.shape))
    if value.dtype == "float32" and value.shape and math.prod(value.shape[axis + 1 :]) == 1:
        _become(node, "softmax", node.inputs, width=value.shape[axis])


def _view(graph: Graph, node: Node) -> None:
    if _shape(graph, node.inputs[0]) == _shape(graph, node.output):
        _drop(graph, node)
    else:
        _become(node, "view", node.inputs[:1])


def _drop(graph: Graph, node: Node) -> None:
    """Remove an operator that does nothing; as a view it would ask for plain channels."""
    graph.rename(node.output, node.inputs[0])
    graph.nodes.remove(node)


_RECOGNIZE: dict[str, Callable[[Graph, Node], None]] = {
    "nn.conv2d": _conv2d,
    "matmul": _matmul,
    "nn.batch_norm": _batch_norm,
    "add": _add,
    "multiply": _multiply,
    "clip": _clip,
    "nn.max_pool2d": _pool,
    "nn.avg_pool2d": _pool,
    "nn.adaptive_avg_pool2d": _adaptive_pool,
    "mean": _mean,
    "concat": _concat,
    "nn.attention": _attention,
    "nn.layer_norm": _layer_norm,
    "nn.softmax": _softmax,
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(VIEWS, _view),
}
