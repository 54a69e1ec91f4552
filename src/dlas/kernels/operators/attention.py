"""Attention in blocks, q, k and v read where they lie: in the product that they are cut from.

A job is a block of queries of one head. The queries are turned once, so that they are the lanes
of the scores: six keys times four vectors of queries stay in registers while the depth runs, a
softmax is a matter of whole vectors, and keys are read as they lie. Then six rows of the output
times four vectors of depth stay there while the keys run, which reads values as they lie, and
scores along neighbouring queries. Keys go by in chunks that the first-level cache holds with all
that is made of them; what was summed before is rescaled where a later chunk has a larger score
(Dao et al., "FlashAttention", NeurIPS 2022).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, transpose
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import exp
from dlas.kernels.code.register_tile import equal_segments
from dlas.kernels.ground.target import CpuTarget

CHUNK_KEYS = 64
"""Keys of a chunk, about: 16 kB of scores and of values each, at a depth of 64."""
_LOWEST = -3.4028234663852886e38
"""What no score is below."""


class TokenPlace(NamedTuple):
    """Where q, k or v lies in a flat tensor, in elements; along the depth they are neighbours."""

    size: int
    """Elements of the tensor."""
    first: int
    """Where the first of them lies."""
    image: int
    """From an image to the next, of one token and head."""
    token: int
    head: int

    def at(self, n: Expr, token: Expr, head: Expr) -> Expr:
        """Return where a token of a head begins."""
        return self.first + n * self.image + token * self.token + head * self.head


class QueryBlock(NamedTuple):
    """Equal blocks of queries, one after the other."""

    first: int
    """Number of the first one."""
    times: int
    vectors: int
    queries: int
    """Queries of a block that exist."""
    start: int
    """First query of the first block."""


class _Workspace(NamedTuple):
    """What a job keeps for itself."""

    turned: Buffer
    """Queries, scaled: [depth, queries]."""
    scores: Buffer
    """[keys of a chunk, queries]"""
    sums: Buffer
    """The output before it is divided: [queries, depth]."""
    peaks: Buffer
    """Largest score of each query so far."""
    totals: Buffer
    """Sum of the exponentials of each query so far."""
    fading: Buffer
    """What the sums so far are multiplied by."""
    values: Buffer | None
    """Values of a chunk in whole vectors, where those in place are not."""


class _QueryJob(NamedTuple):
    """Which block of queries of which head."""

    n: Expr
    head: Expr
    start: Expr
    block: QueryBlock
    own: _Workspace


@dataclass(frozen=True)
class Attention:
    """softmax(q k^T * scale) v into y of shape [batch, queries, heads, value depth]."""

    batch: int
    queries: int
    keys: int
    heads: int
    depth: int
    value_depth: int
    scale: float
    operands: tuple[TokenPlace, TokenPlace, TokenPlace]
    """Where q, k and v lie."""
    target: CpuTarget
    threads: int

    @property
    def held(self) -> int:
        """Sums that are held in registers, in vectors."""
        return 24 if self.target.registers >= 32 else 12

    @property
    def widest(self) -> int:
        """Vectors of a tile: of queries in the first product, of depth in the second."""
        return 4 if self.target.registers >= 32 else 2

    @property
    def deep(self) -> int:
        """Depth of the values in whole vectors."""
        return -(-self.value_depth // self.target.lanes) * self.target.lanes

    def blocks(self) -> list[QueryBlock]:
        """Return the blocks that a head's queries are cut into, as equal as whole vectors are."""
        lanes = self.target.lanes
        found: list[QueryBlock] = []
        for first, count, vectors in equal_segments(-(-self.queries // lanes), self.widest):
            at = sum(block.times for block in found)
            found.append(QueryBlock(at, count, vectors, vectors * lanes, first * lanes))
        last = found.pop()
        width = last.vectors * lanes
        start = last.start + (last.times - 1) * width
        if self.queries - start == width:
            return [*found, last]
        whole = [last._replace(times=last.times - 1)] if last.times > 1 else []
        at = last.first + last.times - 1
        return [*found, *whole, QueryBlock(at, 1, last.vectors, self.queries - start, start)]

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (q, k, v, y), all of them flat."""
        size = self.batch * self.queries * self.heads * self.value_depth
        function = emit.Function(name, vectors=True)
        with function.body():
            buffers = [
                emit.argument(what, (operand.size,))
                for what, operand in zip("qkv", self.operands, strict=True)
            ]
            buffers.append(emit.argument("y", (size,)))
            blocks = self.blocks()
            each = sum(block.times for block in blocks)
            with emit.outer(self.batch * self.heads * each, self.threads) as job:
                n, head = job // (self.heads * each), job // each % self.heads
                self._one_of(blocks, buffers, (n, head, job % each))
        return function.result

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {
            "kernel": "attention",
            "queries": [b.queries for b in self.blocks() for _ in range(b.times)],
            "chunk": CHUNK_KEYS,
        }

    def _one_of(
        self, blocks: list[QueryBlock], buffers: list[Buffer], at: tuple[Expr, ...]
    ) -> None:
        """Emit the code of the block whose number ends `at`."""
        block, *others = blocks
        if not others:
            self._block(block, buffers, at)
            return
        with T.If(at[2] < block.first + block.times):
            with T.Then():
                self._block(block, buffers, at)
            with T.Else():
                self._one_of(others, buffers, at)

    def _block(self, block: QueryBlock, buffers: list[Buffer], at: tuple[Expr, ...]) -> None:
        lanes = self.target.lanes
        width, (n, head, number) = block.vectors * lanes, at
        tall = self.held // block.vectors
        chunk = max(1, CHUNK_KEYS // tall) * tall
        ragged = self.deep != self.value_depth
        held = min(chunk, self.keys)
        sizes = (self.depth * width, held * width, block.queries * self.deep, width, width, width)
        turned, scores, sums, peaks, totals, fading = (
            T.alloc_buffer((size,), "float32") for size in sizes
        )
        values = T.alloc_buffer((held * self.deep,), "float32") if ragged else None
        own = _Workspace(turned, scores, sums, peaks, totals, fading, values)
        start = block.start + (number - block.first) * width
        job = _QueryJob(n, head, start, block, own)
        self._turn(buffers[0], job)
        emit.each(width, lanes, lambda j: emit.store(own.peaks, T.float32(_LOWEST), j))
        emit.each(width, lanes, lambda j: emit.store(own.totals, T.float32(0), j))
        size = block.queries * self.deep
        emit.each(size, lanes, lambda j: emit.store(own.sums, T.float32(0), j))
        whole, rest = divmod(self.keys, chunk)
        if whole:
            with T.serial(whole) as turn:
                self._chunk(buffers, job, turn * chunk, chunk)
        if rest:
            self._chunk(buffers, job, whole * chunk, rest)
        self._finish(buffers[3], job)

    def _turn(self, q: Buffer, job: _QueryJob) -> None:
        """Emit turned[d, query] = q[query, d] * scale, zero where there is no query."""
        side, width, turned = transpose.SIDE, job.block.vectors * self.target.lanes, job.own.turned
        rows, depth = job.block.queries, self.depth
        fours, deep = rows // side * side, depth // side * side

        def from_(query: Expr, d: Expr) -> Expr:
            return self.operands[0].at(job.n, job.start + query, job.head) + d

        def one(query: Expr, d: Expr) -> None:
            value = q[from_(query, d)] * T.float32(self.scale)
            emit.store(turned, value, d * width + query)

        if fours and deep:
            scale = T.Broadcast(T.float32(self.scale), side)
            with T.serial(fours // side) as r, T.serial(deep // side) as c:
                transpose.square(
                    lambda i: transpose.load(q, from_(r * side + i, c * side)),
                    lambda j, value: transpose.store(
                        turned, (c * side + j) * width + r * side, value * scale
                    ),
                )
        if deep < depth:
            with T.serial(fours) as query, T.serial(depth - deep) as d:
                one(query, deep + d)
        if fours < rows:
            with T.serial(rows - fours) as query, T.serial(depth) as d:
                one(fours + query, d)
        if rows < width:
            with T.serial(depth) as d, T.serial(width - rows) as query:
                emit.store(turned, T.float32(0), d * width + rows + query)

    def _chunk(self, buffers: list[Buffer], job: _QueryJob, first: Expr, keys: int) -> None:
        """Emit what a chunk of keys adds to the sums of a block of queries."""
        tall = self.held // job.block.vectors
        for start, count, rows in equal_segments(keys, tall):
            with T.serial(count) as turn:
                self._scores(buffers[1], job, (first, start + turn * rows), rows)
        self._softmax(job, keys)
        at = self._values(buffers[2], job, first, keys)
        groups = equal_segments(self.deep // self.target.lanes, self.widest)
        for start, count, vectors in groups:
            for row, times, rows in equal_segments(job.block.queries, self.held // vectors):
                with T.serial(count) as group, T.serial(times) as turn:
                    corner = (row + turn * rows, (start + group * vectors) * self.target.lanes)
                    self._combine(at, job, keys, corner, (rows, vectors))

    def _scores(self, k: Buffer, job: _QueryJob, at: tuple[Expr, Expr], rows: int) -> None:
        """Emit the scores of `rows` keys, the second number `at` within the chunk's."""
        lanes, vectors, (first, key) = self.target.lanes, job.block.vectors, at
        width = vectors * lanes
        acc = emit.registers((rows, vectors, lanes))
        with T.unroll(rows) as i, T.unroll(vectors) as v:
            emit.each_lane(lanes, lambda j: emit.store(acc, T.float32(0), i, v, j))
        place, turned = self.operands[1], job.own.turned
        with T.serial(self.depth) as d, T.unroll(rows) as i, T.unroll(vectors) as v:
            emit.each_lane(
                lanes,
                lambda j: emit.store(
                    acc,
                    acc[i, v, j]
                    + turned[d * width + v * lanes + j]
                    * k[place.at(job.n, first + key + i, job.head) + d],
                    i, v, j,
                ),
            )  # fmt: skip
        with T.unroll(rows) as i, T.unroll(vectors) as v:
            to = (key + i) * width + v * lanes
            emit.each_lane(lanes, lambda j: emit.store(job.own.scores, acc[i, v, j], to + j))

    def _softmax(self, job: _QueryJob, keys: int) -> None:
        """Emit scores = exp(scores - peak), and what that makes of peaks, totals and fading."""
        lanes, vectors, own = self.target.lanes, job.block.vectors, job.own
        width = vectors * lanes
        held, peak = emit.registers((vectors, lanes)), emit.registers((vectors, lanes))

        def each(body: Any) -> None:
            with T.unroll(vectors) as v:
                emit.each_lane(lanes, lambda j: body(v, j))

        def score(key: Expr, v: Expr, j: Expr) -> Expr:
            return own.scores[key * width + v * lanes + j]

        def weigh(key: Expr, v: Expr, j: Expr) -> None:
            value = exp(score(key, v, j) - peak[v, j])
            emit.store(own.scores, value, key * width + v * lanes + j)
            emit.store(held, held[v, j] + score(key, v, j), v, j)

        def fade(v: Expr, j: Expr) -> None:
            at = v * lanes + j
            emit.store(own.fading, exp(own.peaks[at] - peak[v, j]), at)
            emit.store(own.peaks, peak[v, j], at)
            emit.store(held, own.totals[at] * own.fading[at], v, j)

        each(lambda v, j: emit.store(peak, own.peaks[v * lanes + j], v, j))
        with T.serial(keys) as key:
            each(lambda v, j: emit.store(peak, T.max(peak[v, j], score(key, v, j)), v, j))
        each(fade)
        with T.serial(keys) as key:
            each(lambda v, j: weigh(key, v, j))
        each(lambda v, j: emit.store(own.totals, held[v, j], v * lanes + j))

    def _values(self, v: Buffer, job: _QueryJob, first: Expr, keys: int) -> Any:
        """Return what reads a value of a chunk: (key, depth) to a number; copied if ragged."""
        place, copy, deep = self.operands[2], job.own.values, self.deep

        def lies(key: Expr, d: Expr) -> Expr:
            return v[place.at(job.n, first + key, job.head) + d]

        if copy is None:
            return lies
        with T.serial(keys) as key:
            emit.each(
                self.value_depth,
                self.target.lanes,
                lambda d: emit.store(copy, lies(key, d), key * deep + d),
            )
            with T.serial(deep - self.value_depth) as rest:
                emit.store(copy, T.float32(0), key * deep + self.value_depth + rest)
        return lambda key, d: copy[key * deep + d]

    def _combine(
        self,
        value: Any,
        job: _QueryJob,
        keys: int,
        corner: tuple[Expr, Expr],
        size: tuple[int, int],
    ) -> None:
        """Emit sums = sums * fading + scores * values for some rows times some vectors."""
        lanes, (row, column), (rows, vectors), own = self.target.lanes, corner, size, job.own
        width = job.block.vectors * lanes
        acc = emit.registers((rows, vectors, lanes))

        def place(i: Expr, v: Expr) -> Expr:
            return (row + i) * self.deep + column + v * lanes

        with T.unroll(rows) as i, T.unroll(vectors) as v:
            emit.each_lane(
                lanes,
                lambda j: emit.store(
                    acc, own.sums[place(i, v) + j] * own.fading[row + i], i, v, j
                ),
            )
        with T.serial(keys) as key, T.unroll(rows) as i, T.unroll(vectors) as v:
            emit.each_lane(
                lanes,
                lambda j: emit.store(
                    acc,
                    acc[i, v, j]
                    + value(key, column + v * lanes + j) * own.scores[key * width + row + i],
                    i, v, j,
                ),
            )  # fmt: skip
        with T.unroll(rows) as i, T.unroll(vectors) as v:
            emit.each_lane(lanes, lambda j: emit.store(own.sums, acc[i, v, j], place(i, v) + j))

    def _finish(self, y: Buffer, job: _QueryJob) -> None:
        """Emit y = sums / totals."""
        wide, own = self.value_depth, job.own
        emit.each(
            job.block.vectors * self.target.lanes,
            self.target.lanes,
            lambda j: emit.store(own.totals, T.float32(1) / own.totals[j], j),
        )
        with T.serial(job.block.queries) as row:
            to = ((job.n * self.queries + job.start + row) * self.heads + job.head) * wide
            emit.each(
                wide,
                self.target.lanes,
                lambda d: emit.store(y, own.sums[row * self.deep + d] * own.totals[row], to + d),
            )


def of(
    attrs: Mapping[str, Any], sizes: Sequence[int], target: CpuTarget, threads: int
) -> Attention:
    """Return the kernel of a node of the graph.

    Args:
        attrs: `scale`, and of q, k and v `shapes` [batch, tokens, heads, depth] and `places`.
        sizes: elements of the tensors in which they lie.
        target: the CPU.
        threads: threads that the loops are written for.
    """
    (n, queries, heads, depth), (_, keys, _, _), (_, _, _, value_depth) = attrs["shapes"]
    q, k, v = (
        TokenPlace(size, first, *strides[:3])
        for size, (first, strides) in zip(sizes, attrs["places"], strict=True)
    )
    return Attention(
        n, queries, keys, heads, depth, value_depth, attrs["scale"], (q, k, v), target, threads
    )
