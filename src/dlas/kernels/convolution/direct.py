"""`direct`: convolution of an NCHW image without any matrix of patches.

The image is copied once with its padding (see `staging`); then a register tile of a few output
channels times a few vectors of pixels runs over all input channels and taps, reading the pixels of
each tap where they lie. In float16 a vector holds twice as many pixels, and sums of a few channels
are widened and added to those of all (see `half_sums`).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, pixel_rows, requantize
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.numbers import FLOAT32, numbers_of
from dlas.kernels.code.pixel_rows import RowTile
from dlas.kernels.code.register_tile import segments
from dlas.kernels.code.staging import Staging
from dlas.kernels.convolution import half_sums, space
from dlas.kernels.convolution.contract import Kernel, Request
from dlas.kernels.convolution.plain import PlainKernel, nchw_primitive
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground import types
from dlas.kernels.ground.layout import AnyArray
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d


@dataclass(frozen=True)
class Direct(PlainKernel):
    """One dense direct convolution, NCHW to NCHW."""

    tile: RowTile

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return the packed filters and bias, in the order of the arguments."""
        op, filters = self.reduced, self.numbers.elements(self.op, weight)
        packed = pixel_rows.pack_weight(op, filters, self.tile)
        return packed, pixel_rows.pack_bias(op, bias, self.tile, self.numbers.sums)

    def scales(self, quantization: Quantization) -> tuple[AnyArray, ...]:
        """Return what the last store of an int8 kernel reads."""
        factors = quantization.factors(self.op.out_channels)
        packed = pixel_rows.pack_bias(self.reduced, factors, self.tile)
        return packed, quantization.parameters()

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        said = {"kernel": "direct", "tile": asdict(self.tile)}
        return said | ({"sums": half_sums.SAID} if self.numbers.passing else {})

    @property
    def block(self) -> int:
        """Pixels of a block."""
        wide = half_sums.WIDE if self.numbers.passing else 1
        return self.tile.vectors * self.target.lanes * wide

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        fixed = {"rows": self.tile.rows, "vectors": self.tile.vectors}
        values = space.row_values(self.reduced, self.numbers.block)
        return Space.of(values, fixed, lambda s: space.rows_fit(s, fixed, self.target))

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [factors, parameters], [residual], y)."""
        op, tile, numbers = self.reduced, self.tile, self.numbers
        per_in = op.in_channels // op.groups
        padded = op.groups * pixel_rows.row_groups(op, tile) * tile.rows
        outputs, kind = op.batch * self.rows_out * op.out_height * op.out_width, numbers.written
        slack, filters = self.block, padded * per_in * op.kernel[0] * op.kernel[1]
        function = emit.Function(name, numbers.group > 1)
        with function.body():
            x = numbers.argument(self.op, self.inp)
            w = emit.argument("weight", (filters,), numbers.filters)
            b = emit.argument("bias", (padded,), numbers.sums)
            scales = requantize.arguments(padded, self.epilogue, numbers.quantized)
            r = emit.argument("residual", (outputs,), kind) if self.epilogue.residual else None
            y = emit.argument("y", (outputs,), kind)
            outside = numbers.outside if scales is None else scales.outside
            staging = Staging(op, outside=outside)
            with numbers.image(x, self.op, self.inp, self.target, self.threads) as image:
                staged = T.alloc_buffer((staging.size(slack),), numbers.element)
                with T.serial(op.batch) as n:
                    staging.fill(image, n, staged, slack, self.target.lanes, self.threads)
                    jobs = op.groups * pixel_rows.row_groups(op, tile)
                    with emit.outer(jobs, self.threads) as job:
                        self._rows(staging, (staged, w, b, r, y), scales, n, job)
        return function.result

    def _rows(
        self,
        staging: Staging,
        buffers: tuple[Buffer, Buffer, Buffer, Buffer | None, Buffer],
        scales: requantize.StoreScales | None,
        n: Expr,
        job: Expr,
    ) -> None:
        op, tile, lanes = self.reduced, self.tile, self.target.lanes
        staged, w, bias, _, _ = buffers
        per_in = op.in_channels // op.groups
        kernel_h, kernel_w = op.kernel
        block = self.block
        blocks = -(-op.out_height * staging.pitch // block)
        groups = pixel_rows.row_groups(op, tile)
        past = 0 if scales is None else lanes  # whole vectors are read
        run = T.alloc_buffer((tile.rows * blocks * block + past,), self.numbers.sums)
        numbers, mine = self.numbers, job
        if numbers.passing:
            self._passes((staging, staged, w, bias), run, blocks, job)
            self._finish((run, blocks, block, staging.pitch), buffers[3:], scales, n, job)
            return
        if numbers.widening:
            size, whole = per_in * kernel_h * kernel_w * tile.rows, w
            w = T.alloc_buffer((size,), numbers.sums)
            pixel_rows.widen(numbers, (whole, job * size), size, lanes, w)
            numbers, mine = FLOAT32, 0
        with T.serial(blocks) as q:
            acc = emit.registers((tile.rows, tile.vectors, lanes), self.numbers.sums)
            pixel_rows.clear(acc, tile, lanes, bias, job * tile.rows)
            with T.serial(per_in) as c, T.serial(kernel_h) as kh, T.serial(kernel_w) as kw:
                at = staging.offset(job // groups * per_in + c, kh, kw) + q * block
                step = ((mine * per_in + c) * kernel_h + kh) * kernel_w + kw
                pixel_rows.multiply_add(
                    acc, tile, self.target, (w, step * tile.rows), (staged, at), numbers
                )
            pixel_rows.spill(acc, tile, lanes, run, q * block, blocks * block)
        self._finish((run, blocks, block, staging.pitch), buffers[3:], scales, n, job)

    def _passes(
        self, read: tuple[Staging, Buffer, Buffer, Buffer], run: Buffer, blocks: int, job: Expr
    ) -> None:
        """Emit the sums of a group of rows in float16, a few channels at a time.

        Args:
            read: geometry of the copied image, the image, filters and bias.
            run: where the sums go.
            blocks: of pixels, of a row.
            job: the group of rows.
        """
        op, tile, block, (staging, staged, w, bias) = self.reduced, self.tile, self.block, read
        lanes, every = self.target.lanes, blocks * block
        per_in, (kernel_h, kernel_w) = op.in_channels // op.groups, op.kernel
        each = half_sums.STEPS // (kernel_h * kernel_w)
        groups = pixel_rows.row_groups(op, tile)
        with T.serial(tile.rows) as o:
            first = bias[job * tile.rows + o]
            emit.each(every, lanes, lambda j: emit.store(run, first, o * every + j))
        with T.serial(blocks) as q:
            for start, count, some in segments(per_in, each):
                with T.serial(count) as turn:
                    acc = half_sums.registers(tile.rows, block // lanes, lanes)
                    with T.serial(some) as i, T.serial(kernel_h) as kh, T.serial(kernel_w) as kw:
                        c = start + turn * some + i
                        at = staging.offset(job // groups * per_in + c, kh, kw) + q * block
                        step = ((job * per_in + c) * kernel_h + kh) * kernel_w + kw
                        filters, pixels = _from(w, step * tile.rows), _from(staged, at)
                        half_sums.multiply_add(acc, lanes, filters, pixels)
                    with T.unroll(tile.rows) as o:
                        half_sums.add(acc, o, lanes, run, o * every + q * block)

    def _finish(
        self,
        run: tuple[Buffer, int, int, int],
        buffers: tuple[Buffer | None, Buffer],
        scales: requantize.StoreScales | None,
        n: Expr,
        job: Expr,
    ) -> None:
        """Emit the last store of a group of rows.

        Args:
            run: the sums; blocks of a row of them, and pixels of each; pixels of an image's row.
            buffers: residual and output.
            scales: numbers of the last store in int8.
            n: the image.
            job: the group of rows.
        """
        op, tile, each = self.reduced, self.tile, self.out.block
        (sums, blocks, block, pitch), (residual, y) = run, buffers
        groups, per_out = pixel_rows.row_groups(op, tile), -(-op.out_channels // op.groups // each)
        room = None
        if scales is not None:
            lanes = self.target.lanes
            room = requantize.room_for(lanes - op.out_width % lanes, lanes, "int32")
        with T.serial(tile.rows // each) as o:
            within = job % groups * (tile.rows // each) + o
            with T.If(within < per_out), T.Then(), T.serial(op.out_height) as h:
                channel = n * self.rows_out + job // groups * per_out + within
                to = (channel * op.out_height + h) * op.out_width
                start = o * each * blocks * block + h * pitch
                if scales is None:
                    pixel_rows.finish(
                        sums, start, op.out_width, self.target.lanes, self.epilogue,
                        (y, residual, to),
                    )  # fmt: skip
                else:
                    pixel_rows.finish_quads(
                        lambda channel, pixel: sums[
                            T.Ramp(start + channel * blocks * block + pixel, 1, self.target.lanes)
                        ],
                        op.out_width, self.target, (scales, job * tile.rows + o * each),
                        (y, residual, to), self.epilogue.other_first, room,
                    )  # fmt: skip


def _from(buffer: Buffer, first: Expr) -> Callable[[Expr], Expr]:
    """Return the elements of a buffer, counted from one of them."""
    return lambda at: buffer[first + at]


def _lower(op: Conv2d, r: Request, dtype: str = "float32") -> Kernel:
    numbers = numbers_of(dtype, op, r.target, passes=math.prod(op.kernel) <= half_sums.STEPS)
    fixed = pixel_rows.default_tile(numbers.reduced(op), r.target, numbers.block)
    tile = pixel_rows.with_knobs(fixed, r.knobs)
    return Direct(op, r.target, r.threads, r.epilogue, tile, numbers=numbers)


PRIMITIVE = nchw_primitive("direct", _lower)
NARROW = tuple(
    nchw_primitive("direct", partial(_lower, dtype=dtype), dtype=dtype) for dtype in types.NARROW
)
