"""Calls of kernels on named buffers, and how a tensor gets into the layout in which it is read."""

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dlas.kernels.code.emit import PrimFunc
from dlas.kernels.code.half_images import BITS, Images
from dlas.kernels.graph.arrange import Layouts, image_shape, same_memory
from dlas.kernels.graph.choose import Chosen
from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.ground.layout import NCHW, AnyArray, Layout, pack
from dlas.kernels.ground.target import CpuTarget
from dlas.kernels.operators.fallback import Fallback
from dlas.kernels.operators.relayout import Relayout

_MOVES = ("relayout", "concat", "max_pool", "lookup")
"""Kinds of calls that add nothing up."""


class Emitter(Protocol):
    """Something that writes one function; equal ones share their code."""

    def function(self, name: str) -> PrimFunc:
        """Return the code."""

    def __hash__(self) -> int: ...


@dataclass
class Call:
    """One call of one kernel."""

    operator: str
    kind: str
    kernel: Emitter
    inputs: list[str]
    constants: list[AnyArray]
    outputs: list[str]
    record: dict[str, Any] = field(default_factory=dict)


@dataclass
class Buffer:
    """Memory of a tensor in one layout; `alias` names the buffer of whose memory it is a part."""

    size_bytes: int
    shape: tuple[int, ...]
    dtype: str
    alias: str | None = None
    offset_bytes: int = 0
    """Where in the other buffer it begins."""


class CallList:
    """The calls of a graph, as far as they are written."""

    def __init__(
        self, graph: Graph, choices: dict[str, Chosen], target: CpuTarget, threads: int
    ) -> None:
        self.graph, self.choices, self.target, self.threads = graph, choices, target, threads
        self.layouts = Layouts(graph, choices, target)
        self.producers = graph.producers()
        self.all: list[Call] = []
        self.buffers: dict[str, Buffer] = {}

    @property
    def schedule(self) -> tuple[int, int]:
        """Threads, and lanes of a vector."""
        return (self.threads, self.target.lanes)

    def _buffer(self, name: str, layout: Layout, alias: str | None = None) -> str:
        value = self.graph.values[name]
        key = name if layout == NCHW else f"{name}@{layout.text()}"
        if key not in self.buffers:
            shape, offset = value.shape, 0
            if layout != NCHW:
                shape = layout.shape(image_shape(shape))
            size = math.prod(shape) * np.dtype(value.dtype).itemsize
            if name in self.layouts.whole and layout == self.layouts.stored(name):
                whole = self.layouts.whole[name]
                alias, offset = self._buffer(whole, layout), self._offsets(whole, layout)[name]
            self.buffers[key] = Buffer(size, shape, value.dtype, alias, offset)
        return key

    def _offsets(self, whole: str, layout: Layout) -> dict[str, int]:
        """Return where the parts of a concatenation begin in its memory, in bytes."""
        parts, each = self.producers[whole].inputs, self._itemsize(whole)
        sizes = [math.prod(layout.shape(image_shape(self.graph.values[p].shape))) for p in parts]
        return {p: each * sum(sizes[:at]) for at, p in enumerate(parts)}

    def _itemsize(self, name: str) -> int:
        return np.dtype(self.graph.values[name].dtype).itemsize

    def _relayout(self, name: str, source: Layout, goal: Layout) -> Relayout:
        """Return what copies a tensor from one layout into another."""
        value = self.graph.values[name]
        nchw = image_shape(value.shape)
        return Relayout(nchw, source, goal, self.threads, value.dtype, value.zero)

    def _write(self, name: str) -> tuple[str, Layout]:
        layout = self.layouts.stored(name)
        return self._buffer(name, layout), layout

    def _read(self, name: str, layout: Layout) -> str:
        """Return the buffer that holds the tensor in this layout; make a copy if none does."""
        stored = self.layouts.stored(name)
        source = self._buffer(name, stored)
        key = name if layout == NCHW else f"{name}@{layout.text()}"
        if layout == stored or key in self.buffers:
            return self._buffer(name, layout)
        nchw = image_shape(self.graph.values[name].shape)
        constant = self.graph.constant(name)
        if constant is not None:  # it is packed now, not in every run
            fill = self.graph.values[name].zero
            self.graph.constants[key] = pack(constant.reshape(nchw), layout, fill)
            return self._buffer(name, layout)
        if same_memory(nchw, stored, layout):
            return self._buffer(name, layout, alias=source)
        goal = self._buffer(name, layout)
        kernel = self._relayout(name, stored, layout)
        record = {"from": stored.text(), "to": layout.text()}
        self._add(Call(f"relayout({name})", "relayout", kernel, [source], [], [goal], record))
        return goal

    def _inputs(self, node: Node) -> list[tuple[str, Layout]]:
        pairs = zip(node.inputs, self.layouts.by_node[node.name], strict=True)
        found = []
        for name, need in pairs:
            layout = self.layouts.read(name, need)
            found.append((self._read(name, layout), layout))
        return found

    def _images(self, node: Node) -> Images:
        """Return in what an operator's images are stored."""
        names = (node.inputs[0], node.output, node.inputs[-1])
        return Images(*(self.graph.values[name].dtype for name in names))

    def _add(self, call: Call) -> None:
        call.record.setdefault("types", self._types(call))
        self.all.append(call)

    def _types(self, call: Call) -> dict[str, str]:
        """Return what an operator that is no product reads and writes, and what it computes in.

        What only moves or compares numbers, and what TVM defines, sums in nothing that is told.
        """
        read, written = (
            "+".join(dict.fromkeys(_told(self.buffers[name].dtype) for name in names))
            for names in (call.inputs, call.outputs)
        )
        untold = call.kind in _MOVES or isinstance(call.kernel, Fallback)
        summed = {} if untold else {"accumulate": "float32"}
        return {"input": read, **summed, "output": written}


def _told(dtype: str) -> str:
    """Return what a type of elements is called where it holds the bits of another."""
    return "bfloat16" if dtype == BITS else dtype
