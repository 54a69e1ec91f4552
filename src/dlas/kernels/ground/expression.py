"""Elementwise arithmetic as a tree, and what a tree makes of each number of a quantized tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlas.kernels.ground.quantization import HIGH, LOW, ByteTable, Scale

Floats = npt.NDArray[np.float32]
INPUT, NUMBER = "input", "number"


@dataclass(frozen=True)
class Expression:
    """A number, an input, or an operator on expressions."""

    op: str
    """`input`, `number`, or what the operator is called (`add`, `sigmoid`, ...)."""
    parts: tuple[Expression, ...] = ()
    value: float = 0
    """Of a number; of an input, which one it is."""

    def inputs(self) -> Iterator[int]:
        """Yield the inputs that it reads, one that is read twice twice."""
        if self.op == INPUT:
            yield int(self.value)
        for part in self.parts:
            yield from part.inputs()

    def operators(self) -> Iterator[str]:
        """Yield the operators in it."""
        if self.op not in (INPUT, NUMBER):
            yield self.op
        for part in self.parts:
            yield from part.operators()

    def text(self, names: Sequence[str] = ()) -> str:
        """Return it as people write it, inputs by their names (else `x0`, `x1`, ...)."""
        if self.op == INPUT:
            return names[int(self.value)] if names else f"x{int(self.value)}"
        if self.op == NUMBER:
            return f"{self.value:g}"
        parts = [part.text(names) for part in self.parts]
        if self.op in _SIGNS:
            return f"({f' {_SIGNS[self.op]} '.join(parts)})"
        return f"{self.op}({', '.join(parts)})"


_SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}


def given(at: int) -> Expression:
    """Return an input."""
    return Expression(INPUT, (), at)


def number(value: float) -> Expression:
    """Return a number."""
    return Expression(NUMBER, (), value)


def operator(op: str, *parts: Expression) -> Expression:
    """Return an operator on expressions; x * sigmoid(x) is `silu`."""
    if op == "multiply":
        for x, gate in (parts, parts[::-1]):
            if gate == Expression("sigmoid", (x,)):
                return Expression("silu", (x,))
    return Expression(op, parts)


# ---------------------------------------------------------------- values


def _exactly(function: Callable[..., Any]) -> Callable[..., Floats]:
    """Return a function of float32 whose result is rounded once."""

    def compute(*parts: Floats) -> Floats:
        return np.asarray(function(*(part.astype(np.float64) for part in parts)), np.float32)

    return compute


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _gelu(x: Any) -> Any:
    return x * (0.5 + 0.5 * _erf(x / math.sqrt(2)))


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


_erf = np.vectorize(math.erf, otypes=[np.float64])

OPERATORS: Mapping[str, Callable[..., Floats]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": _exactly(np.power),
    "negative": np.negative,
    "abs": np.abs,
    "square": np.square,
    "sqrt": np.sqrt,
    "exp": _exactly(np.exp),
    "log": _exactly(np.log),
    "tanh": _exactly(np.tanh),
    "erf": _exactly(_erf),
    "sigmoid": _exactly(_sigmoid),
    # As the model computes it: the sigmoid is rounded before the product.
    "silu": lambda x: x * _exactly(_sigmoid)(x),
    "gelu": _exactly(_gelu),
    "gelu_tanh": _exactly(_gelu_tanh),
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "relu6": lambda x: np.clip(x, np.float32(0), np.float32(6)),
}
"""What each operator makes of arrays of float32."""


def values(expression: Expression, inputs: Sequence[Floats]) -> Floats:
    """Return what an expression makes of its inputs, each operator in float32."""
    if expression.op == INPUT:
        return inputs[int(expression.value)]
    if expression.op == NUMBER:
        return np.float32(expression.value)  # type: ignore[return-value]
    parts = [values(part, inputs) for part in expression.parts]
    with np.errstate(all="ignore"):
        return OPERATORS[expression.op](*parts)


def of_bytes(expression: Expression, scale: Scale) -> Floats:
    """Return what an expression of one quantized tensor makes of each of the 256 numbers."""
    numbers = np.arange(LOW, HIGH + 1, dtype=np.int32) - scale.zero
    x = numbers.astype(np.float32) * np.float32(scale.scale)
    found = values(expression, [x] * (1 + max(expression.inputs(), default=0)))
    return np.broadcast_to(found, x.shape).astype(np.float32)


def table(expression: Expression, scale: Scale, out: Scale) -> ByteTable | None:
    """Return an expression of one quantized tensor, quantized again; None: a result is no number.

    Args:
        expression: the function.
        scale: of what it reads.
        out: of what is stored.
    """
    real = of_bytes(expression, scale)
    if np.isnan(real).any():
        return None
    with np.errstate(over="ignore"):
        steps = np.rint(real / np.float32(out.scale))
    stored = np.clip(steps + np.float32(out.zero), LOW, HIGH).astype(np.uint8)
    return ByteTable(stored.tobytes(), out, expression.text(["x"]))
