"""Tensors that are only another view of an earlier one: permuted, cut, reshaped.

What reads by strides (attention, products of two computed matrices) takes such a tensor from where
it lies, and a permutation that undoes an earlier one is no operator at all.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dlas.kernels.graph.graph import Graph, Node

Shape = tuple[int, ...]
VIEWS = ("reshape", "squeeze", "expand_dims", "flatten", "nn.batch_flatten")
"""Operators of TVM that change the shape alone."""
_MOVES = ("view", "permute_dims", "split", "take", "strided_slice")


class Strided(NamedTuple):
    """A tensor as elements of an earlier one."""

    root: str
    first: int
    """Which element of the root is its first."""
    strides: Shape
    """Elements of the root from one index of an axis to the next."""


def read_in_place(graph: Graph) -> None:
    """Let operators that read by strides do so, and drop permutations that others undo.

    Their `attrs["places"]` are the first element and the strides of each input.
    """
    producers = graph.producers()
    for node in graph.nodes:
        if node.op == "relax" and node.attrs["kind"] == "permute_dims":
            found, shape = locate(graph, producers, node.output), graph.values[node.output].shape
            whole = math.prod(graph.values[found.root].shape) == math.prod(shape)
            if whole and in_order(shape, found.strides):
                node.op, node.inputs, node.attrs = "view", [found.root], {}
        elif node.op in ("attention", "matmul"):
            places = [locate(graph, producers, name) for name in node.inputs]
            shapes = [graph.values[name].shape for name in node.inputs]
            if "orders" in node.attrs:
                places = [_turned(p, o) for p, o in zip(places, node.attrs["orders"], strict=True)]
                turned = zip(shapes, node.attrs["orders"], strict=True)
                shapes = [tuple(shape[axis] for axis in order) for shape, order in turned]
            elif node.op == "attention":  # it reads along the depth
                pairs = zip(node.inputs, places, strict=True)
                places = [p if p.strides[-1] == 1 else stored(graph, n) for n, p in pairs]
            node.attrs["shapes"] = shapes
            node.inputs = [place.root for place in places]
            node.attrs["places"] = [(place.first, place.strides) for place in places]
    graph.prune()


def _turned(place: Strided, order: Sequence[int]) -> Strided:
    """Return a tensor with its axes in another order."""
    return place._replace(strides=tuple(place.strides[axis] for axis in order))


def stored(graph: Graph, name: str) -> Strided:
    """Return a tensor as it is stored itself."""
    return Strided(name, 0, contiguous(graph.values[name].shape))


def locate(graph: Graph, producers: Mapping[str, Node], name: str) -> Strided:
    """Return the earliest tensor of which this one is a view, and which of its elements it has."""
    maker = producers.get(name)
    found = None if maker is None else _through(graph, producers, maker, name)
    return found or stored(graph, name)


def _through(
    graph: Graph, producers: Mapping[str, Node], maker: Node, name: str
) -> Strided | None:
    """Return where an operator's output lies in what it reads; None: it computes."""
    kind = "view" if maker.op == "view" else maker.attrs.get("kind")
    kind = "view" if kind in VIEWS else kind
    if maker.op not in ("view", "relax") or kind not in _MOVES:
        return None
    before = locate(graph, producers, maker.inputs[0])
    shape = graph.values[maker.inputs[0]].shape
    if kind == "view":
        strides = reshaped(shape, before.strides, graph.values[name].shape)
        return None if strides is None else before._replace(strides=strides)
    attrs = maker.attrs["call"].attrs
    if kind == "permute_dims":
        order = range(len(shape))[::-1] if attrs.axes is None else [int(a) for a in attrs.axes]
        return before._replace(strides=tuple(before.strides[axis] for axis in order))
    if kind == "strided_slice":
        return _cut(before, shape, maker.attrs["call"].args[1:])
    if attrs.axis is None:
        return None
    axis = int(attrs.axis) % len(shape)
    if kind == "split":
        parts = maker.outputs[: maker.outputs.index(name)]
        skipped = sum(graph.values[part].shape[axis] for part in parts)
        return before._replace(first=before.first + skipped * before.strides[axis])
    index = graph.constant(maker.inputs[1])
    if index is None or index.ndim > 0:
        return None
    rest = before.strides[:axis] + before.strides[axis + 1 :]
    place = int(index) % shape[axis]
    return Strided(before.root, before.first + place * before.strides[axis], rest)


def _cut(before: Strided, shape: Shape, told: Sequence[Any]) -> Strided | None:
    """Return a slice of a tensor; None: its bounds are not known. `told`: axes and beginnings."""
    try:
        axes, begins, _, *steps = (
            [int(each.value) for each in numbers.fields] for numbers in told
        )
    except AttributeError:
        return None
    first, strides = before.first, [*before.strides]
    for turn, (axis, begin) in enumerate(zip(axes, begins, strict=True)):
        step = steps[0][turn] if steps else 1
        if step < 1:
            return None
        start = min(max(begin + (shape[axis] if begin < 0 else 0), 0), shape[axis])
        first += start * before.strides[axis]
        strides[axis] *= step
    return Strided(before.root, first, tuple(strides))


def contiguous(shape: Shape) -> Shape:
    """Return the strides of a tensor that is stored as a whole, row by row."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def in_order(shape: Shape, strides: Shape) -> bool:
    """Whether a tensor of these strides is stored row by row; an axis of one element has any."""
    told = zip(shape, strides, contiguous(shape), strict=True)
    return all(stride == plain for extent, stride, plain in told if extent > 1)


def reshaped(shape: Shape, strides: Shape, goal: Shape) -> Shape | None:
    """Return the strides of a tensor in another shape; None: it would have to be copied."""
    if 0 in goal:
        return None
    # Neighbouring axes that are one run of elements, as (extent, stride of its last axis).
    runs: list[tuple[int, int]] = []
    for extent, stride in zip(shape, strides, strict=True):
        if extent == 1:
            continue
        if runs and runs[-1][1] == extent * stride:
            runs[-1] = (runs[-1][0] * extent, stride)
        else:
            runs.append((extent, stride))
    found, left = [], [1, 1]
    for extent in reversed(goal):
        if extent > 1 and left[0] == 1:
            left = list(runs.pop())
        if left[0] % extent:
            return None
        found.append(left[1])
        left = [left[0] // extent, left[1] * extent]
    return tuple(reversed(found))
