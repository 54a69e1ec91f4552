"""`best`: for each convolution the kernel that is fastest on this machine, layouts counted.

Every primitive that can do a convolution is measured with its weights and images out of the
caches, and so is every change between plain and blocked channels that may be needed. Each operator
is then plain or blocked so that the sum is least (`cost.cheapest`), and each convolution runs by
the fastest primitive of its side. At a branch every reader that needs another layout than the
tensor has is charged with a change of its own, though readers that agree share one copy.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from dlas.kernels import primitives
from dlas.kernels.choose import Choice
from dlas.kernels.cost import Costs, Task, cheapest
from dlas.kernels.graph import Graph, Node
from dlas.kernels.knobs import FIXED
from dlas.kernels.layouts import PLAIN_OPERATORS, image_shape
from dlas.kernels.shape import Conv2d

LIMIT_S = 40.0
"""Seconds for measuring; what they do not suffice for is decided by the rule."""
FOREVER = float("inf")
Key = tuple[str, str]
"""A primitive and the storage of its weights."""


def choose_measured(
    graph: Graph, choices: Mapping[str, Choice], costs: Costs, written: int
) -> dict[str, Choice]:
    """Return the choices with `best` replaced by what measuring says.

    Args:
        graph: the network.
        choices: the choice of each operator by the rule.
        costs: where seconds come from.
        written: threads that the loops are written for.
    """
    problem = _Problem(graph, choices, costs, written)
    sides = problem.solve()
    nodes = {node.name: node for node in graph.nodes}
    return {
        name: problem.chosen(nodes[name], sides[name]) if nodes[name].op == "conv2d" else choice
        for name, choice in choices.items()
    }


class _Problem:
    """Costs of the operators of a graph on each side, and of the changes between them."""

    def __init__(
        self, graph: Graph, choices: Mapping[str, Choice], costs: Costs, written: int
    ) -> None:
        self.graph, self.choices, self.costs, self.written = graph, choices, costs, written
        self.lanes = costs.cpu.lanes
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
            for key, primitive in primitives.PRIMITIVES.items()
            if key[0] != "native" and key[1] in formats and primitive.why_not(op) is None
        ]
        found = self.costs.of([self._task(node, op, key) for key in keys])
        return {k: s for k, s in zip(keys, found, strict=True) if s is not None}

    def _task(self, node: Node, op: Conv2d, key: Key) -> Task:
        weight = node.attrs["weight"]
        zeros = 1 - np.count_nonzero(weight) / weight.size if key[1] == "csr" else 0.0
        return {
            "kind": "conv", "op": _lists(asdict(op)), "primitive": key[0], "weights": key[1],
            "written": self.written, "zeros": round(float(zeros), 1),
        }  # fmt: skip

    def _blocked(self, key: Key) -> bool:
        return primitives.PRIMITIVES[key].block(self.costs.cpu) > 1

    def _side(self, node: Node) -> tuple[float, float]:
        """Return the seconds of an operator that is plain, and of one that is blocked."""
        if node.op == "conv2d":
            seconds = self.seconds.get(node.name)
            if not seconds:  # not `best`, or not measured: it stays where the rule has put it
                choice = self.choices[node.name]
                stays = self._blocked((choice.primitive, choice.weights))
                return (FOREVER, 0.0) if stays else (0.0, FOREVER)
            sides = {False: FOREVER, True: FOREVER}
            for key, cost in seconds.items():
                side = self._blocked(key)
                sides[side] = min(sides[side], cost)
            return sides[False], sides[True]
        image = len(self.graph.values[node.inputs[0]].shape) == 4
        return (0.0, 0.0) if image and node.op not in PLAIN_OPERATORS else (0.0, FOREVER)

    def solve(self) -> dict[str, bool]:
        """Return whether each operator is blocked."""
        sides = [self._side(node) for node in self.graph.nodes]
        image = len(sides)  # what comes from outside, and goes there: plain
        edges: list[tuple[int, int, float]] = []
        for node in self.graph.nodes:
            for turn, name in enumerate(node.inputs):
                if name not in self.graph.constants:
                    edges += self._edges(node, turn, name, image)
        for name in self.graph.outputs:
            if name in self.producers:
                made = self.place[self.producers[name].name]
                edges.append((made, image, self._change(name, blocked=False)))
        plain, blocked = [s[0] for s in sides], [s[1] for s in sides]
        answer = cheapest([*plain, 0.0], [*blocked, FOREVER], edges)
        return {node.name: answer[at] for at, node in enumerate(self.graph.nodes)}

    def _edges(self, node: Node, turn: int, name: str, image: int) -> list[tuple[int, int, float]]:
        made = self.place[self.producers[name].name] if name in self.producers else image
        reader = self.place[node.name]
        if node.op == "conv2d" and turn == 0 and self._reads_plain(node):
            reader = image
        flexible = node.op not in ("conv2d", *PLAIN_OPERATORS)
        if flexible and turn == 0 and node.op != "concat":
            # It takes its layout from its first input.
            return [(made, reader, FOREVER), (reader, made, FOREVER)]
        return [
            (made, reader, self._change(name, blocked=False)),
            (reader, made, self._change(name, blocked=True)),
        ]

    def _reads_plain(self, node: Node) -> bool:
        """Whether even the blocked kernels read plain channels (an image of few)."""
        needs = primitives.find("spatial-pack").needs
        return needs(node.attrs["conv"], self.costs.cpu, FIXED).block == 1

    def _change(self, name: str, blocked: bool) -> float:
        """Return the seconds of a change of layout; one that is not measured counts by bytes."""
        nchw = image_shape(self.graph.values[name].shape)
        if len(self.graph.values[name].shape) != 4 or nchw[2:] == (1, 1):
            return 0.0
        plain, packed = [1, [0, 0, 0, 0]], [self.lanes, [1, 1, 1, 1] if blocked else [0, 0, 0, 0]]
        task = {
            "kind": "relayout", "nchw": list(nchw), "written": self.written,
            "source": plain if blocked else packed, "goal": packed if blocked else plain,
        }  # fmt: skip
        (seconds,) = self.costs.of([task])
        return 8 * float(np.prod(nchw)) / 4e9 if seconds is None else seconds

    def chosen(self, node: Node, blocked: bool) -> Choice:
        """Return the choice of a convolution, the fastest of its side, with what was measured."""
        before = self.choices[node.name]
        seconds = self.seconds.get(node.name)
        if before.asked != "best":
            return before
        if not seconds:
            return before._replace(measured={"note": "by the rule: no time left for measuring"})
        own = {k: s for k, s in seconds.items() if self._blocked(k) == blocked}
        primitive, weights = min(own, key=lambda k: own[k])
        reason = before.reason
        if before.weights == "csr" and weights == "dense":
            reason = "dense weights were measured faster"
        said = {f"{p} {w}": s for (p, w), s in sorted(seconds.items())}
        return before._replace(
            primitive=primitive, weights=weights, reason=reason, measured={"seconds": said}
        )


def _lists(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields as JSON reads them back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
