"""Linear layers with CSR weights: a sparse matrix times few rows, or times many.

Few rows (a classifier): one dot product an output, four partial sums at a time. Many rows (a
transformer's tokens): the rows are transposed into a panel and the lanes are rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, sparse
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import activate
from dlas.kernels.convolution.direct_csr import zeros_or
from dlas.kernels.ground.layout import Array
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

_PARTS = 4


@dataclass(frozen=True)
class LinearCsr:
    """y = act(x W^T + bias + residual): x [rows, inside], y [rows, outside]."""

    rows: int
    inside: int
    outside: int
    target: CpuTarget
    threads: int
    activation: str | None
    residual: bool

    @property
    def lanes_are_rows(self) -> bool:
        """Whether there are rows enough to fill half a vector."""
        return self.rows * 2 >= self.target.lanes

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, starts, offsets, values, bias, [residual], y)."""
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (self.rows, self.inside))
            matrix = sparse.arguments(self.outside)
            bias = emit.argument("bias", (self.outside,))
            shape = (self.rows, self.outside)
            r = emit.argument("residual", shape) if self.residual else None
            y = emit.argument("y", shape)
            if self.lanes_are_rows:
                self._panel(x, matrix, bias, r, y)
            else:
                self._dots(x, matrix, bias, r, y)
        return function.result

    def _store(self, value: Expr, m: Expr, o: Expr, residual: Buffer | None, y: Buffer) -> None:
        if residual is not None:
            value = value + residual[m, o]
        emit.store(y, activate(value, self.activation), m, o)

    def _dots(
        self, x: Buffer, matrix: sparse.Csr, bias: Buffer, residual: Buffer | None, y: Buffer
    ) -> None:
        with emit.outer(self.outside, self.threads) as o, T.serial(self.rows) as m:
            sums = emit.registers((_PARTS,))
            emit.each_lane(_PARTS, lambda p: emit.store(sums, T.float32(0), p))
            first, count = matrix.starts[o], matrix.starts[o + 1] - matrix.starts[o]
            with T.serial(count // _PARTS) as step:
                for p in range(_PARTS):
                    k = first + step * _PARTS + p
                    product = matrix.values[k] * x[m, matrix.offsets[k]]
                    emit.store(sums, sums[p] + product, p)
            with T.serial(count % _PARTS) as rest:
                k = first + count // _PARTS * _PARTS + rest
                emit.store(sums, sums[0] + matrix.values[k] * x[m, matrix.offsets[k]], 0)
            total = bias[o]
            for p in range(_PARTS):
                total = total + sums[p]
            self._store(total, m, o, residual, y)

    def _panel(
        self, x: Buffer, matrix: sparse.Csr, bias: Buffer, residual: Buffer | None, y: Buffer
    ) -> None:
        lanes, width = self.target.lanes, self.width
        block = sparse.flat_block(self.target, self.vectors)
        step = self.vectors * lanes
        panel = T.alloc_buffer((self.inside * width,), "float32")
        with emit.outer(self.inside, self.threads) as k, T.serial(width) as m:
            value = T.if_then_else(m < self.rows, x[T.min(m, self.rows - 1), k], T.float32(0))
            emit.store(panel, value, k * width + m)
        with emit.outer(self.outside, self.threads) as o:
            sums = T.alloc_buffer((width,), "float32")
            with T.serial(width // step) as q:
                source, goal = (panel, q * step), (sums, q * step)
                sparse.product(self.target, matrix, (bias, o), o, block, source, goal)
            with T.serial(self.rows) as m:
                self._store(sums[m], m, o, residual, y)

    @property
    def vectors(self) -> int:
        """Vectors of a block of rows."""
        return sparse.block_vectors(self.rows, self.target)

    @property
    def width(self) -> int:
        """Floats of one row of the transposed panel."""
        block = self.vectors * self.target.lanes
        return -(-self.rows // block) * block

    def constants(self, weight: Array, bias: Array | None) -> tuple[Any, ...]:
        """Return (starts, offsets, values, bias) of a weight [outside, inside]."""
        op = Conv2d(1, self.inside, 1, 1, self.outside, (1, 1))
        stride = self.width if self.lanes_are_rows else 1
        taps = (np.arange(self.inside, dtype=np.int32) * stride).reshape(1, -1, 1, 1)
        shaped = weight.reshape(self.outside, self.inside, 1, 1)
        return (*sparse.pack(op, shaped, taps), zeros_or(bias, op))

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        kind = "rows in lanes" if self.lanes_are_rows else "dot products"
        return {"kernel": f"linear csr, {kind}"}
