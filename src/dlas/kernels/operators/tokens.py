"""Operators of plain row-major tensors: layer normalization, softmax."""

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Expr, PrimFunc
from dlas.kernels.code.epilogue import exp
from dlas.kernels.ground.target import CpuTarget


@dataclass(frozen=True)
class LayerNorm:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis of [rows, width]."""

    rows: int
    width: int
    epsilon: float
    target: CpuTarget
    threads: int

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, gamma, beta, y)."""
        lanes = self.target.lanes
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (self.rows, self.width))
            gamma = emit.argument("gamma", (self.width,))
            beta = emit.argument("beta", (self.width,))
            y = emit.argument("y", (self.rows, self.width))
            with emit.outer(self.rows, self.threads) as row:
                one = T.alloc_buffer((2,), "float32")
                mean = _sum(self.width, lanes, lambda c: x[row, c]) * T.float32(1 / self.width)
                emit.store(one, mean, 0)
                square = _sum(
                    self.width, lanes, lambda c: (x[row, c] - one[0]) * (x[row, c] - one[0])
                )
                spread = square * T.float32(1 / self.width) + T.float32(self.epsilon)
                emit.store(one, T.float32(1) / T.sqrt(spread), 1)
                emit.each(
                    self.width,
                    lanes,
                    lambda c: emit.store(
                        y, (x[row, c] - one[0]) * one[1] * gamma[c] + beta[c], row, c
                    ),
                )
        return function.result


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
