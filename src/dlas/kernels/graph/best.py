"""`best`: for each convolution the kernel that is fastest on this machine, layouts counted.

Every primitive that can do a convolution is measured with its weights and images out of the
caches, and so is every change of layout that may be needed. Each operator then has one of three
forms, such that the sum is least (`cost.cheapest`), and each convolution runs by the fastest
primitive of its form. At a branch every reader that needs another layout than the tensor has is
charged with a change of its own, though readers that agree share one copy.

The forms are ordered: tiles, plain, blocked. Between the first and the last a tensor is charged as
if it became plain on the way, so that two yes-or-no questions an operator ("not in tiles?",
"blocked?") and one minimum cut decide all at once (Ishikawa, "Exact Optimization for Markov Random
Fields with Convex Priors", 2003).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from enum import IntEnum
from typing import Any

import numpy as np

from dlas.kernels.code import amx
from dlas.kernels.convolution import primitives
from dlas.kernels.graph.arrange import PLAIN_OPERATORS, image_shape, in_blocks
from dlas.kernels.graph.choose import Chosen
from dlas.kernels.graph.cost import Costs, Task, cheapest
from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.graph.weights import skippable
from dlas.kernels.ground.knobs import FIXED
from dlas.kernels.ground.layout import NCHW, Layout, layout_fields
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.operators.quantized import QUAD

LIMIT_S = 35.0
"""Seconds for measuring; what they do not suffice for is decided by the rule."""
FOREVER = float("inf")
Key = tuple[str, str]
"""A primitive and the storage of its weights."""
Edge = tuple[int, int, float]
"""Two yes-or-no questions and the seconds that it costs if only the first is answered with yes."""


class Form(IntEnum):
    """How an operator's tensors lie in memory."""

    TILES = 0
    PLAIN = 1
    BLOCKED = 2


Sides = dict[Form, float]


def choose_measured(
    graph: Graph, choices: Mapping[str, Chosen], costs: Costs, written: int
) -> dict[str, Chosen]:
    """Return the choices with `best` replaced by what measuring says.

    Concatenations are told whether they are blocked (`attrs["blocked"]`): the layout that most of
    their parts have, which they take by themselves, may not be the one that was counted on.

    Args:
        graph: the network.
        choices: the choice of each operator by the rule.
        costs: where seconds come from.
        written: threads that the loops are written for.
    """
    problem = _Assignment(graph, choices, costs, written)
    forms = problem.solve()
    nodes = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        if node.op == "concat":
            node.attrs["blocked"] = forms[node.name] is Form.BLOCKED
    return {
        name: problem.chosen(nodes[name], forms[name]) if nodes[name].op == "conv2d" else choice
        for name, choice in choices.items()
    }


