"""Which algorithm each convolution runs by: from what the caller asked to one name an operator."""

from collections.abc import Mapping
from typing import NamedTuple

from dlas.kernels import primitives
from dlas.kernels.errors import UnsupportedError
from dlas.kernels.graph import Graph
from dlas.kernels.shape import Conv2d

Algorithm = str | Mapping[str, str]
FALLBACKS = ("spatial-pack", "direct")
"""Tried in this order for an operator that the asked primitive cannot do."""


class Choice(NamedTuple):
    """What one convolution was asked to run by, and what it runs by."""

    asked: str
    primitive: str
    reason: str | None
    """Why another primitive than the asked one runs; None if it does not."""


def choose(graph: Graph, algorithm: Algorithm) -> dict[str, Choice]:
    """Return the choice for each convolution of the graph, by operator name.

    A map may name operators and `*`, the choice for all others (without it: `best`).

    Raises:
        UnsupportedError: an unknown primitive, or a map that names no convolution of the graph.
    """
    names = {node.name for node in graph.nodes if node.op == "conv2d"}
    wanted: Mapping[str, str] = {"*": algorithm} if isinstance(algorithm, str) else algorithm
    unknown = sorted(set(wanted) - names - {"*"})
    if unknown:
        raise UnsupportedError(
            f"no convolution is called {', '.join(unknown)}; there are: {', '.join(sorted(names))}"
        )
    choices = {}
    for node in graph.nodes:
        if node.op == "conv2d":
            asked = wanted.get(node.name, wanted.get("*", "best"))
            choices[node.name] = _one(asked, node.attrs["conv"])
    return choices


def _one(asked: str, op: Conv2d) -> Choice:
    if asked == "best":
        return Choice(asked, "spatial-pack", None)
    reason = primitives.find(asked).why_not(op)
    if reason is None:
        return Choice(asked, asked, None)
    for name in FALLBACKS:
        if primitives.find(name).why_not(op) is None:
            return Choice(asked, name, reason)
    raise UnsupportedError(f"{asked}: {reason}; no fallback can do {op}")
