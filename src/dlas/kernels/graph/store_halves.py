"""Which images of a network in bfloat16 are stored so: those that every operator around knows."""

from collections.abc import Mapping
from dataclasses import replace

from dlas.kernels.code import half_images
from dlas.kernels.convolution import primitives
from dlas.kernels.graph.choose import Chosen
from dlas.kernels.graph.graph import Graph, Node
from dlas.kernels.ground.target import CpuTarget

OPERATORS = ("pool", "global_pool", "binary", "unary", "affine")
"""Those besides convolutions that widen what they read and round what they write."""
_IMAGE = 4
"""Dimensions of an image."""


def store_halves(graph: Graph, choices: Mapping[str, Chosen], target: CpuTarget) -> None:
    """Let images between operators be stored in bfloat16, where the CPU rounds to it.

    What comes from outside and goes there stays float32, and so does what some operator around
    knows in float32 alone.
    """
    if not half_images.possible(target):
        return
    producers, users = graph.producers(), graph.users()

    def known(node: Node, reads: bool) -> bool:
        if node.op != "conv2d":
            return node.op in OPERATORS
        choice = choices[node.name]
        primitive = primitives.find(choice.primitive, choice.weights, node.dtype)
        needed = primitive.needs(node.attrs["conv"], target, choice.knobs)
        return primitive.halves and not (reads and needed.block < target.lanes)

    for name, value in list(graph.values.items()):
        inside = name in producers and name not in graph.outputs
        if not inside or len(value.shape) != _IMAGE or value.dtype != "float32":
            continue
        if known(producers[name], False) and all(known(node, True) for node in users[name]):
            graph.values[name] = replace(value, dtype=half_images.BITS)
