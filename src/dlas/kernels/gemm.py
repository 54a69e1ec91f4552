"""`gemm`: convolution as a matrix product, filters [O, K] times patches [K, pixels].

The matrix of patches (im2col) is never built whole: a band of output rows at a time is gathered
into a panel that stays in the cache, and from it one block of pixels at a time into a slab that is
read in order.
"""

from dataclasses import asdict, dataclass
from typing import Any

from tvm.tirx.script.builder import ir as T

from dlas.kernels import emit, rows
from dlas.kernels.emit import Buffer, Expr, PrimFunc
from dlas.kernels.epilogue import Epilogue
from dlas.kernels.knobs import FIXED, Knobs
from dlas.kernels.layout import NCHW, Array, Layout
from dlas.kernels.rows import RowTile
from dlas.kernels.shape import Conv2d
from dlas.kernels.staging import Staging
from dlas.kernels.target import CpuTarget

PANEL_BYTES = 1 << 19
"""A panel of patches and the filters of one row group share the second-level cache."""


@dataclass(frozen=True)
class Gemm:
    """One dense convolution as a matrix product, NCHW to NCHW."""

    op: Conv2d
    target: CpuTarget
    threads: int
    epilogue: Epilogue
    tile: RowTile
    knobs: Knobs = FIXED

    @property
    def depth(self) -> int:
        """Length K of the reduction."""
        return self.op.in_channels // self.op.groups * self.op.kernel[0] * self.op.kernel[1]

    @property
    def band(self) -> int:
        """Output rows gathered at a time."""
        return self.knobs.get("band", panel_rows(self.op, self.threads))

    @property
    def inp(self) -> Layout:
        """Layout of the input."""
        return NCHW

    @property
    def out(self) -> Layout:
        """Layout of the output."""
        return NCHW

    def constants(self, weight: Array, bias: Array | None) -> tuple[Array, ...]:
        """Return the packed filters and bias, in the order of the arguments."""
        packed = rows.pack_weight(self.op, weight, self.tile)
        return packed, rows.pack_bias(self.op, bias, self.tile)

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {"kernel": "gemm", "tile": asdict(self.tile)}

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [residual], y)."""
        op, tile = self.op, self.tile
        padded = op.groups * rows.row_groups(op, tile) * tile.rows
        outputs = op.batch * op.out_channels * op.out_height * op.out_width
        staging, slack = Staging(op), tile.vectors * self.target.lanes
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (*op.in_shape, 1))
            w = emit.argument("weight", (padded * self.depth,))
            b = emit.argument("bias", (padded,))
            r = emit.argument("residual", (outputs,)) if self.epilogue.residual else None
            y = emit.argument("y", (outputs,))
            staged = T.alloc_buffer((staging.size(slack),), "float32")
            bands = -(-op.out_height // self.band)
            with T.serial(op.batch) as n:
                staging.fill(x, n, staged, slack, self.threads)
                with emit.outer(op.groups * bands, self.threads) as job:
                    buffers = (staged, w, b, r, y)
                    self._job(staging, buffers, n, job // bands, job % bands * self.band)
        return function.result

    def _job(
        self,
        staging: Staging,
        buffers: tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer],
        n: Expr,
        group: Expr,
        row: Expr,
    ) -> None:
        full, rest = divmod(self.op.out_height, self.band)
        if full and rest:
            with T.If(row < full * self.band):
                with T.Then():
                    self._band(staging, buffers, n, group, (row, self.band))
                with T.Else():
                    self._band(staging, buffers, n, group, (row, rest))
        else:
            self._band(staging, buffers, n, group, (row, self.band))

    def _band(
        self,
        staging: Staging,
        buffers: tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer],
        n: Expr,
        group: Expr,
        band: tuple[Expr, int],
    ) -> None:
        op, tile, lanes = self.op, self.tile, self.target.lanes
        staged, w, bias, residual, y = buffers
        pixels = band[1] * op.out_width
        block = tile.vectors * lanes
        width = -(-pixels // block) * block
        panel = T.alloc_buffer((self.depth * width + lanes,), "float32")
        gather(staging, staged, panel, lanes, (group, *band, width))
        groups = rows.row_groups(op, tile)
        per_out = op.out_channels // op.groups
        run = T.alloc_buffer((groups * tile.rows * width,), "float32")
        slab = T.alloc_buffer((self.depth * block,), "float32")
        with T.serial(width // block) as q:
            # One block of pixels, its rows one behind the other: read once a row group.
            with T.serial(self.depth) as k, T.unroll(tile.vectors) as v:
                emit.each_lane(
                    lanes,
                    lambda j: emit.store(
                        slab,
                        panel[k * width + q * block + v * lanes + j],
                        k * block + v * lanes + j,
                    ),
                )
            with T.serial(groups) as g:
                job = group * groups + g
                acc = emit.registers((tile.rows, tile.vectors, lanes))
                rows.clear(acc, tile, lanes, bias, job * tile.rows)
                with T.serial(self.depth) as k:
                    weights = (w, (job * self.depth + k) * tile.rows)
                    rows.multiply_add(acc, tile, lanes, weights, (slab, k * block))
                at = g * tile.rows * width + q * block
                rows.spill(acc, tile, lanes, run, at, width)
        with T.serial(per_out) as o:
            channel = n * op.out_channels + group * per_out + o
            to = (channel * op.out_height + band[0]) * op.out_width
            goal = (y, residual, to)
            rows.finish(run, o * width, pixels, lanes, self.epilogue, goal)


def panel_rows(op: Conv2d, threads: int) -> int:
    """Return the output rows gathered at a time: what the cache holds, shared by the threads."""
    depth = op.in_channels // op.groups * op.kernel[0] * op.kernel[1]
    most = max(1, PANEL_BYTES // 4 // (depth * op.out_width))
    return min(op.out_height, most, -(-op.out_height // threads))


def gather(
    staging: Staging,
    staged: Buffer,
    panel: Buffer,
    lanes: int,
    goal: tuple[Expr, Expr, int, int],
) -> None:
    """Emit the panel [K, pixels of the band]; each row's overhang is overwritten by the next row.

    Args:
        staging: geometry of the copied image.
        staged: the copied image.
        panel: K * width + lanes floats.
        lanes: floats of a vector.
        goal: group, first output row, number of rows, width of the panel.
    """
    op = staging.op
    group, row, count, width = goal
    per_in = op.in_channels // op.groups
    pixels = count * op.out_width
    with T.serial(per_in * op.kernel[0] * op.kernel[1]) as k, T.serial(width - pixels) as rest:
        # The last block's overhang must hold numbers: denormals by chance would cost time.
        emit.store(panel, T.float32(0), k * width + pixels + rest)
    with (
        T.serial(per_in) as c,
        T.serial(op.kernel[0]) as kh,
        T.serial(op.kernel[1]) as kw,
        T.serial(count) as r,
        T.serial(-(-op.out_width // lanes)) as v,
    ):
        k = (c * op.kernel[0] + kh) * op.kernel[1] + kw
        start = staging.offset(group * per_in + c, kh, kw) + (row + r) * staging.pitch
        to = k * width + r * op.out_width + v * lanes
        emit.each_lane(lanes, lambda j: emit.store(panel, staged[start + v * lanes + j], to + j))
