"""`winograd`: 3x3 convolutions of stride 1 with fewer multiplications.

F(m x m, 3 x 3) computes an m x m tile of outputs from an (m+2) x (m+2) tile of inputs with (m+2)^2
multiplications instead of 9 m^2: transform the input tile, multiply by transformed filters (a
matrix product over channels for each of the (m+2)^2 positions), transform back. Lavin and Gray,
"Fast Algorithms for Convolutional Neural Networks", CVPR 2016. Filters are transformed ahead of
time, in float64. A chunk of tiles goes through all three steps while it stays in the cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.epilogue import activate
from dlas.kernels.code.numbers import FLOAT32, WIDENED
from dlas.kernels.convolution import space
from dlas.kernels.convolution.blocked_filters import pack_bias
from dlas.kernels.convolution.contract import Kernel, Primitive, Request, narrowed
from dlas.kernels.convolution.space import Space
from dlas.kernels.convolution.transforms import TRANSFORMS, combine
from dlas.kernels.convolution.winograd_tiles import WinogradTiles, default_outputs
from dlas.kernels.ground import types
from dlas.kernels.ground.knobs import Knobs
from dlas.kernels.ground.layout import Array, Halo, Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

Some = tuple[Expr, Expr]
"""First tile of a chunk, and its register tiles."""
Buffers = tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer]


def why_not(op: Conv2d) -> str | None:
    """Return why Winograd cannot do this operator, None if it can."""
    if op.kernel != (3, 3):
        return f"winograd needs a 3x3 kernel, got {op.kernel[0]}x{op.kernel[1]}"
    if op.stride != (1, 1) or op.dilation != (1, 1):
        return f"winograd needs stride and dilation 1, got {op.stride} and {op.dilation}"
    if op.groups != 1:
        return f"winograd needs one group, got {op.groups}"
    return None


def needed_halo(op: Conv2d, m: int) -> Halo:
    """Return the padding, widened by what the last tiles overhang."""
    top, left, bottom, right = op.padding
    return (top, left, bottom + -op.out_height % m, right + -op.out_width % m)


@dataclass(frozen=True)
class Winograd(WinogradTiles):
    """One dense 3x3 convolution of stride 1 by F(m x m, 3 x 3), blocked channels."""

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, filters, bias, [residual], y)."""
        op, lanes, (inside, outside) = self.op, self.target.lanes, self.blocks
        points = self.side**2
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", self.inp.shape(op.in_shape))
            each = points * inside * outside * lanes * lanes
            w = emit.argument("filters", (each,), self.numbers.filters)
            b = emit.argument("bias", (outside * lanes,))
            r = None
            if self.epilogue.residual:
                r = emit.argument("residual", self.epilogue.residual.shape(op.out_shape))
            y = emit.argument("y", self.out.shape(op.out_shape))
            chunks = -(-self.grid[0] * self.grid[1] // self.chunk)
            if self.by_outputs:
                with T.serial(op.batch * chunks) as job:
                    self._by_outputs((x, w, b, r, y), *self._some(job, chunks))
            else:
                with emit.outer(op.batch * chunks, self.threads) as job:
                    self._by_tiles((x, w, b, r, y), *self._some(job, chunks))
            if any(self.out.halo):
                with (
                    emit.outer(op.batch * outside, self.threads) as job,
                    T.serial(op.out_height) as h,
                ):
                    n, block = job // outside, job % outside
                    size = (op.out_height, op.out_width)
                    emit.zero_halo(y, n, block, h, size, self.out)
        return function.result

    def _some(self, job: Expr, chunks: int) -> tuple[Expr, Some]:
        """Return the image, and first tile and number of register tiles, of a chunk."""
        most = self.chunk // self.columns
        first = job % chunks * most
        steps = most if self.steps % most == 0 else T.min(most, self.steps - first)
        return job // chunks, (first * self.columns, steps)

    def _by_tiles(self, buffers: Buffers, n: Expr, some: Some) -> None:
        """Emit a chunk of tiles as one job."""
        x, w, b, r, y = buffers
        (inside, outside), groups = self.blocks, self.blocks[1] // self.group
        v = self._scratch(inside)
        s = self._scratch(outside)
        with T.serial(inside) as c:
            self._transform_input(x, v, n, some, c)
        self._multiply(v, w, s, some[1], (0, groups))
        with T.serial(outside) as c:
            self._transform_output((s, b, r, y), n, some, (c, c, outside))

    def _by_outputs(self, buffers: Buffers, n: Expr, some: Some) -> None:
        """Emit a chunk of tiles whose output channels are shared by the threads."""
        x, w, b, r, y = buffers
        inside, outside = self.blocks
        v = self._scratch(inside)
        with emit.outer(inside, self.threads) as c:
            self._transform_input(x, v, n, some, c)
        with emit.outer(outside // self.group, self.threads) as g:
            s = self._scratch(self.group)
            self._multiply(v, w, s, some[1], (g, 1))
            with T.serial(self.group) as o:
                block = g * self.group + o
                self._transform_output((s, b, r, y), n, some, (block, o, self.group))

    def _scratch(self, blocks: int) -> Buffer:
        """Return memory for a chunk's tiles of so many channel blocks at every point."""
        size = self.side**2 * self.stride(blocks) * self.target.lanes
        return T.alloc_buffer((size,), "float32")

    def _transform_input(self, x: Buffer, v: Buffer, n: Expr, some: Some, c: Expr) -> None:
        op, lanes, side = self.op, self.target.lanes, self.side
        inside, chunk = self.blocks[0], self.chunk
        up, left = self.inp.halo[0] - op.padding[0], self.inp.halo[1] - op.padding[1]
        last = self.grid[0] * self.grid[1] - 1
        with T.serial(some[1] * self.columns) as p:
            # The last step may overhang: its extra tiles repeat the last one and are dropped.
            tile = T.min(some[0] + p, last)
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
                            combine(bt[i], [x[n, c, row + a, col + j, k] for a in range(side)]),
                            i, j, k,
                        ),
                    )  # fmt: skip
            for i in range(side):
                for j in range(side):
                    at = ((i * side + j) * self.stride(inside) + c * chunk + p) * lanes
                    emit.each_lane(
                        lanes,
                        lambda k, i=i, j=j, at=at: emit.store(  # type: ignore[misc]
                            v, combine(bt[j], [half[i, a, k] for a in range(side)]), at + k
                        ),
                    )

    def _multiply(
        self, v: Buffer, w: Buffer, s: Buffer, steps: Expr, groups: tuple[Expr, int]
    ) -> None:
        """Emit the products of `count` groups of output blocks from the `first` on."""
        lanes, group, columns, chunk = self.target.lanes, self.group, self.columns, self.chunk
        inside, outside = self.blocks
        with (
            T.serial(self.side**2) as point,
            T.serial(groups[1]) as turn,
            T.serial(steps) as q,
        ):
            g = groups[0] + turn
            acc = emit.registers((columns, group, lanes))
            with T.unroll(columns) as p, T.unroll(group) as o:
                emit.each_lane(lanes, lambda k: emit.store(acc, T.float32(0), p, o, k))
            with T.serial(inside) as c, T.serial(lanes) as i:
                step = ((point * (outside // group) + g) * inside + c) * lanes + i
                start = (point * self.stride(inside) + c * chunk + q * columns) * lanes + i
                if self.filter_bytes >= emit.FETCHED_BYTES:
                    self._fetch(w, step, (q * inside + c) * lanes + i)
                with T.unroll(columns) as p, T.unroll(group) as o:
                    emit.each_lane(
                        lanes,
                        lambda k: emit.store(
                            acc,
                            acc[p, o, k]
                            + v[start + p * lanes]
                            * self.numbers.wide(w[(step * group + o) * lanes + k]),
                            p, o, k,
                        ),
                    )  # fmt: skip
            with T.unroll(columns) as p, T.unroll(group) as o:
                block = turn * group + o
                at = (
                    point * self.stride(groups[1] * group) + block * chunk + q * columns + p
                ) * lanes
                emit.each_lane(lanes, lambda k: emit.store(s, acc[p, o, k], at + k))

    def _fetch(self, w: Buffer, step: Expr, turn: Expr) -> None:
        """Emit what a step of a product fetches ahead; `turn` counts those of a group of outputs.

        All register tiles of a chunk read the group's filters, the first one from where they are;
        meanwhile those of the next group are fetched, evenly: memory is never waited for, and
        never idle.
        """
        lanes, group, shared = self.target.lanes, self.group, self.chunk // self.columns
        whole = self.blocks[0] * lanes * group
        first = step * group * lanes + emit.AHEAD_BYTES // emit.itemsize(w)
        if shared > 1:
            begun = step // (self.blocks[0] * lanes) * whole
            first = (begun + whole + turn * group // shared) * lanes
        emit.prefetch(w, first, -(-group // shared) * lanes)

    def _transform_output(
        self,
        buffers: tuple[Buffer, Buffer, Buffer | None, Buffer],
        n: Expr,
        some: Some,
        block: tuple[Expr, Expr, int],
    ) -> None:
        """Emit the outputs of one block of channels: its number, its place in how many sums."""
        op, lanes, side, m = self.op, self.target.lanes, self.side, self.m
        s, bias, _, _ = buffers
        chunk, (c, place, held) = self.chunk, block
        at_matrix = TRANSFORMS[m][2]
        tiles = self.grid[0] * self.grid[1]
        with T.serial(some[1] * self.columns) as p, T.If(some[0] + p < tiles), T.Then():
            tile = some[0] + p
            row, col = tile // self.grid[1] * m, tile % self.grid[1] * m
            half = emit.registers((m, side, lanes))
            for i in range(m):
                for j in range(side):
                    places = [
                        ((a * side + j) * self.stride(held) + place * chunk + p) * lanes
                        for a in range(side)
                    ]
                    emit.each_lane(
                        lanes,
                        lambda k, i=i, j=j, places=places: emit.store(  # type: ignore[misc]
                            half, combine(at_matrix[i], [s[q + k] for q in places]), i, j, k
                        ),
                    )
            for i in range(m):
                for j in range(m):

                    def finish(k: Expr, i: int = i, j: int = j) -> None:
                        total = combine(at_matrix[j], [half[i, a, k] for a in range(side)])
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
        padded[: self.op.out_channels, : self.op.in_channels] = self.numbers.rounded(weight)
        g: npt.NDArray[np.float64] = np.array(TRANSFORMS[self.m][1])
        points = np.einsum("ia,ocab,jb->ijoc", g, padded, g, optimize=True)
        shape = (self.side**2, outside // self.group, self.group, lanes, inside, lanes)
        ordered = points.reshape(shape).transpose(0, 1, 4, 5, 2, 3)
        packed = np.ascontiguousarray(ordered.reshape(-1), np.float32)
        return self.numbers.stored_filters(packed), pack_bias(self.op, bias, self.target)

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
            "threads_share": "output channels" if self.by_outputs else "tiles",
        }

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        op, cpu = self.op, self.target
        total = self.blocks[1]
        fixed = {
            "m": self.m,
            "blocks": self.group,
            "columns": self.columns,
            "passes": self.chunk // self.columns,
            "by_outputs": int(self.by_outputs),
        }
        fixed_held = self.group * self.columns
        values = {
            "m": (2, 4) if self.numbers is FLOAT32 else (self.m,),
            "blocks": tuple(b for b in range(1, 9) if total % b == 0),
            "columns": tuple(range(1, space.room(cpu) + 1)),
            "passes": space.COUNTS,
            "by_outputs": (0, 1) if self.threads > 1 else (0,),
        }

        def fits(s: Mapping[str, int]) -> bool:
            tiles = -(-op.out_height // s["m"]) * -(-op.out_width // s["m"])
            held = s["blocks"] * s["columns"]
            if not space.holds(held, fixed_held, cpu):
                return False
            # The last chunk may overhang, but not by a whole pass.
            return s["columns"] <= tiles and (s["passes"] - 1) * s["columns"] < tiles

        return Space.of(values, fixed, fits)


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


def _outputs(op: Conv2d, knobs: Knobs, dtype: str = "float32") -> int:
    """Return m of F(m x m, 3 x 3)."""
    return knobs.get("m", default_outputs(op, dtype))


def _needs(op: Conv2d, target: CpuTarget, knobs: Knobs, dtype: str = "float32") -> Layout:
    return Layout(target.lanes, needed_halo(op, _outputs(op, knobs, dtype)))


def _lower(op: Conv2d, r: Request, dtype: str = "float32") -> Kernel:
    m = _outputs(op, r.knobs, dtype)
    numbers = FLOAT32 if dtype == "float32" else WIDENED[dtype]
    return Winograd(op, r.target, r.threads, r.inp, r.out, r.epilogue, m, r.knobs, numbers)


PRIMITIVE = Primitive(
    "winograd", "dense", _needs, lambda op, target: target.lanes, _lower, why_not
)
NARROW = narrowed(PRIMITIVE, _needs, _lower, types.HALVES)
