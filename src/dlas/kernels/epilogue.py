"""What is fused into a kernel's last store: residual and activation (the bias starts the sum)."""

from dataclasses import dataclass
from typing import Any

from tvm.tirx.script.builder import ir as T

from dlas.kernels.errors import UnsupportedError
from dlas.kernels.layout import Layout

Expr = Any

_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# Minimax polynomial of (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, after Cephes' expf.
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)

_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


@dataclass(frozen=True)
class Epilogue:
    """What follows the sum."""

    activation: str | None = None
    residual: Layout | None = None
    """Layout of the tensor that is added before the activation; None: nothing is added."""


def exp(x: Expr) -> Expr:
    """Return e^x of a float32, relative error below 3e-7, vectorizable (no call to libm)."""
    x = T.max(T.min(x, T.float32(88.0)), T.float32(-87.0))
    k = T.floor(x * T.float32(_LOG2E) + T.float32(0.5))
    r = x - k * T.float32(_LN2_HIGH) - k * T.float32(_LN2_LOW)
    p = T.float32(_EXP[0])
    for c in _EXP[1:]:
        p = p * r + T.float32(c)
    p = p * r * r + r + T.float32(1.0)
    power = T.shift_left(T.Cast("int32", k) + T.int32(127), T.int32(23))
    return p * T.reinterpret("float32", power)


def sigmoid(x: Expr) -> Expr:
    """Return 1 / (1 + e^-x)."""
    return T.float32(1.0) / (T.float32(1.0) + exp(T.float32(0.0) - x))


def erf(x: Expr) -> Expr:
    """Return the error function, absolute error below 3e-7 (Abramowitz and Stegun, 7.1.26)."""
    size = T.max(x, T.float32(0.0) - x)
    t = T.float32(1.0) / (T.float32(1.0) + T.float32(0.3275911) * size)
    p = T.float32(_ERF[0])
    for c in _ERF[1:]:
        p = p * t + T.float32(c)
    positive = T.float32(1.0) - p * t * exp(T.float32(0.0) - x * x)
    return T.Select(x < T.float32(0.0), T.float32(0.0) - positive, positive)


def activate(x: Expr, activation: str | None) -> Expr:
    """Apply the named activation.

    Raises:
        UnsupportedError: a name that is not known.
    """
    if activation is None:
        return x
    if activation == "relu":
        return T.max(x, T.float32(0.0))
    if activation == "relu6":
        return T.min(T.max(x, T.float32(0.0)), T.float32(6.0))
    if activation == "silu":
        return x * sigmoid(x)
    if activation == "sigmoid":
        return sigmoid(x)
    if activation == "gelu":
        return T.float32(0.5) * x * (T.float32(1.0) + erf(x * T.float32(0.7071067811865476)))
    raise UnsupportedError(f"unknown activation {activation!r}")
