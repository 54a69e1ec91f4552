"""`direct`: convolution of an NCHW image without any matrix of patches.

The image is copied once with its padding (see `staging`); then a register tile of a few output
channels times a few vectors of pixels runs over all input channels and taps, reading the pixels of
each tap where they lie.
"""

from dataclasses import asdict, dataclass
from typing import Any

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, pixel_rows
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.pixel_rows import RowTile
from dlas.kernels.code.staging import Staging
from dlas.kernels.convolution import space
from dlas.kernels.convolution.plain import PlainKernel, nchw_primitive
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.layout import Array


@dataclass(frozen=True)
class Direct(PlainKernel):
    """One dense direct convolution, NCHW to NCHW."""

    tile: RowTile

    def constants(self, weight: Array, bias: Array | None) -> tuple[Array, ...]:
        """Return the packed filters and bias, in the order of the arguments."""
        packed = pixel_rows.pack_weight(self.op, weight, self.tile)
        return packed, pixel_rows.pack_bias(self.op, bias, self.tile)

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {"kernel": "direct", "tile": asdict(self.tile)}

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        fixed = {"rows": self.tile.rows, "vectors": self.tile.vectors}
        values = space.row_values(self.op)
        return Space.of(values, fixed, lambda s: space.rows_fit(s, fixed, self.target))

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [residual], y)."""
        op, tile, lanes = self.op, self.tile, self.target.lanes
        per_in = op.in_channels // op.groups
        padded = op.groups * pixel_rows.row_groups(op, tile) * tile.rows
        outputs = op.batch * op.out_channels * op.out_height * op.out_width
        staging, slack = Staging(op), tile.vectors * lanes
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (*op.in_shape, 1))
            w = emit.argument("weight", (padded * per_in * op.kernel[0] * op.kernel[1],))
            b = emit.argument("bias", (padded,))
            r = emit.argument("residual", (outputs,)) if self.epilogue.residual else None
            y = emit.argument("y", (outputs,))
            staged = T.alloc_buffer((staging.size(slack),), "float32")
            with T.serial(op.batch) as n:
                staging.fill(x, n, staged, slack, self.target.lanes, self.threads)
                jobs = op.groups * pixel_rows.row_groups(op, tile)
                with emit.outer(jobs, self.threads) as job:
                    self._rows(staging, (staged, w, b, r, y), n, job)
        return function.result

    def _rows(
        self,
        staging: Staging,
        buffers: tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer],
        n: Expr,
        job: Expr,
    ) -> None:
        op, tile, lanes = self.op, self.tile, self.target.lanes
        staged, w, bias, residual, y = buffers
        per_in, per_out = op.in_channels // op.groups, op.out_channels // op.groups
        kernel_h, kernel_w = op.kernel
        block = tile.vectors * lanes
        blocks = -(-op.out_height * staging.pitch // block)
        groups = pixel_rows.row_groups(op, tile)
        run = T.alloc_buffer((tile.rows * blocks * block,), "float32")
        with T.serial(blocks) as q:
            acc = emit.registers((tile.rows, tile.vectors, lanes))
            pixel_rows.clear(acc, tile, lanes, bias, job * tile.rows)
            with T.serial(per_in) as c, T.serial(kernel_h) as kh, T.serial(kernel_w) as kw:
                at = staging.offset(job // groups * per_in + c, kh, kw) + q * block
                step = ((job * per_in + c) * kernel_h + kh) * kernel_w + kw
                pixel_rows.multiply_add(acc, tile, lanes, (w, step * tile.rows), (staged, at))
            pixel_rows.spill(acc, tile, lanes, run, q * block, blocks * block)
        with T.serial(tile.rows) as o:
            within = job % groups * tile.rows + o
            with T.If(within < per_out), T.Then(), T.serial(op.out_height) as h:
                channel = n * op.out_channels + job // groups * per_out + within
                to = (channel * op.out_height + h) * op.out_width
                start = o * blocks * block + h * staging.pitch
                pixel_rows.finish(
                    run, start, op.out_width, lanes, self.epilogue, (y, residual, to)
                )


PRIMITIVE = nchw_primitive(
    "direct",
    lambda op, r: Direct(
        op,
        r.target,
        r.threads,
        r.epilogue,
        pixel_rows.with_knobs(pixel_rows.default_tile(op, r.target), r.knobs),
    ),
)
