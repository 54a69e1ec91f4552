"""What LiteRT's interpreter made of a network: which operators its delegate took, in which types.

A delegate (XNNPACK, on CPUs) takes over parts of a graph. The interpreter lists the operators of
the file as they were, and after them one node for each part that was taken: an operator ran by
itself where the output is reached through it, and in a delegate where a delegate's node gives
what it was there for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlas.layers.software.shared.work import Work

DELEGATE = "DELEGATE"
PRODUCTS = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "FULLY_CONNECTED", "BATCH_MATMUL",
)  # fmt: skip
"""Operators that multiply."""
TAKEN, ALONE = "XNNPACK", "built-in"
_TYPES = {"uint8": "int8"}


@dataclass(frozen=True)
class LiteRtOperator:
    """An operator of a LiteRT file."""

    kind: str
    name: str
    """What it writes is called so."""
    precision: str
    """The type of its first operand; unsigned and signed bytes are both int8."""
    runs_in: str
    """In :data:`TAKEN` or :data:`ALONE`."""

    @property
    def work(self) -> Work:
        """The operator as one that multiplies."""
        return Work(f"{self.kind} {self.name}", self.precision)


def operators(interpreter: Any) -> list[LiteRtOperator]:
    """Return the operators of a loaded network, in the order of its file."""
    nodes = interpreter._get_ops_details()
    names = {each["index"]: each["name"] for each in interpreter.get_tensor_details()}
    wanted = [int(each["index"]) for each in interpreter.get_output_details()]
    alone = _reached(nodes, wanted)
    return [
        LiteRtOperator(
            node["op_name"],
            names.get(int(node["outputs"][0]), str(node["index"])),
            _type(node),
            ALONE if node["index"] in alone else TAKEN,
        )
        for node in nodes
        if node["op_name"] != DELEGATE
    ]


def kernels(every: Sequence[LiteRtOperator]) -> dict[str, str]:
    """Return for each kind of operator where it ran, the type of its operand, and how many."""
    found: dict[str, Counter[str]] = {}
    for each in every:
        found.setdefault(each.kind, Counter())[f"{each.runs_in} {each.precision}"] += 1
    return {
        kind: ", ".join(f"{kernel} x{n}" for kernel, n in sorted(count.items()))
        for kind, count in sorted(found.items())
    }


def _reached(nodes: Sequence[Mapping[str, Any]], wanted: list[int]) -> set[int]:
    """Return the nodes that run themselves: walked from the outputs, delegates first."""
    gives: dict[int, Mapping[str, Any]] = {}
    for node in nodes:  # those of delegates come last, and hide what they took over
        gives |= {int(tensor): node for tensor in node["outputs"]}
    found: set[int] = set()
    while wanted:
        giver = gives.get(wanted.pop())
        if giver is not None and giver["index"] not in found:
            found.add(giver["index"])
            wanted += [int(tensor) for tensor in giver["inputs"] if tensor >= 0]
    return found


def _type(node: Mapping[str, Any]) -> str:
    import numpy as np

    kinds = [np.dtype(each).name for each in node["operand_types"][:1]]
    return _TYPES.get(kinds[0], kinds[0]) if kinds else "none"
