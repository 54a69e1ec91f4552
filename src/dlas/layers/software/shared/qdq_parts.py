"""What a quantized ONNX model (QDQ) holds, and the operations that are made of it for PyTorch.

Numbers of eight bits are unsigned here, as PyTorch's kernels read activations: signed ones are
stored 128 higher, which changes their zero and not what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dlas.core.errors import StepError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    Numbers = NDArray[Any]

QUANTIZE, DEQUANTIZE, STORED = "quantize", "dequantize", "int8 constant"
CONV, LINEAR, ADD, CONCAT, CLAMP = (
    "int8 Conv", "int8 Linear", "int8 Add", "int8 Concat", "int8 Clamp",
)  # fmt: skip
LEVELS = 255
_SIGNED = 128


@dataclass(frozen=True)
class Operation:
    """What is computed: an operator of ONNX in float, or one in eight bits."""

    op: str
    inputs: tuple[str, ...]
    """Names of values or constants; an empty one is an input that is left out."""
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """A network: its operations in order, the constants that they read, and its ends."""

    operations: tuple[Operation, ...]
    constants: Mapping[str, Numbers]
    given: str
    made: str


@dataclass(frozen=True)
class Meaning:
    """What numbers of eight bits mean: ``scale * (number - zero)``."""

    scale: float
    zero: int

    def level(self, value: float) -> int:
        """Return the number that a value is rounded to."""
        return int(np.clip(np.rint(value / self.scale) + self.zero, 0, LEVELS))

    def attrs(self) -> dict[str, Any]:
        """Return it as attributes of an operation."""
        return {"scale": self.scale, "zero": self.zero}


@dataclass(frozen=True)
class StoredBytes:
    """A dequantized constant as it is stored."""

    numbers: Numbers
    scale: Numbers
    zero: Numbers
    axis: int

    def floats(self) -> Numbers:
        """Return the values."""
        shape = [1] * self.numbers.ndim
        if self.scale.size > 1:
            shape[self.axis % self.numbers.ndim] = -1
        wide = self.numbers.astype(np.int64) - self.zero.astype(np.int64).reshape(shape)
        values: Numbers = (wide * self.scale.astype(np.float64).reshape(shape)).astype(np.float32)
        return values

    def along(self, axis: int) -> bool:
        """Whether these are int8, symmetric, scaled as a whole or along an axis."""
        fits = self.scale.size == 1 or self.axis % self.numbers.ndim == axis
        return bool(fits and self.numbers.dtype == np.int8 and not self.zero.any())

    @property
    def one_scale(self) -> bool:
        """Whether these are eight bits with one scale."""
        return bool(self.scale.size == 1 and self.numbers.dtype in (np.uint8, np.int8))


class QdqReading:
    """What is known of a model while it is read, and the operations made so far."""

    def __init__(self) -> None:
        self.constants: dict[str, Numbers] = {}
        self.kept: dict[str, StoredBytes] = {}
        """Dequantized constants, by the name of the float value."""
        self.quantized: dict[str, tuple[str, Meaning]] = {}
        """Dequantized values: the numbers behind each, and what they mean."""
        self.operations: list[Operation] = []
        self._floats: set[str] = set()

    def add(self, op: str, inputs: Iterable[str], output: str, attrs: Mapping[str, Any]) -> None:
        """Add an operation with one output."""
        self.operations.append(Operation(op, tuple(inputs), (output,), attrs))

    def meaning(self, node: NodeProto) -> Meaning:
        """Return the scale with which a node quantizes an activation, or dequantizes it.

        Raises:
            StepError: it has several, is computed, or is wider than eight bits.
        """
        scale = self.constants.get(node.input[1])
        zero = self.constants.get(node.input[2]) if len(node.input) > 2 else np.zeros(1, np.uint8)
        if scale is None or zero is None or scale.size != 1 or zero.dtype.itemsize != 1:
            raise StepError(
                f"{node.output[0]} is quantized in another way than by one constant scale and "
                "eight bits, which PyTorch's kernels do not take"
            )
        return _meaning(scale, zero)

    def dequantized(self, node: NodeProto) -> None:
        """Remember what a DequantizeLinear reads: a constant, or numbers of eight bits."""
        name, (numbers, scale) = node.output[0], node.input[:2]
        if numbers not in self.constants:
            self.quantized[name] = numbers, self.meaning(node)
            return
        zero = (
            self.constants[node.input[2]]
            if len(node.input) > 2
            else np.zeros(1, self.constants[numbers].dtype)
        )
        axis = int(attributes(node).get("axis", 1))
        self.kept[name] = StoredBytes(self.constants[numbers], self.constants[scale], zero, axis)

    def value(self, name: str) -> Numbers | None:
        """Return a constant's values, None: it is computed."""
        return self.kept[name].floats() if name in self.kept else self.constants.get(name)

    def numbers(self, name: str) -> tuple[str, Meaning]:
        """Return the numbers behind a dequantized value, and what they mean."""
        if name not in self.kept:
            return self.quantized[name]
        kept, inner = self.kept[name], f"{name}, in eight bits"
        moved = _SIGNED if kept.numbers.dtype == np.int8 else 0
        meaning, stored = _meaning(kept.scale, kept.zero), f"{inner}, stored"
        if stored not in self.constants:
            self.constants[stored] = (kept.numbers.astype(np.int16) + moved).astype(np.uint8)
            self.add(STORED, [stored], inner, meaning.attrs())
        return inner, meaning

    def widened(self, names: Iterable[str]) -> None:
        """Let values that are wanted as floats be there: constants, or dequantized ones."""
        for name in names:
            if name in self._floats:
                continue
            if name in self.kept:
                self.constants[name] = self.kept[name].floats()
            elif name in self.quantized:
                numbers, meaning = self.quantized[name]
                self.add(DEQUANTIZE, [numbers], name, meaning.attrs())
            self._floats.add(name)


def _meaning(scale: Numbers, zero: Numbers) -> Meaning:
    moved = _SIGNED if zero.dtype == np.int8 else 0
    return Meaning(float(scale.reshape(())), int(zero.reshape(-1)[0]) + moved)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of an operator as plain values, tensors as they are."""
    from onnx import helper

    return {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
