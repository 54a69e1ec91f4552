"""A network as a list of operators: what `compile_model` works on between import and code."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Value:
    """A tensor that flows between operators."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    zero: int = 0
    """What stands for zero in a quantized tensor: its halo holds it."""


@dataclass
class Node:
    """One operator.

    `op` is one of ours (conv2d, linear, affine, unary, binary, pool, global_pool, concat,
    attention, matmul, layer_norm, softmax, view, quantize, dequantize, lookup, pointwise) or
    `relax`: an operator that TVM's own definition computes (`attrs["call"]`).
    """

    name: str
    op: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """What the weights are stored in: `int8` where there are scales, else what was asked."""
        return "int8" if "quantization" in self.attrs else self.attrs.get("dtype", "float32")

    @property
    def output(self) -> str:
        """The only output."""
        (only,) = self.outputs
        return only


@dataclass
class Graph:
    """Operators in an order in which they can run."""

    inputs: list[str]
    outputs: list[str]
    nodes: list[Node]
    values: dict[str, Value]
    constants: dict[str, npt.NDArray[Any]]
    labels: dict[str, str] = field(default_factory=dict)
    """Constants that hold the weight of a named module."""

    def users(self) -> dict[str, list[Node]]:
        """Return the operators that read each value; an output of the graph counts as none."""
        found: dict[str, list[Node]] = {name: [] for name in self.values}
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return found

    def producers(self) -> dict[str, Node]:
        """Return the operator that computes each value."""
        return {name: node for node in self.nodes for name in node.outputs}

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """Return the array of a constant value, None of any other."""
        return self.constants.get(name)

    def add_constant(self, hint: str, array: npt.NDArray[Any]) -> str:
        """Add a constant under a new name and return that name."""
        name = f"{hint}#{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(array)
        self.values[name] = Value(tuple(array.shape), str(array.dtype))
        return name

    def rename(self, old: str, new: str) -> None:
        """Make every reader of `old` read `new`."""
        for node in self.nodes:
            node.inputs = [new if name == old else name for name in node.inputs]
        self.outputs = [new if name == old else name for name in self.outputs]

    def prune(self) -> None:
        """Drop operators whose results nobody reads."""
        needed = set(self.outputs)
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                kept.append(node)
        self.nodes = kept[::-1]
