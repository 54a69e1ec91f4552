"""`gemm` with CSR weights: a sparse matrix of filters times a panel of patches.

In int8 as in `direct_csr`: an entry is four neighbouring input channels of a filter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, pixel_rows, requantize, sparse
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.numbers import FLOAT32, INT8, Numbers
from dlas.kernels.code.staging import Staging
from dlas.kernels.convolution import space
from dlas.kernels.convolution.contract import Kernel, Request
from dlas.kernels.convolution.direct_csr import padded_bias, whole_quads
from dlas.kernels.convolution.gemm import gather, panel_rows
from dlas.kernels.convolution.plain import PlainKernel, nchw_primitive
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import AnyArray
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d


@dataclass(frozen=True)
class GemmCsr(PlainKernel):
    """One sparse convolution as a matrix product, NCHW to NCHW."""

    knobs: Knobs = FIXED

    @property
    def band(self) -> int:
        """Output rows gathered at a time."""
        return self.knobs.get("band", panel_rows(self.reduced, self.threads))

    @property
    def vectors(self) -> int:
        """Vectors of a block of pixels."""
        fixed = sparse.block_vectors(self.band * self.op.out_width, self.target)
        return self.knobs.get("vectors", fixed)

    @property
    def width(self) -> int:
        """Floats of one row of the panel."""
        block = self.vectors * self.target.lanes
        return -(-self.band * self.op.out_width // block) * block

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, starts, offsets, values, bias, [factors, ...], [residual], y)."""
        op, numbers = self.reduced, self.numbers
        bands = -(-op.out_height // self.band)
        function = emit.Function(name, numbers.quantized)
        with function.body():
            x, matrix, bias, scales, r, y = self.csr_arguments()
            staging = Staging(op, outside=None if scales is None else scales.outside)
            # Rows past the image are gathered too (the last band may overhang), then dropped.
            slack = self.target.lanes + (bands * self.band - op.out_height) * staging.pitch
            staged = T.alloc_buffer((staging.size(slack),), numbers.element)
            with T.serial(op.batch) as n:
                staging.fill(x, n, staged, slack, self.target.lanes, self.threads)
                with emit.outer(op.groups * bands, self.threads) as job:
                    at = (n, job // bands, job % bands * self.band)
                    self._band(staging, (staged, bias, r, y), matrix, scales, at)
        return function.result

    def _band(
        self,
        staging: Staging,
        buffers: tuple[Buffer, Buffer, Buffer | None, Buffer],
        matrix: sparse.Csr,
        scales: requantize.StoreScales | None,
        at: tuple[Expr, Expr, Expr],
    ) -> None:
        op, lanes, width, numbers = self.reduced, self.target.lanes, self.width, self.numbers
        staged, bias, residual, y = buffers
        n, group, row = at
        depth = op.in_channels // op.groups * op.kernel[0] * op.kernel[1]
        per_out = -(-(op.out_channels // op.groups) // numbers.group) * numbers.group
        panel = T.alloc_buffer((depth * width + lanes,), numbers.element)
        gather(staging, staged, panel, lanes, (group, row, self.band, width))
        past = 0 if scales is None else lanes  # whole vectors are read
        run = T.alloc_buffer((per_out * width + past,), numbers.sums)
        block = sparse.flat_block(self.target, self.vectors)
        step = self.vectors * lanes
        with T.serial(width // step) as q, T.serial(per_out) as o:
            goal = (run, o * width + q * step)
            channel = group * per_out + o
            source = (panel, q * step)
            sparse.product(
                self.target, matrix, (bias, channel), channel, block, source, goal,
                numbers=numbers,
            )  # fmt: skip
        if scales is not None:
            self._finish_quads((run, residual, y), scales, at, per_out)
            return
        with (
            T.serial(per_out) as o,
            T.serial(self.band) as h,
            T.If(row + h < op.out_height),
            T.Then(),
        ):
            channel = n * op.out_channels + group * per_out + o
            to = (channel * op.out_height + row + h) * op.out_width
            start = o * width + h * op.out_width
            goal_rows = (y, residual, to)
            pixel_rows.finish(run, start, op.out_width, lanes, self.epilogue, goal_rows)

    def _finish_quads(
        self,
        buffers: tuple[Buffer, Buffer | None, Buffer],
        scales: requantize.StoreScales,
        at: tuple[Expr, Expr, Expr],
        per_out: int,
    ) -> None:
        """Emit the last store in int8 of a band: four output channels at a time."""
        op, lanes, each, (run, residual, y) = self.op, self.target.lanes, 4, buffers
        (n, group, row), width = at, self.width
        room = requantize.room_for(lanes - op.out_width % lanes, lanes, "int32")
        with (
            T.serial(per_out // each) as o,
            T.serial(self.band) as h,
            T.If(row + h < op.out_height),
            T.Then(),
        ):
            quad = group * (per_out // each) + o
            to = ((n * self.rows_out + quad) * op.out_height + row + h) * op.out_width
            start = o * each * width + h * op.out_width
            pixel_rows.finish_quads(
                lambda channel, pixel: run[T.Ramp(start + channel * width + pixel, 1, lanes)],
                op.out_width, self.target, (scales, quad * each), (y, residual, to),
                self.epilogue.other_first, room,
            )  # fmt: skip

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[Any, ...]:
        """Return (starts, offsets, values, bias)."""
        op, elements = self.reduced, self.numbers.elements(self.op, weight)
        depth = elements[0].size
        taps = np.arange(depth, dtype=np.int32).reshape(1, *elements.shape[1:]) * self.width
        everywhere = np.broadcast_to(taps, (op.groups, *elements.shape[1:]))
        packed = sparse.pack(op, elements, everywhere, self.numbers.group)
        return (*packed, padded_bias(bias, op, self.numbers))

    def scales(self, quantization: Quantization) -> tuple[AnyArray, ...]:
        """Return what the last store of an int8 kernel reads."""
        factors = quantization.factors(self.op.out_channels)
        return whole_quads(factors), quantization.parameters()

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {"kernel": "gemm csr", "vectors": self.vectors, "band": self.band}

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        op, cpu = self.reduced, self.target
        values = {
            "band": space.up_to(op.out_height),
            "vectors": tuple(range(1, space.room(cpu) - 3)),
        }
        fixed = {"band": self.band, "vectors": self.vectors}
        whole = -(-op.out_height * op.out_width // cpu.lanes)

        def fits(s: Mapping[str, int]) -> bool:
            return s["vectors"] <= whole and _panel(op, s["band"]) <= space.PANEL_FLOATS

        return Space.of(values, fixed, fits)


def _panel(op: Conv2d, band: int) -> int:
    depth = op.in_channels // op.groups * op.kernel[0] * op.kernel[1]
    return depth * band * op.out_width


def _lower(op: Conv2d, r: Request, numbers: Numbers = FLOAT32) -> Kernel:
    return GemmCsr(op, r.target, r.threads, r.epilogue, r.knobs, numbers=numbers)


PRIMITIVE = nchw_primitive("gemm", _lower, "csr")
NARROW = (nchw_primitive("gemm", partial(_lower, numbers=INT8), "csr", "int8"),)