class _Assignment:
    """Costs of the operators of a graph in each form, and of the changes between them."""

    def __init__(
        self, graph: Graph, choices: Mapping[str, Chosen], costs: Costs, written: int
    ) -> None:
        self.graph, self.choices, self.costs, self.written = graph, choices, costs, written
        self.producers = graph.producers()
        self.place = {node.name: at for at, node in enumerate(graph.nodes)}
        self.seconds: dict[str, dict[Key, float]] = {}
        convolutions = [n for n in graph.nodes if n.op == "conv2d"]
        # The largest first: the time for measuring may not suffice for all.
        for node in sorted(convolutions, key=lambda n: -n.attrs["conv"].multiplications):
            if choices[node.name].asked == "best":
                self.seconds[node.name] = self._kernels(node)

    def _kernels(self, node: Node) -> dict[Key, float]:
        """Return the seconds of each primitive that can do a convolution."""
        op, choice = node.attrs["conv"], self.choices[node.name]
        formats = ("dense", "csr") if choice.weights == "csr" else ("dense",)
        keys = [
            key
            for key, primitive in primitives.of_type(node.dtype).items()
            if key[0] != "native" and key[1] in formats and primitive.why_not(op) is None
        ]
        found = self.costs.of([self._task(node, op, key) for key in keys])
        return {k: s for k, s in zip(keys, found, strict=True) if s is not None}

    def _task(self, node: Node, op: Conv2d, key: Key) -> Task:
        zeros = skippable(node)[0] if key[1] == "csr" else 0.0
        task = {
            "kind": "conv", "op": _lists(asdict(op)), "primitive": key[0], "weights": key[1],
            "written": self.written, "zeros": round(float(zeros), 1),
        }  # fmt: skip
        return task if node.dtype == "float32" else {**task, "dtype": node.dtype}

    def _form(self, key: Key, dtype: str) -> Form:
        primitive = primitives.find(*key, dtype)
        if primitive.form is not None:
            return Form.TILES
        return Form.PLAIN if primitive.plain else Form.BLOCKED

    def _plain(self, name: str) -> Layout:
        """Return the layout of plain channels: bytes lie in fours."""
        return Layout(QUAD) if self.graph.values[name].dtype == "uint8" else NCHW

    def _blocks(self, name: str) -> Layout:
        """Return the layout of blocked channels."""
        value, cpu = self.graph.values[name], self.costs.cpu
        if value.dtype != "uint8" or len(value.shape) != 4:
            return Layout(cpu.lanes)
        return Layout(amx.side_by_side(value.shape[1], "int8", cpu))

    def _sides(self, node: Node) -> Sides:
        """Return the seconds of an operator in each form."""
        sides = dict.fromkeys(Form, FOREVER)
        if node.op == "conv2d":
            for key, cost in self._candidates(node).items():
                form = self._form(key, node.dtype)
                sides[form] = min(sides[form], cost)
            return sides
        image = len(self.graph.values[node.inputs[0]].shape) == 4
        sides[Form.PLAIN] = 0.0
        blocks = self._blocks(node.inputs[0])
        whole = node.op != "concat" or in_blocks(self.graph, node, blocks)
        if image and node.op not in PLAIN_OPERATORS and whole:
            sides[Form.BLOCKED] = 0.0
        return sides

    def solve(self) -> dict[str, Form]:
        """Return the form of each operator."""
        sides = [self._sides(node) for node in self.graph.nodes]
        image = len(sides)  # what comes from outside, and goes there
        sides.append({Form.TILES: FOREVER, Form.PLAIN: 0.0, Form.BLOCKED: FOREVER})
        edges: list[Edge] = []
        for at, side in enumerate(sides):
            # Blocked is not in tiles; and a plain one says "not in tiles, not blocked".
            edges += [(_blocked(at), _untiled(at), FOREVER)]
            edges += [(_untiled(at), _blocked(at), side[Form.PLAIN])]
        for node in self.graph.nodes:
            for turn, name in enumerate(node.inputs):
                if name not in self.graph.constants:
                    edges += self._edges(node, turn, name, image)
        for name in self.graph.outputs:
            if name in self.producers:
                made = self.place[self.producers[name].name]
                edges += self._left(name, made, image, NCHW)
                edges.append((_blocked(made), _blocked(image), self._unpacked(name)))
        no = [cost for side in sides for cost in (side[Form.TILES], 0.0)]
        yes = [cost for side in sides for cost in (0.0, side[Form.BLOCKED])]
        answer = cheapest(no, yes, edges)
        return {
            node.name: Form(answer[_untiled(at)] + answer[_blocked(at)])
            for at, node in enumerate(self.graph.nodes)
        }

    def _edges(self, node: Node, turn: int, name: str, image: int) -> Iterator[Edge]:
        made = self.place[self.producers[name].name] if name in self.producers else image
        reader = self.place[node.name]
        yield from self._left(name, made, reader, self._tiles(node, turn))
        if node.op == "conv2d" and turn == 0 and self._reads_plain(node):
            reader = image
        flexible = node.op not in ("conv2d", *PLAIN_OPERATORS)
        if flexible and turn == 0 and node.op != "concat":
            # It takes its layout from its first input.
            yield _blocked(made), _blocked(reader), FOREVER
            yield _blocked(reader), _blocked(made), FOREVER
            return
        yield _blocked(made), _blocked(reader), self._unpacked(name)
        halo = self._blocks(name).with_halo((1, 1, 1, 1))
        yield _blocked(reader), _blocked(made), self._change(name, self._plain(name), halo)

    def _left(self, name: str, made: int, reader: int, goal: Layout) -> Iterator[Edge]:
        """Yield what it costs where the producer or the reader has tiles, and the other not.

        Args:
            name: the tensor.
            made: the producer's place.
            reader: the reader's place.
            goal: the tiles that the reader reads, if it reads tiles.
        """
        image = len(self.graph.nodes)
        source = self._tiles(self.graph.nodes[made], None) if made < image else NCHW
        into = self._change(name, NCHW, goal) if goal.tiling else 0.0
        out = self._change(name, source, NCHW) if source.tiling else 0.0
        if goal.tiling == source.tiling:
            yield _untiled(made), _untiled(reader), into
            yield _untiled(reader), _untiled(made), out
        else:  # from tiles to others it goes through plain
            yield _untiled(image), _untiled(reader), into
            yield _untiled(image), _untiled(made), out

    def _tiles(self, node: Node, turn: int | None) -> Layout:
        """Return the tiles in which a convolution reads an input, or writes (None)."""
        key = ("spatial-pack", "csr")
        if node.op != "conv2d" or key not in self._candidates(node):
            return NCHW
        sparse, op, cpu = primitives.find(*key), node.attrs["conv"], self.costs.cpu
        return sparse.writes(op, cpu) if turn != 0 else sparse.needs(op, cpu, FIXED)

    def _candidates(self, node: Node) -> dict[Key, float]:
        """Return what a convolution may run by, with its seconds.

        Where it was not asked for `best`, or not measured, it stays as the rule says.
        """
        choice = self.choices[node.name]
        return self.seconds.get(node.name) or {(choice.primitive, choice.weights): 0.0}

    def _reads_plain(self, node: Node) -> bool:
        """Whether even the blocked kernels read plain channels (an image of few)."""
        needs = primitives.find("spatial-pack", "dense", node.dtype).needs
        return needs(node.attrs["conv"], self.costs.cpu, FIXED).block < self.costs.cpu.lanes

    def _unpacked(self, name: str) -> float:
        return self._change(name, self._blocks(name), self._plain(name))

    def _change(self, name: str, source: Layout, goal: Layout) -> float:
        """Return the seconds of a change of layout; one that is not measured counts by bytes."""
        nchw = image_shape(self.graph.values[name].shape)
        if len(self.graph.values[name].shape) != 4 or nchw[2:] == (1, 1):
            return 0.0
        task = {
            "kind": "relayout", "nchw": list(nchw), "written": self.written,
            "source": layout_fields(source), "goal": layout_fields(goal),
        }  # fmt: skip
        dtype = self.graph.values[name].dtype
        (seconds,) = self.costs.of([task if dtype == "float32" else {**task, "dtype": dtype}])
        size = np.dtype(dtype).itemsize * float(np.prod(nchw))
        return 2 * size / 4e9 if seconds is None else seconds

    def chosen(self, node: Node, form: Form) -> Chosen:
        """Return the choice of a convolution, the fastest of its form, with what was measured."""
        before = self.choices[node.name]
        seconds = self.seconds.get(node.name)
        if before.asked != "best":
            return before
        if not seconds:
            return before._replace(
                measured={
                    "note": "by the rule: not measured (no time was left, or a kernel did not run)"
                }
            )
        own = {k: s for k, s in seconds.items() if self._form(k, node.dtype) == form}
        primitive, weights = min(own, key=lambda k: own[k])
        reason = before.reason
        if before.weights == "csr" and weights == "dense":
            reason = "dense weights were measured faster"
        said = {f"{p} {w}": s for (p, w), s in sorted(seconds.items())}
        return before._replace(
            primitive=primitive, weights=weights, reason=reason, measured={"seconds": said}
        )


def _untiled(at: int) -> int:
    """Return the place of the question whether the operator is not in tiles."""
    return 2 * at


def _blocked(at: int) -> int:
    """Return the place of the question whether the operator is blocked."""
    return 2 * at + 1


def _lists(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields as JSON reads them back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
