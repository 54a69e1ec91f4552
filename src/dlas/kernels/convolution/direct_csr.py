"""`direct` with CSR weights: the staged NCHW image, one flat run of pixels per output channel.

In int8 images lie in fours of channels (NCHW4c), and an entry of the matrix is four neighbouring
input channels of a filter, of which one at least is not zero.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, pixel_rows, requantize, sparse
from dlas.kernels.code.emit import Buffer, PrimFunc
from dlas.kernels.code.numbers import FLOAT32, INT8, Numbers
from dlas.kernels.code.staging import Staging
from dlas.kernels.convolution import space
from dlas.kernels.convolution.contract import Kernel, Request
from dlas.kernels.convolution.plain import PlainKernel, nchw_primitive
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import AnyArray, Array
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import Conv2d


@dataclass(frozen=True)
class DirectCsr(PlainKernel):
    """One sparse direct convolution, NCHW to NCHW."""

    knobs: Knobs = FIXED

    @property
    def vectors(self) -> int:
        """Vectors of a block of pixels."""
        run = self.op.out_height * Staging(self.reduced).pitch
        return self.knobs.get("vectors", sparse.block_vectors(run, self.target))

    @property
    def parts(self) -> int:
        """Parts of the output channels, each a job of its own for one block of pixels."""
        return self.knobs.get("parts", min(self.op.out_channels, 4))

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, starts, offsets, values, bias, [factors, ...], [residual], y)."""
        op, lanes, numbers = self.reduced, self.target.lanes, self.numbers
        rows, kind = self.rows_out * numbers.group, numbers.element
        width = self.vectors * self.target.lanes
        function = emit.Function(name, numbers.quantized)
        with function.body():
            x, matrix, bias, scales, r, y = self.csr_arguments()
            staging = Staging(op, outside=None if scales is None else scales.outside)
            blocks = -(-op.out_height * staging.pitch // width)
            slack = blocks * width - op.out_height * staging.pitch + lanes
            staged = T.alloc_buffer((staging.size(slack),), kind)
            past = 0 if scales is None else lanes  # whole vectors are read
            run = T.alloc_buffer((rows * blocks * width + past,), numbers.sums)
            block = sparse.flat_block(self.target, self.vectors)
            with T.serial(op.batch) as n:
                staging.fill(x, n, staged, slack, self.target.lanes, self.threads)
                # Pixels outside, channels inside: the window of pixels stays in the cache.
                per_part = -(-rows // self.parts)
                with emit.outer(blocks * self.parts, self.threads) as job:
                    q, first = job // self.parts * width, job % self.parts * per_part
                    with T.serial(per_part) as step:
                        o = first + step
                        with T.If(o < rows), T.Then():
                            goal = (run, o * blocks * width + q)
                            sparse.product(
                                self.target, matrix, (bias, o), o, block, (staged, q), goal,
                                numbers=numbers,
                            )  # fmt: skip
                if scales is None:
                    self._finish(run, blocks * width, n, r, y)
                else:
                    self._finish_quads((run, r, y), blocks * width, n, scales)
        return function.result

    def _finish(
        self, run: Buffer, stride: int, n: Any, residual: Buffer | None, y: Buffer
    ) -> None:
        op, pitch = self.op, Staging(self.op).pitch
        with (
            emit.outer(op.out_channels, self.threads) as o,
            T.serial(op.out_height) as h,
        ):
            to = ((n * op.out_channels + o) * op.out_height + h) * op.out_width
            goal = (y, residual, to)
            start = o * stride + h * pitch
            pixel_rows.finish(run, start, op.out_width, self.target.lanes, self.epilogue, goal)

    def _finish_quads(
        self,
        buffers: tuple[Buffer, Buffer | None, Buffer],
        stride: int,
        n: Any,
        scales: requantize.StoreScales,
    ) -> None:
        """Emit the last store in int8: four output channels at a time."""
        op, lanes, each, (run, residual, y) = self.op, self.target.lanes, 4, buffers
        pitch = Staging(self.reduced).pitch
        with (
            emit.outer(self.rows_out, self.threads) as o,
            T.serial(op.out_height) as h,
        ):
            room = requantize.room_for(lanes - op.out_width % lanes, lanes, "int32")
            to = ((n * self.rows_out + o) * op.out_height + h) * op.out_width
            start = o * each * stride + h * pitch
            pixel_rows.finish_quads(
                lambda channel, pixel: run[T.Ramp(start + channel * stride + pixel, 1, lanes)],
                op.out_width, self.target, (scales, o * each), (y, residual, to),
                self.epilogue.other_first, room,
            )  # fmt: skip

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[Any, ...]:
        """Return (starts, offsets, values, bias)."""
        op, staging = self.reduced, Staging(self.reduced)
        per_in = op.in_channels // op.groups
        taps = np.zeros((op.groups, per_in, *op.kernel), np.int32)
        for g, c, kh, kw in np.ndindex(*taps.shape):
            taps[g, c, kh, kw] = staging.tap_offset(g * per_in + c, kh, kw)
        elements = self.numbers.elements(self.op, weight)
        packed = sparse.pack(op, elements, taps, self.numbers.group)
        return (*packed, padded_bias(bias, op, self.numbers))

    def scales(self, quantization: Quantization) -> tuple[AnyArray, ...]:
        """Return what the last store of an int8 kernel reads."""
        factors = quantization.factors(self.op.out_channels)
        return whole_quads(factors), quantization.parameters()

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {"kernel": "direct csr", "vectors": self.vectors, "parts": self.parts}

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        values = {
            "vectors": tuple(range(1, space.room(self.target) - 3)),
            "parts": space.up_to(self.op.out_channels, (1, 2, 4, 8, 16, 32)),
        }
        fixed = {"vectors": self.vectors, "parts": self.parts}
        return Space.of(values, fixed, lambda s: True)


def zeros_or(bias: Array | None, op: Conv2d) -> Array:
    """Return the bias, or zeros."""
    return np.zeros(op.out_channels, np.float32) if bias is None else bias


def padded_bias(bias: AnyArray | None, op: Conv2d, numbers: Numbers) -> AnyArray:
    """Return the bias, or zeros; in int8 one for each row of whole fours."""
    if not numbers.quantized:
        return zeros_or(bias, op)
    return whole_quads(np.zeros(op.out_channels, np.int32) if bias is None else bias)


def whole_quads(values: AnyArray) -> AnyArray:
    """Return values of output channels, zeros behind them up to a multiple of four."""
    return np.pad(values, (0, -len(values) % 4))


def _lower(op: Conv2d, r: Request, numbers: Numbers = FLOAT32) -> Kernel:
    return DirectCsr(op, r.target, r.threads, r.epilogue, r.knobs, numbers=numbers)


PRIMITIVE = nchw_primitive("direct", _lower, "csr")
NARROW = (nchw_primitive("direct", partial(_lower, numbers=INT8), "csr", "int8"),)
