"""Operators of plain row-major tensors: attention, layer normalization, softmax."""

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import exp
from dlas.kernels.ground.target import CpuTarget

_LOW = -1e30
"""Score of a key that is only padding: its exponential vanishes."""


@dataclass(frozen=True)
class Attention:
    """softmax(q k^T * scale) v for q, k, v of shape [batch, tokens, heads, depth].

    A job is some query rows of one head. Keys are transposed and values padded into scratch, so
    that the lanes are keys in the first product and depth in the second; one row of scores is
    complete before its softmax, so there is no rescaling.
    """

    batch: int
    queries: int
    keys: int
    heads: int
    depth: int
    value_depth: int
    scale: float
    target: CpuTarget
    threads: int

    @property
    def key_vectors(self) -> int:
        """Vectors of one row of scores."""
        return -(-self.keys // self.target.lanes)

    @property
    def depth_vectors(self) -> int:
        """Vectors of one row of values."""
        return -(-self.value_depth // self.target.lanes)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (q, k, v, y)."""
        lanes = self.target.lanes
        function = emit.Function(name)
        with function.body():
            q = emit.argument("q", (self.batch, self.queries, self.heads, self.depth))
            k = emit.argument("k", (self.batch, self.keys, self.heads, self.depth))
            v = emit.argument("v", (self.batch, self.keys, self.heads, self.value_depth))
            y = emit.argument("y", (self.batch, self.queries, self.heads, self.value_depth))
            parts = min(self.queries, 2)
            per_part = -(-self.queries // parts)
            with emit.outer(self.batch * self.heads * parts, self.threads) as job:
                n, head = job // (self.heads * parts), job // parts % self.heads
                width, deep = self.key_vectors * lanes, self.depth_vectors * lanes
                keys = T.alloc_buffer((self.depth * width,), "float32")
                values = T.alloc_buffer((self.keys * deep,), "float32")
                scores = T.alloc_buffer((width,), "float32")
                self._pack((k, v), (keys, values), n, head)
                with T.serial(per_part) as step:
                    row = job % parts * per_part + step
                    with T.If(row < self.queries), T.Then():
                        self._scores(q, keys, scores, (n, row, head))
                        total = self._softmax(scores)
                        self._combine(scores, values, total, y, (n, row, head))
        return function.result

    def _pack(
        self, source: tuple[Buffer, Buffer], goal: tuple[Buffer, Buffer], n: Expr, head: Expr
    ) -> None:
        lanes = self.target.lanes
        width, deep = self.key_vectors * lanes, self.depth_vectors * lanes
        with T.serial(width) as j, T.serial(self.depth) as d:
            key = source[0][n, T.min(j, self.keys - 1), head, d]
            emit.store(goal[0], T.if_then_else(j < self.keys, key, T.float32(0)), d * width + j)
        with T.serial(self.keys) as j, T.serial(deep) as d:
            value = source[1][n, j, head, T.min(d, self.value_depth - 1)]
            emit.store(goal[1], value, j * deep + d)

    def _scores(
        self, q: Buffer, keys: Buffer, scores: Buffer, at: tuple[Expr, Expr, Expr]
    ) -> None:
        lanes, width = self.target.lanes, self.key_vectors * self.target.lanes
        most = 16 if self.target.registers >= 32 else 8
        for first in range(0, self.key_vectors, most):
            count = min(most, self.key_vectors - first)
            self._score_block(q, (keys, scores), at, (first * lanes, count))
        with T.serial(width - self.keys) as rest:
            emit.store(scores, T.float32(_LOW), self.keys + rest)

    def _score_block(
        self,
        q: Buffer,
        buffers: tuple[Buffer, Buffer],
        at: tuple[Expr, Expr, Expr],
        block: tuple[int, int],
    ) -> None:
        """Emit the scores of `count` vectors of keys from key `start` on."""
        lanes, width = self.target.lanes, self.key_vectors * self.target.lanes
        keys, scores = buffers
        n, row, head = at
        start, count = block
        acc = emit.registers((count, lanes))
        with T.unroll(count) as i:
            emit.each_lane(lanes, lambda j: emit.store(acc, T.float32(0), i, j))
        with T.serial(self.depth) as d, T.unroll(count) as i:
            emit.each_lane(
                lanes,
                lambda j: emit.store(
                    acc,
                    acc[i, j] + q[n, row, head, d] * keys[d * width + start + i * lanes + j],
                    i, j,
                ),
            )  # fmt: skip
        with T.unroll(count) as i:
            emit.each_lane(
                lanes,
                lambda j: emit.store(
                    scores, acc[i, j] * T.float32(self.scale), start + i * lanes + j
                ),
            )

    def _softmax(self, scores: Buffer) -> Buffer:
        """Emit scores = exp(scores - max); return the one-element buffer of their sum."""
        lanes = self.target.lanes
        one, sums = T.alloc_buffer((2,), "float32"), emit.registers((lanes,))
        width = self.key_vectors * lanes
        emit.store(one, _fold(width, lanes, T.max, lambda c: scores[c], scores[0]), 0)
        emit.each_lane(lanes, lambda j: emit.store(sums, T.float32(0), j))
        with T.serial(self.key_vectors) as i:
            emit.each_lane(
                lanes,
                lambda j: emit.store(scores, exp(scores[i * lanes + j] - one[0]), i * lanes + j),
            )
            emit.each_lane(lanes, lambda j: emit.store(sums, sums[j] + scores[i * lanes + j], j))
        total = sums[0]
        for j in range(1, lanes):
            total = total + sums[j]
        emit.store(one, T.float32(1) / total, 1)
        return one

    def _combine(
        self, scores: Buffer, values: Buffer, one: Buffer, y: Buffer, at: tuple[Expr, Expr, Expr]
    ) -> None:
        lanes, count = self.target.lanes, self.depth_vectors
        deep = count * lanes
        n, row, head = at
        acc = emit.registers((count, lanes))
        with T.unroll(count) as i:
            emit.each_lane(lanes, lambda j: emit.store(acc, T.float32(0), i, j))
        with T.serial(self.keys) as key, T.unroll(count) as i:
            emit.each_lane(
                lanes,
                lambda j: emit.store(
                    acc, acc[i, j] + scores[key] * values[key * deep + i * lanes + j], i, j
                ),
            )
        for i in range(count):
            start, wide = i * lanes, min(lanes, self.value_depth - i * lanes)
            if wide == lanes:
                emit.each_lane(
                    lanes,
                    lambda j, i=i, start=start: emit.store(  # type: ignore[misc]
                        y, acc[i, j] * one[1], n, row, head, start + j
                    ),
                )
            else:
                for j in range(wide):
                    emit.store(y, acc[i, j] * one[1], n, row, head, start + j)


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
