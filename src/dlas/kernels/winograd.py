"""`winograd`: 3x3 convolutions of stride 1 with fewer multiplications.

F(m x m, 3 x 3) computes an m x m tile of outputs from an (m+2) x (m+2) tile of inputs with (m+2)^2
multiplications instead of 9 m^2: transform the input tile, multiply by transformed filters (a
matrix product over channels for each of the (m+2)^2 positions), transform back. Lavin and Gray,
"Fast Algorithms for Convolutional Neural Networks", CVPR 2016. Filters are transformed ahead of
time, in float64. A chunk of tiles goes through all three steps while it stays in the cache.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script.builder import ir as T

from dlas.kernels import emit
from dlas.kernels.emit import Buffer, Expr, PrimFunc
from dlas.kernels.epilogue import Epilogue, activate
from dlas.kernels.knobs import FIXED, Knobs
from dlas.kernels.layout import Array, Halo, Layout
from dlas.kernels.shape import Conv2d
from dlas.kernels.spatial_pack import pack_bias
from dlas.kernels.target import CpuTarget

Matrix = tuple[tuple[float, ...], ...]

# Per output tile size m: B^T (input), G (filter), A^T (output).
TRANSFORMS: dict[int, tuple[Matrix, Matrix, Matrix]] = {
    2: (
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    4: (
        (
            (4, 0, -5, 0, 1, 0),
            (0, -4, -4, 1, 1, 0),
            (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, 4, 0, -5, 0, 1),
        ),
        (
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
        ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    ),
}
CHUNK_BYTES = 3 << 18
"""Transformed inputs and sums of one chunk of tiles: three quarters of a megabyte."""
LARGE_FILTERS_BYTES = 16 << 20
"""Above this, F(4x4)'s filters no longer come from a cache; F(2x2)'s are less than half."""


def why_not(op: Conv2d) -> str | None:
    """Return why Winograd cannot do this operator, None if it can."""
    if op.kernel != (3, 3):
        return f"winograd needs a 3x3 kernel, got {op.kernel[0]}x{op.kernel[1]}"
    if op.stride != (1, 1) or op.dilation != (1, 1):
        return f"winograd needs stride and dilation 1, got {op.stride} and {op.dilation}"
    if op.groups != 1:
        return f"winograd needs one group, got {op.groups}"
    return None


def default_outputs(op: Conv2d) -> int:
    """Return m, the outputs a tile has on a side: the fixed rule."""
    filters = 36 * 4 * op.in_channels * op.out_channels
    small = max(op.out_height, op.out_width) <= 2
    return 2 if filters > LARGE_FILTERS_BYTES or small else 4


def needed_halo(op: Conv2d, m: int) -> Halo:
    """Return the padding, widened by what the last tiles overhang."""
    top, left, bottom, right = op.padding
    return (top, left, bottom + -op.out_height % m, right + -op.out_width % m)


@dataclass(frozen=True)
class Winograd:
    """One dense 3x3 convolution of stride 1 by F(m x m, 3 x 3), blocked channels."""

    op: Conv2d
    target: CpuTarget
    threads: int
    inp: Layout
    out: Layout
    epilogue: Epilogue
    m: int
    knobs: Knobs = FIXED

    @property
    def side(self) -> int:
        """Inputs a tile has on a side."""
        return self.m + 2

    @property
    def blocks(self) -> tuple[int, int]:
        """Channel blocks of the input and of the output."""
        lanes = self.target.lanes
        return (-(-self.op.in_channels // lanes), -(-self.op.out_channels // lanes))

    @property
    def group(self) -> int:
        """Output blocks that a register tile holds."""
        most = 4 if self.target.registers >= 32 else 2
        fixed = next(b for b in range(most, 0, -1) if self.blocks[1] % b == 0)
        return self.knobs.get("blocks", fixed)

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles down and across."""
        return (-(-self.op.out_height // self.m), -(-self.op.out_width // self.m))

    @property
    def columns(self) -> int:
        """Tiles that a register tile holds."""
        fixed = max(1, self.target.accumulators // self.group)
        return min(self.grid[0] * self.grid[1], self.knobs.get("columns", fixed))

    @property
    def chunk(self) -> int:
        """Tiles that go through the three steps together: whole register tiles."""
        per_tile = self.side**2 * sum(self.blocks) * self.target.lanes * 4
        tiles = self.grid[0] * self.grid[1]
        # Every chunk reads all filters once: large filters want few chunks.
        filters = self.side**2 * self.blocks[0] * self.blocks[1] * self.target.lanes**2 * 4
        budget = max(CHUNK_BYTES, filters // 4)
        most = max(1, budget // per_tile // self.columns)
        shared = max(1, -(-tiles // self.threads // self.columns))
        return self.columns * self.knobs.get("passes", min(most, shared))

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, filters, bias, [residual], y)."""
        op, lanes, (inside, outside) = self.op, self.target.lanes, self.blocks
        points = self.side**2
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", self.inp.shape(op.in_shape))
            w = emit.argument("filters", (points * inside * outside * lanes * lanes,))
            b = emit.argument("bias", (outside * lanes,))
            r = None
            if self.epilogue.residual:
                r = emit.argument("residual", self.epilogue.residual.shape(op.out_shape))
            y = emit.argument("y", self.out.shape(op.out_shape))
            tiles = self.grid[0] * self.grid[1]
            chunks = -(-tiles // self.chunk)
            with emit.outer(op.batch * chunks, self.threads) as job:
                n, first = job // chunks, job % chunks * self.chunk
                v = T.alloc_buffer((points * inside * self.chunk * lanes,), "float32")
                s = T.alloc_buffer((points * outside * self.chunk * lanes,), "float32")
                self._transform_input(x, v, n, first)
                self._multiply(v, w, s)
                self._transform_output((s, b, r, y), n, first)
            if any(self.out.halo):
                with (
                    emit.outer(op.batch * outside, self.threads) as job,
                    T.serial(op.out_height) as h,
                ):
                    n, block = job // outside, job % outside
                    size = (op.out_height, op.out_width)
                    emit.zero_halo(y, n, block, h, size, self.out)
        return function.result

    def _transform_input(self, x: Buffer, v: Buffer, n: Expr, first: Expr) -> None:
        op, lanes, side = self.op, self.target.lanes, self.side
        inside, chunk = self.blocks[0], self.chunk
        up, left = self.inp.halo[0] - op.padding[0], self.inp.halo[1] - op.padding[1]
        last = self.grid[0] * self.grid[1] - 1
        with T.serial(inside) as c, T.serial(chunk) as p:
            # The last chunk may overhang: its extra tiles repeat the last one and are dropped.
            tile = T.min(first + p, last)
            row = tile // self.grid[1] * self.m + up
            col = tile % self.grid[1] * self.m + left
            half = emit.registers((side, side, lanes))
            bt = TRANSFORMS[self.m][0]
            for i in range(side):
                for j in range(side):
                    emit.each_lane(
                        lanes,
                        lambda k, i=i, j=j: emit.store(  # type: ignore[misc]
                            half,
                            _combine(bt[i], [x[n, c, row + a, col + j, k] for a in range(side)]),
                            i, j, k,
                        ),
                    )  # fmt: skip
            for i in range(side):
                for j in range(side):
                    at = (((i * side + j) * inside + c) * chunk + p) * lanes
                    emit.each_lane(
                        lanes,
                        lambda k, i=i, j=j, at=at: emit.store(  # type: ignore[misc]
                            v, _combine(bt[j], [half[i, a, k] for a in range(side)]), at + k
                        ),
                    )

    def _multiply(self, v: Buffer, w: Buffer, s: Buffer) -> None:
        lanes, group, columns, chunk = self.target.lanes, self.group, self.columns, self.chunk
        inside, outside = self.blocks
        with (
            T.serial(self.side**2) as point,
            T.serial(outside // group) as g,
            T.serial(chunk // columns) as q,
        ):
            acc = emit.registers((columns, group, lanes))
            with T.unroll(columns) as p, T.unroll(group) as o:
                emit.each_lane(lanes, lambda k: emit.store(acc, T.float32(0), p, o, k))
            with T.serial(inside) as c, T.serial(lanes) as i:
                step = ((point * (outside // group) + g) * inside + c) * lanes + i
                start = ((point * inside + c) * chunk + q * columns) * lanes + i
                with T.unroll(columns) as p, T.unroll(group) as o:
                    emit.each_lane(
                        lanes,
                        lambda k: emit.store(
                            acc,
                            acc[p, o, k]
                            + v[start + p * lanes] * w[(step * group + o) * lanes + k],
                            p, o, k,
                        ),
                    )  # fmt: skip
            with T.unroll(columns) as p, T.unroll(group) as o:
                block = point * outside + g * group + o
                at = (block * chunk + q * columns + p) * lanes
                emit.each_lane(lanes, lambda k: emit.store(s, acc[p, o, k], at + k))

    def _transform_output(
        self, buffers: tuple[Buffer, Buffer, Buffer | None, Buffer], n: Expr, first: Expr
    ) -> None:
        op, lanes, side, m = self.op, self.target.lanes, self.side, self.m
        s, bias, _, _ = buffers
        outside, chunk = self.blocks[1], self.chunk
        at_matrix = TRANSFORMS[m][2]
        tiles = self.grid[0] * self.grid[1]
        with T.serial(outside) as c, T.serial(chunk) as p, T.If(first + p < tiles), T.Then():
            tile = first + p
            row, col = tile // self.grid[1] * m, tile % self.grid[1] * m
            half = emit.registers((m, side, lanes))
            for i in range(m):
                for j in range(side):
                    places = [
                        (((a * side + j) * outside + c) * chunk + p) * lanes for a in range(side)
                    ]
                    emit.each_lane(
                        lanes,
                        lambda k, i=i, j=j, places=places: emit.store(  # type: ignore[misc]
                            half, _combine(at_matrix[i], [s[q + k] for q in places]), i, j, k
                        ),
                    )
            for i in range(m):
                for j in range(m):

                    def finish(k: Expr, i: int = i, j: int = j) -> None:
                        total = _combine(at_matrix[j], [half[i, a, k] for a in range(side)])
                        value = total + bias[c * lanes + k]
                        self._store(value, buffers, (n, c, row + i, col + j, k))

                    exists = _exists(op, m, row + i, col + j, (i, j))
                    if exists is None:
                        emit.each_lane(lanes, finish)
                    else:
                        with T.If(exists), T.Then():
                            emit.each_lane(lanes, finish)

    def _store(
        self,
        value: Expr,
        buffers: tuple[Buffer, Buffer, Buffer | None, Buffer],
        at: tuple[Expr, Expr, Expr, Expr, Expr],
    ) -> None:
        n, block, row, col, lane = at
        residual, y = buffers[2], buffers[3]
        if residual is not None and self.epilogue.residual is not None:
            top, left = self.epilogue.residual.halo[:2]
            value = value + residual[n, block, row + top, col + left, lane]
        top, left = self.out.halo[:2]
        value = activate(value, self.epilogue.activation)
        emit.store(y, value, n, block, row + top, col + left, lane)

    def constants(self, weight: Array, bias: Array | None) -> tuple[Array, ...]:
        """Return the transformed filters [point, group, I/b, b_in, group * b_out] and the bias."""
        lanes, (inside, outside) = self.target.lanes, self.blocks
        padded = np.zeros((outside * lanes, inside * lanes, 3, 3))
        padded[: self.op.out_channels, : self.op.in_channels] = weight
        g: npt.NDArray[np.float64] = np.array(TRANSFORMS[self.m][1])
        points = np.einsum("ia,ocab,jb->ijoc", g, padded, g, optimize=True)
        shape = (self.side**2, outside // self.group, self.group, lanes, inside, lanes)
        ordered = points.reshape(shape).transpose(0, 1, 4, 5, 2, 3)
        packed = np.ascontiguousarray(ordered.reshape(-1), np.float32)
        return packed, pack_bias(self.op, bias, self.target)

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {
            "kernel": f"winograd F({self.m}x{self.m},3x3)",
            "multiplications": self.op.batch
            * self.grid[0]
            * self.grid[1]
            * self.side**2
            * self.op.in_channels
            * self.op.out_channels,
            "tile": {"blocks": self.group, "columns": self.columns},
            "chunk": self.chunk,
        }


def _combine(row: tuple[float, ...], terms: list[Expr]) -> Expr:
    """Return the dot product of a constant row with expressions."""
    total = None
    for factor, term in zip(row, terms, strict=True):
        if factor == 0:
            continue
        part = term if factor == 1 else term * T.float32(factor)
        total = part if total is None else total + part
    return total


def _exists(op: Conv2d, m: int, row: Expr, col: Expr, at: tuple[int, int]) -> Expr:
    """Return the condition under which an output of a tile exists; None: it always does."""
    tests = []
    if at[0] > 0 and (op.out_height - 1) % m < at[0]:
        tests.append(row < op.out_height)
    if at[1] > 0 and (op.out_width - 1) % m < at[1]:
        tests.append(col < op.out_width)
    if not tests:
        return None
    return tests[0] if len(tests) == 1 else T.And(tests[0], tests[1])
