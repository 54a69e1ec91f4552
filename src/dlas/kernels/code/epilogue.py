"""What is fused into a kernel's last store: residual and activation (the bias starts the sum)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script.builder import ir as T

from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.layout import Layout

Expr = Any

_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# Minimax polynomial of (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, after Cephes' expf.
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)

_INVERSE = 0x7EF311C7
"""Bits from which a float's bits are subtracted to estimate its inverse."""
_NORMAL_BOUND = 5.656854249492381
"""From here on half the error function of x / sqrt(2) is a half."""
_NORMAL_TOP = (
    1.05574666e-10, -2.14599047e-08, 3.2546344e-06, 1.76361878e-04, 4.55420931e-03,
    3.6615068e-02, 0.398942255,
)  # fmt: skip
_NORMAL_BOTTOM = (6.38202695e-05, 1.8697683e-03, 2.94927753e-02, 0.258445988, 1.0)
"""Numerator and denominator, in x squared, of half the error function of x / sqrt(2), by x: the
coefficients of Eigen's rational approximation of the error function, scaled."""


@dataclass(frozen=True)
class Epilogue:
    """What follows the sum."""

    activation: str | None = None
    residual: Layout | None = None
    """Layout of the tensor that is added before the activation; None: nothing is added."""
    other_first: bool = False
    """In int8: whether what is added is the sum's first operand (roundings follow the order)."""
    table: bool = False
    """In int8: whether what is stored is looked up in a table."""


def let(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """Return body(value) with the value computed once.

    TVM's expressions are trees: what is written twice is lowered, simplified and compiled twice,
    and a tile of 24 sums with silu took ten times as long to build.
    """
    from tvm.tirx import Var

    name = Var("once", str(value.ty.dtype))
    return T.Let(body(name), where={name: value})


def exp(x: Expr) -> Expr:
    """Return e^x of a float32, relative error below 3e-7, vectorizable (no call to libm)."""

    def power(k: Expr, r: Expr) -> Expr:
        p = T.float32(_EXP[0])
        for c in _EXP[1:]:
            p = p * r + T.float32(c)
        p = p * r * r + r + T.float32(1.0)
        whole = T.shift_left(T.Cast("int32", k) + T.int32(127), T.int32(23))
        return p * T.reinterpret("float32", whole)

    def split(x: Expr, k: Expr) -> Expr:
        return let(x - k * T.float32(_LN2_HIGH) - k * T.float32(_LN2_LOW), lambda r: power(k, r))

    # In this order a NaN stays one: the second operand is taken where a comparison fails.
    inside = T.max(T.float32(-87.0), T.min(T.float32(88.0), x))
    return let(
        inside,
        lambda x: let(T.floor(x * T.float32(_LOG2E) + T.float32(0.5)), lambda k: split(x, k)),
    )


def sigmoid(x: Expr) -> Expr:
    """Return 1 / (1 + e^-x)."""
    # Past -87 the inverse would no longer be a normal number.
    return _inverse(T.float32(1.0) + exp(T.min(T.float32(0.0) - x, T.float32(87.0))))


def _inverse(x: Expr) -> Expr:
    """Return 1 / x for 1 <= x < 1e38, relative error below 3e-7.

    A division of a vector takes as long as thirty multiplications on x86. Subtracting the bits
    from a constant gives 1 / x within 12 %; each step of Newton's method squares the error.
    """

    def better(x: Expr, guess: Expr, steps: int) -> Expr:
        if steps == 0:
            return guess
        return let(guess * (T.float32(2.0) - x * guess), lambda g: better(x, g, steps - 1))

    def first(x: Expr) -> Expr:
        bits = T.int32(_INVERSE) - T.reinterpret("int32", x)
        return let(T.reinterpret("float32", bits), lambda guess: better(x, guess, 3))

    return let(x, first)


def _gelu(x: Expr) -> Expr:
    """Return x times the normal distribution at x, absolute error of the latter below 2e-7."""

    def polynomial(square: Expr, coefficients: tuple[float, ...]) -> Expr:
        p = T.float32(coefficients[0])
        for c in coefficients[1:]:
            p = p * square + T.float32(c)
        return p

    def ratio(low: Expr, held: Expr, square: Expr) -> Expr:
        top = held * polynomial(square, _NORMAL_TOP)
        return low * (T.float32(0.5) + top * _inverse(polynomial(square, _NORMAL_BOTTOM)))

    def known(low: Expr) -> Expr:
        inside = T.min(T.float32(_NORMAL_BOUND), low)
        return let(inside, lambda held: let(held * held, lambda t: ratio(low, held, t)))

    # Below the bound a large number would be multiplied by what is a zero but for its error. In
    # this order a NaN stays one, as in `exp`.
    return let(T.max(T.float32(-_NORMAL_BOUND), x), known)


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
        # Below -88 the sigmoid no longer falls: a large x times it would be no small number.
        return let(x, lambda x: T.max(T.float32(-88.0), x) * sigmoid(x))
    if activation == "sigmoid":
        return sigmoid(x)
    if activation == "gelu":
        return let(x, _gelu)
    raise UnsupportedError(f"unknown activation {activation!r}")
