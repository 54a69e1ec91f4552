"""Squares of 4 x 4 floats transposed in registers: how images become tiles, and tiles images."""

from collections.abc import Callable

import tvm
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr

SIDE = 4
"""Floats of a row of a square: a vector of 16 bytes, which every target has."""


def square(load: Callable[[int], Expr], store: Callable[[int, Expr], None]) -> None:
    """Emit store(j, column j) for the square whose row i is load(i), all of them vectors."""
    half, whole = emit.registers((SIDE, SIDE)), emit.registers((SIDE, SIDE))
    for i in (0, 2):
        pair = [load(i), load(i + 1)]
        _put(half, i, _pick(pair, (0, 4, 1, 5)))
        _put(half, i + 1, _pick(pair, (2, 6, 3, 7)))
    for i in (0, 1):
        pair = [_row(half, i), _row(half, i + 2)]
        _put(whole, 2 * i, _pick(pair, (0, 1, 4, 5)))
        _put(whole, 2 * i + 1, _pick(pair, (2, 3, 6, 7)))
    for j in range(SIDE):
        store(j, _row(whole, j))


def matrix(source: Buffer, goal: Buffer, shape: tuple[int, int]) -> None:
    """Emit goal [columns, rows] = source [rows, columns], both flat."""
    rows, columns = shape
    down, across = rows // SIDE * SIDE, columns // SIDE * SIDE
    if down and across:
        with T.serial(down // SIDE) as r, T.serial(across // SIDE) as c:
            square(
                lambda i: load(source, (r * SIDE + i) * columns + c * SIDE),
                lambda j, value: store(goal, (c * SIDE + j) * rows + r * SIDE, value),
            )
    for first, count, start, wide in (
        (down, rows - down, 0, columns),
        (0, down, across, columns - across),
    ):
        if count and wide:
            with T.serial(count) as r, T.serial(wide) as c:
                value = source[(first + r) * columns + start + c]
                emit.store(goal, value, (start + c) * rows + first + r)


def each_start(count: int, body: Callable[[Expr], None]) -> None:
    """Run body(first column) for squares that cover `count` columns; the last may overlap."""
    whole, rest = divmod(count, SIDE)
    if whole:
        with T.serial(whole) as step:
            body(step * SIDE)
    if rest:
        body(max(0, count - SIDE))


def load(buffer: Buffer, start: Expr) -> Expr:
    """Return four consecutive floats of a flat buffer."""
    return buffer[T.ramp(start, 1, SIDE)]


def store(buffer: Buffer, start: Expr, value: Expr) -> None:
    """Emit the store of four floats into a flat buffer."""
    emit.store(buffer, value, T.ramp(start, 1, SIDE))


def _pick(pair: list[Expr], places: tuple[int, ...]) -> Expr:
    return tvm.tirx.Shuffle(pair, [tvm.tirx.const(place, "int32") for place in places])


def _row(buffer: Buffer, row: int) -> Expr:
    return buffer[row, T.ramp(0, 1, SIDE)]


def _put(buffer: Buffer, row: int, value: Expr) -> None:
    emit.store(buffer, value, row, T.ramp(0, 1, SIDE))
