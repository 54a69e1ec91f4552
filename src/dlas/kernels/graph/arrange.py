"""Which layout each tensor has, and where layouts change.

Every operator states what it needs of its inputs; a tensor is stored once, in the layout that its
producer writes, with the widest halo that a reader needs; a reader that needs another channel
block, or other tiles, gets a copy, made once.

A concatenation of channels moves nothing where it can: a batch of one is stored channel block by
channel block, so each part is a slice of the result, and its producer writes it there. All of
them then have one layout, which serves the readers of every part. What cannot be written in place
(a part in another channel block, a model's input, a part of two results) is copied into its slice.
"""

from collections import Counter
from typing import NamedTuple

from dlas.kernels.convolution import primitives
from dlas.kernels.convolution.contract import Primitive
from dlas.kernels.graph.choose import Chosen
from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.layout import NCHW, Layout, Shape4, widest
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget
from dlas.kernels.operators import tile_pool
from dlas.kernels.operators.quantized import QUAD


class Need(NamedTuple):
    """What a reader needs of one input."""

    layout: Layout
    exact: bool
    """Whether a wider halo than this does not do."""


PLAIN = Need(NCHW, exact=True)
PLAIN_OPERATORS = ("linear", "attention", "matmul", "layer_norm", "softmax", "relax", "view")
"""Operators that read and write tensors as PyTorch lays them out."""


def image_shape(shape: tuple[int, ...]) -> Shape4:
    """Return the tensor's shape as an image batch; what is no image becomes one row."""
    if len(shape) == 4:
        n, c, h, w = shape
        return (n, c, h, w)
    size = 1
    for extent in shape:
        size *= extent
    return (1, 1, 1, size)


def same_memory(nchw: Shape4, a: Layout, b: Layout) -> bool:
    """Whether a tensor's bytes are the same in both layouts."""
    n, c, h, w = nchw
    if any((*a.halo, *b.halo)) or (h, w) != (1, 1) or a.tiling or b.tiling:
        return a == b
    return a == b or n == 1 or (c % a.block == 0 and c % b.block == 0)


def in_blocks(graph: Graph, concat: Node, form: Layout) -> bool:
    """Whether every part of a concatenation begins at a channel block."""
    return all(graph.values[name].shape[1] % form.block == 0 for name in concat.inputs[:-1])


