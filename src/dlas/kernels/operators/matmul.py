"""Products of two computed matrices, a batch of them: lanes are columns of the second.

Both factors are read where they lie. Where the second one's columns are no neighbours (keys, in a
product of queries and keys that was not recognized as attention), some of them at a time are
turned into a panel that the first-level cache holds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, transpose
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.register_tile import equal_segments
from dlas.kernels.ground.target import CpuTarget

PARTS = 2
"""Parts of the rows, a job each, where the batch may have too few matrices for all threads."""


class MatrixPlace(NamedTuple):
    """Where the matrices of one factor lie in a flat tensor, in elements."""

    size: int
    """Elements of the tensor."""
    first: int
    """Where the first one lies."""
    batch: tuple[int, ...]
    """From one matrix to the next, by axis of the batch; 0: it is the same one."""
    row: int
    column: int

    def at(self, index: tuple[Expr, ...], row: Expr, column: Expr) -> Expr:
        """Return where an element lies."""
        start: Expr = self.first
        for place, stride in zip(index, self.batch, strict=True):
            start = start + place * stride
        return start + row * self.row + column * self.column


@dataclass(frozen=True)
class Matmul:
    """y[..., rows, columns] = a[..., rows, depth] b[..., depth, columns]."""

    batch: tuple[int, ...]
    rows: int
    depth: int
    columns: int
    a: MatrixPlace
    b: MatrixPlace
    target: CpuTarget
    threads: int

    @property
    def held(self) -> int:
        """Vectors of sums that are held in registers."""
        return 24 if self.target.registers >= 32 else 12

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (a, b, y), all of them flat."""
        lanes, count = self.target.lanes, math.prod(self.batch)
        widest = 4 if self.target.registers >= 32 else 2
        function = emit.Function(name, vectors=True)
        with function.body():
            a = emit.argument("a", (self.a.size,))
            b = emit.argument("b", (self.b.size,))
            y = emit.argument("y", (count * self.rows * self.columns,))
            parts = min(PARTS, self.rows)
            each = -(-self.rows // parts)
            groups = equal_segments(-(-self.columns // lanes), widest)
            with emit.outer(count * parts, self.threads) as job:
                part = _MatrixRows(self, (a, b, y), job // parts, job % parts * each)
                for first, times, vectors in groups:
                    wide = vectors * lanes
                    present = min(wide, self.columns - (first + (times - 1) * vectors) * lanes)
                    whole = times if present == wide else times - 1
                    if whole:
                        with T.serial(whole) as turn:
                            part.emit((first + turn * vectors) * lanes, vectors, wide, each)
                    if present < wide:
                        part.emit((first + whole * vectors) * lanes, vectors, present, each)
        return function.result

    def index(self, matrix: Expr) -> tuple[Expr, ...]:
        """Return the place in the batch of a matrix by its number."""
        behind = [math.prod(self.batch[axis + 1 :]) for axis in range(len(self.batch))]
        return tuple(
            matrix // step % extent for step, extent in zip(behind, self.batch, strict=True)
        )

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {"kernel": "matmul", "second": "in place" if self.b.column == 1 else "turned"}


@dataclass(frozen=True)
class _MatrixRows:
    """Some rows of one matrix of the batch."""

    plan: Matmul
    buffers: tuple[Buffer, Buffer, Buffer]
    matrix: Expr
    first: Expr
    """First row."""

    def emit(self, column: Expr, vectors: int, present: int, rows: int) -> None:
        """Emit some vectors of columns, of which so many columns exist."""
        plan, lanes = self.plan, self.plan.target.lanes
        take = self._second(column, vectors * lanes, present)
        most = max(1, plan.held // vectors)
        for start, count, tall in equal_segments(rows, most):
            with T.serial(count) as turn:
                row = self.first + start + turn * tall
                if plan.rows % rows:  # the last part is shorter: its last tile is moved up
                    row = T.min(row, plan.rows - tall)
                self._tile(take, row, column, (tall, vectors, present))

    def _second(self, column: Expr, wide: int, present: int) -> Callable[[Expr, Expr], Expr]:
        """Return what reads row k, lane j of some columns: in place, or from a panel."""
        plan, b, index = self.plan, self.buffers[1], self.plan.index(self.matrix)

        def lies(k: Expr, j: Expr) -> Expr:
            return plan.b.at(index, k, column + j)

        if plan.b.column == 1 and present == wide:
            return lambda k, j: b[lies(k, j)]
        panel = T.alloc_buffer((plan.depth * wide,), "float32")
        side = transpose.SIDE
        across, down = present // side * side, plan.depth // side * side
        if plan.b.row != 1 or not across or not down:
            across = down = 0
        if across:
            with T.serial(across // side) as j, T.serial(down // side) as k:
                transpose.square(
                    lambda i: transpose.load(b, lies(k * side, j * side + i)),
                    lambda i, value: transpose.store(
                        panel, (k * side + i) * wide + j * side, value
                    ),
                )
        if down < plan.depth:
            with T.serial(plan.depth - down) as k, T.serial(across or present) as j:
                emit.store(panel, b[lies(down + k, j)], (down + k) * wide + j)
        if across and across < present:
            with T.serial(plan.depth) as k, T.serial(present - across) as j:
                emit.store(panel, b[lies(k, across + j)], k * wide + across + j)
        if present < wide:
            with T.serial(plan.depth) as k, T.serial(wide - present) as j:
                emit.store(panel, T.float32(0), k * wide + present + j)
        return lambda k, j: panel[k * wide + j]

    def _tile(
        self,
        take: Callable[[Expr, Expr], Expr],
        row: Expr,
        column: Expr,
        size: tuple[int, int, int],
    ) -> None:
        """Emit the sums of some rows times some vectors of columns."""
        plan, (a, _, y), (tall, vectors, present) = self.plan, self.buffers, size
        lanes, index = plan.target.lanes, plan.index(self.matrix)
        acc = emit.registers((tall, vectors, lanes))
        with T.unroll(tall) as i, T.unroll(vectors) as v:
            emit.each_lane(lanes, lambda j: emit.store(acc, T.float32(0), i, v, j))
        with T.serial(plan.depth) as k, T.unroll(tall) as i, T.unroll(vectors) as v:
            emit.each_lane(
                lanes,
                lambda j: emit.store(
                    acc,
                    acc[i, v, j] + take(k, v * lanes + j) * a[plan.a.at(index, row + i, k)],
                    i, v, j,
                ),
            )  # fmt: skip

        def to(i: Expr) -> Expr:
            return (self.matrix * plan.rows + row + i) * plan.columns + column

        whole, rest = divmod(present, lanes)
        if whole:
            with T.unroll(tall) as i, T.unroll(whole) as v:
                emit.each_lane(lanes, lambda j: emit.store(y, acc[i, v, j], to(i) + v * lanes + j))
        if rest:
            with T.unroll(tall) as i, T.unroll(rest) as j:
                emit.store(y, acc[i, whole, j], to(i) + whole * lanes + j)


def of(attrs: Mapping[str, Any], sizes: Sequence[int], target: CpuTarget, threads: int) -> Matmul:
    """Return the kernel of a node of the graph; one matrix may serve many of the other.

    Args:
        attrs: of both factors `shapes` and `places`.
        sizes: elements of the tensors in which they lie.
        target: the CPU.
        threads: threads that the loops are written for.
    """
    shapes = attrs["shapes"]
    batch = tuple(np.broadcast_shapes(*(shape[:-2] for shape in shapes)))
    factors = []
    for size, shape, (first, strides) in zip(sizes, shapes, attrs["places"], strict=True):
        missing = (0,) * (len(batch) + 2 - len(shape))
        kept = (s if e > 1 else 0 for e, s in zip(shape[:-2], strides[:-2], strict=True))
        factors.append(MatrixPlace(size, first, (*missing, *kept), *strides[-2:]))
    (rows, depth), columns = shapes[0][-2:], shapes[1][-1]
    a, b = factors
    return Matmul(batch, rows, depth, columns, a, b, target, threads)
