"""Operators of plain row-major tensors: layer normalization, softmax."""

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import exp
from dlas.kernels.ground.target import CpuTarget
from dlas.kernels.operators.quantized import LaneTypes, quotient


@dataclass(frozen=True)
class LayerNorm:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis of [rows, width].

    Perhaps quantized: `numbers` are the scale, its zero point and its inverse then.
    """

    rows: int
    width: int
    epsilon: float
    target: CpuTarget
    threads: int
    quantized: bool = False
    exact: bool = False
    """Whether that scale is `plain`."""

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, gamma, beta, [numbers], y)."""
        lanes = self.target.lanes
        function = emit.Function(name, vectors=self.quantized)
        with function.body():
            x = emit.argument("x", (self.rows, self.width))
            gamma = emit.argument("gamma", (self.width,))
            beta = emit.argument("beta", (self.width,))
            numbers = emit.argument("numbers", (3,)) if self.quantized else None
            stored = "uint8" if self.quantized else "float32"
            y = emit.argument("y", (self.rows, self.width), stored)
            with emit.outer(self.rows, self.threads) as row:
                one = T.alloc_buffer((2,), "float32")
                mean = _sum(self.width, lanes, lambda c: x[row, c]) * T.float32(1 / self.width)
                emit.store(one, mean, 0)
                square = _sum(
                    self.width, lanes, lambda c: (x[row, c] - one[0]) * (x[row, c] - one[0])
                )
                spread = square * T.float32(1 / self.width) + T.float32(self.epsilon)
                emit.store(one, T.float32(1) / T.sqrt(spread), 1)
                if numbers is None:
                    emit.each(
                        self.width,
                        lanes,
                        lambda c: emit.store(
                            y, (x[row, c] - one[0]) * one[1] * gamma[c] + beta[c], row, c
                        ),
                    )
                else:
                    self._bytes((x, gamma, beta, numbers, y), one, row)
        return function.result

    def _bytes(self, buffers: tuple[Buffer, ...], one: Buffer, row: Expr) -> None:
        """Emit a row, quantized; `one`: its mean, and one over its deviation."""
        x, gamma, beta, numbers, y = buffers

        def store(vector: LaneTypes, first: Expr) -> None:
            at = vector.at(first)
            off = (x[row, at] - vector.all(one[0])) * vector.all(one[1])
            value = off * gamma[at] + beta[at]
            steps = quotient(value, (numbers[0], numbers[2]), vector, self.exact)
            emit.store(y, vector.cast("uint8", vector.stored(steps, numbers[1])), row, at)

        lanes = self.target.lanes
        whole, rest = divmod(self.width, lanes)
        if whole:
            with T.serial(whole) as step:
                store(LaneTypes(lanes), step * lanes)
        if rest:
            with T.serial(rest) as i:
                store(LaneTypes(1), whole * lanes + i)


@dataclass(frozen=True)
class Softmax:
    """exp(x - max) / sum over the last axis of [rows, width]; exponentials by a polynomial."""

    rows: int
    width: int
    target: CpuTarget
    threads: int

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, y)."""
        lanes = self.target.lanes
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (self.rows, self.width))
            y = emit.argument("y", (self.rows, self.width))
            with emit.outer(self.rows, self.threads) as row:
                one = T.alloc_buffer((2,), "float32")
                emit.store(one, _fold(self.width, lanes, T.max, lambda c: x[row, c], x[row, 0]), 0)
                emit.each(
                    self.width, lanes, lambda c: emit.store(y, exp(x[row, c] - one[0]), row, c)
                )
                total = _sum(self.width, lanes, lambda c: y[row, c])
                emit.store(one, T.float32(1) / total, 1)
                emit.each(self.width, lanes, lambda c: emit.store(y, y[row, c] * one[1], row, c))
        return function.result


def _sum(width: int, lanes: int, term: Callable[[Expr], Expr]) -> Expr:
    """Emit the sum over a row; return it."""
    return _fold(width, lanes, lambda a, b: a + b, term, T.float32(0))


def _fold(
    width: int,
    lanes: int,
    join: Callable[[Expr, Expr], Expr],
    term: Callable[[Expr], Expr],
    start: Expr,
) -> Expr:
    """Emit a row's terms joined, every lane from `start` on; return the result."""
    whole, rest = divmod(width, lanes)
    found = emit.registers((lanes,))
    emit.each_lane(lanes, lambda j: emit.store(found, start, j))
    if whole:
        with T.serial(whole) as i:
            emit.each_lane(
                lanes, lambda j: emit.store(found, join(found[j], term(i * lanes + j)), j)
            )
    if rest:
        with T.serial(rest) as i:
            emit.store(found, join(found[0], term(whole * lanes + i)), 0)
    result = found[0]
    for j in range(1, lanes):
        result = join(result, found[j])
    return result