class Layouts:
    """The layouts of one graph under one choice of algorithms."""

    def __init__(self, graph: Graph, choices: dict[str, Chosen], target: CpuTarget) -> None:
        self.graph, self.choices, self.target = graph, choices, target
        self.forms: dict[str, Layout] = dict.fromkeys(graph.inputs, NCHW)
        """In which blocks or tiles each tensor is stored."""
        self.needs: dict[str, list[Need]] = {name: [] for name in graph.values}
        self.by_node: dict[str, list[Need]] = {}
        self.whole: dict[str, str] = {}
        """The concatenation in which a tensor is written in place."""
        self._producers, self._users = graph.producers(), graph.users()
        for node in graph.nodes:
            needs = self._needs(node)
            self.by_node[node.name] = needs
            for name, need in zip(node.inputs, needs, strict=True):
                self.needs[name].append(need)
            for name in node.outputs:
                self.forms[name] = self._form(node, needs)
            if self.sliced(node):
                self._claim(node)
        for name in graph.outputs:
            self.needs[name].append(PLAIN)
        self._together = self._readers()

    def _primitive(self, node: Node) -> Primitive:
        choice = self.choices[node.name]
        return primitives.find(choice.primitive, choice.weights, node.dtype)

    def _form(self, node: Node, needs: list[Need]) -> Layout:
        """Return what the operator writes, given what it reads."""
        if node.op == "conv2d":
            return self._written(node)
        if node.op in PLAIN_OPERATORS:
            return NCHW
        if node.op == "concat":
            return self._concat_form(node)
        if node.op == "pool" and (tiled := self._pooled(node)):
            return tiled[1]
        if node.op == "quantize":
            return self._quantized(node, needs[0].layout.form)
        return needs[0].layout.form

    def _quantized(self, node: Node, form: Layout) -> Layout:
        """Return what a plain image is quantized into: fours of channels, if that is read."""
        for reader in self._users[node.output]:
            if reader.op == "conv2d" and form == NCHW:
                knobs = self.choices[reader.name].knobs
                op = reader.attrs["conv"]
                asked = self._primitive(reader).needs(op, self.target, knobs).form
                return asked if asked.block == QUAD else form
        return form

    def _written(self, node: Node) -> Layout:
        """Return the blocks or tiles that a convolution writes."""
        op, knobs = node.attrs["conv"], self.choices[node.name].knobs
        return self._primitive(node).writes(op, self.target, knobs)

    def _pooled(self, node: Node) -> tuple[Layout, Layout] | None:
        """Return the tiles that a pool reads and writes; None: it works on plain images."""
        a, (name,) = node.attrs, node.inputs
        form = self.forms.get(name, NCHW)
        if form.tiling is None:
            return None
        n, c, h, w = image_shape(self.graph.values[name].shape)
        try:
            window = Conv2d(
                n, c, h, w, c, a["kernel"], a["stride"], a["padding"], a["dilation"], groups=c
            )
        except UnsupportedError:  # its only window is larger than the image
            return None
        if window.out_shape != self.graph.values[node.output].shape:  # it counts a partial window
            return None
        return tile_pool.layouts(window, form)

    def _blocked(self, name: str) -> Layout:
        """Return the form of a tensor for readers that know no tiles."""
        form = self.forms.get(name, NCHW)
        return NCHW if form.tiling else form

    def _needs(self, node: Node) -> list[Need]:
        """Return what the operator needs of each of its inputs, given their producers' forms."""
        if node.op == "conv2d":
            rest = self._written(node)
            flexible = not self._primitive(node).plain
            knobs = self.choices[node.name].knobs
            layout = self._primitive(node).needs(node.attrs["conv"], self.target, knobs)
            first = Need(layout, exact=not flexible)
            return [first, *(Need(rest, exact=not flexible) for _ in node.inputs[1:])]
        if node.op in PLAIN_OPERATORS:
            return [PLAIN for _ in node.inputs]
        if len(self.graph.values[node.inputs[0]].shape) != 4:
            return [PLAIN for _ in node.inputs]
        if self.sliced(node):  # a part that is copied is read as it is stored
            return [Need(self.forms.get(name, NCHW), exact=False) for name in node.inputs]
        if node.op == "pool" and (tiled := self._pooled(node)):
            return [Need(tiled[0], exact=False)]
        form = self._blocked(node.inputs[0])
        if node.op == "concat":
            form = self._concat_form(node)
        return [Need(form, exact=False) for _ in node.inputs]

    def sliced(self, node: Node) -> bool:
        """Whether the node is a concatenation whose parts are slices of its result's memory."""
        return node.op == "concat" and self.graph.values[node.output].shape[0] == 1

    def _claim(self, node: Node) -> None:
        """Let the parts that can be written in place be slices of the result."""
        form = self.forms[node.output]
        for name in node.inputs:
            twice = name in self.whole or node.inputs.count(name) > 1
            if not self._plain(name) and not twice and self.forms[name] == form:
                self.whole[name] = node.output

    def _plain(self, name: str) -> bool:
        """Whether the tensor comes from outside, or from an operator that knows no layouts."""
        maker = self._producers.get(name)
        return maker is None or maker.op in PLAIN_OPERATORS

    def _root(self, name: str) -> str:
        while name in self.whole:
            name = self.whole[name]
        return name

    def _readers(self) -> dict[str, list[Need]]:
        """Return what is needed of each stored tensor, its slices included."""
        found: dict[str, list[Need]] = {}
        for name, needs in self.needs.items():
            found.setdefault(self._root(name), []).extend(needs)
        return found

    def _concat_form(self, node: Node) -> Layout:
        """Return the form of most parts in which every part begins at a block, plain ones last."""
        forms = [f for f, _ in Counter(self._blocked(x) for x in node.inputs).most_common()]
        if "blocked" in node.attrs:  # `best` has decided
            wide = [f for f in forms if f.block >= self.target.lanes]
            forms = [*wide, Layout(self.target.lanes)] if node.attrs["blocked"] else [NCHW]
        elif any(f.block > self.target.lanes for f in forms):  # of tiles: others have smaller ones
            forms.append(Layout(self.target.lanes))
        return next((f for f in forms if in_blocks(self.graph, node, f)), NCHW)

    def stored(self, name: str) -> Layout:
        """Return the layout in which the producer writes the tensor."""
        form = self.forms.get(name, NCHW)
        if self._plain(name):
            return NCHW
        mine = [n for n in self._together[self._root(name)] if n.layout.form == form]
        if any(need.exact for need in mine):
            return form
        return form.with_halo(widest([need.layout.halo for need in mine]))

    def read(self, name: str, need: Need) -> Layout:
        """Return the layout that this reader gets: the stored one, or that of a copy."""
        stored = self.stored(name)
        shape = image_shape(self.graph.values[name].shape)
        fits = stored == need.layout if need.exact else stored.covers(need.layout)
        if fits or same_memory(shape, stored, need.layout):
            return stored if fits else need.layout
        if need.exact:
            return need.layout
        form = need.layout.form
        others = [o.layout for o in self.needs[name] if o.layout.form == form and not o.exact]
        return form.with_halo(widest([o.halo for o in others if not stored.covers(o)]))
