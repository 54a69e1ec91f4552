"""Expressions written as TIR, and cut into parts that are computed otherwise."""

from collections.abc import Callable, Mapping

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code.emit import Expr
from dlas.kernels.code.epilogue import activate
from dlas.kernels.ground.expression import INPUT, NUMBER, Expression, given

_BINARY: Mapping[str, Callable[[Expr, Expr], Expr]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "maximum": T.max,
    "minimum": T.min,
}


def formula(expression: Expression, source: Callable[[int], Expr]) -> Expr:
    """Return a scalar of float32 (in `emit.each_lane`, a vector).

    Args:
        expression: what is computed, of operators that are written in float32.
        source: returns an input by its number.
    """
    if expression.op == INPUT:
        return source(int(expression.value))
    if expression.op == NUMBER:
        return T.float32(expression.value)
    parts = [formula(part, source) for part in expression.parts]
    if expression.op in _BINARY:
        return _BINARY[expression.op](*parts)
    return activate(parts[0], expression.op)


def cut(
    expression: Expression, apart: Callable[[Expression], bool], found: list[Expression]
) -> Expression:
    """Return an expression of which the largest parts that are `apart` have become inputs.

    Those are appended to `found`, each once; an input's number is its part's place there.
    """
    if apart(expression):
        if expression not in found:
            found.append(expression)
        return given(found.index(expression))
    parts = tuple(cut(part, apart, found) for part in expression.parts)
    return Expression(expression.op, parts, expression.value)
