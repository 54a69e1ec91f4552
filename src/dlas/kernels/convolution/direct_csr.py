"""`direct` with CSR weights: the staged NCHW image, one flat run of pixels per output channel."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, pixel_rows, sparse
from dlas.kernels.code.emit import Buffer, PrimFunc
from dlas.kernels.code.staging import Staging
from dlas.kernels.convolution import space
from dlas.kernels.convolution.plain import PlainKernel, nchw_primitive
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import Array
from dlas.kernels.ground.shape import Conv2d


@dataclass(frozen=True)
class DirectCsr(PlainKernel):
    """One sparse direct convolution, NCHW to NCHW."""

    knobs: Knobs = FIXED

    @property
    def vectors(self) -> int:
        """Vectors of a block of pixels."""
        run = self.op.out_height * Staging(self.op).pitch
        return self.knobs.get("vectors", sparse.block_vectors(run, self.target))

    @property
    def parts(self) -> int:
        """Parts of the output channels, each a job of its own for one block of pixels."""
        return self.knobs.get("parts", min(self.op.out_channels, 4))

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, starts, offsets, values, bias, [residual], y)."""
        op, lanes = self.op, self.target.lanes
        outputs = op.batch * op.out_channels * op.out_height * op.out_width
        staging, width = Staging(op), self.vectors * self.target.lanes
        blocks = -(-op.out_height * staging.pitch // width)
        slack = blocks * width - op.out_height * staging.pitch + lanes
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (*op.in_shape, 1))
            matrix = sparse.arguments(op.out_channels)
            bias = emit.argument("bias", (op.out_channels,))
            r = emit.argument("residual", (outputs,)) if self.epilogue.residual else None
            y = emit.argument("y", (outputs,))
            staged = T.alloc_buffer((staging.size(slack),), "float32")
            run = T.alloc_buffer((op.out_channels * blocks * width,), "float32")
            block = sparse.flat_block(self.target, self.vectors)
            with T.serial(op.batch) as n:
                staging.fill(x, n, staged, slack, self.target.lanes, self.threads)
                # Pixels outside, channels inside: the window of pixels stays in the cache.
                per_part = -(-op.out_channels // self.parts)
                with emit.outer(blocks * self.parts, self.threads) as job:
                    q, first = job // self.parts * width, job % self.parts * per_part
                    with T.serial(per_part) as step:
                        o = first + step
                        with T.If(o < op.out_channels), T.Then():
                            goal = (run, o * blocks * width + q)
                            sparse.product(matrix, (bias, o), o, block, (staged, q), goal)
                self._finish(run, blocks * width, n, r, y)
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

    def constants(self, weight: Array, bias: Array | None) -> tuple[Any, ...]:
        """Return (starts, offsets, values, bias)."""
        op, staging = self.op, Staging(self.op)
        per_in = op.in_channels // op.groups
        taps = np.zeros((op.groups, per_in, *op.kernel), np.int32)
        for g, c, kh, kw in np.ndindex(*taps.shape):
            taps[g, c, kh, kw] = staging.tap_offset(g * per_in + c, kh, kw)
        return (*sparse.pack(op, weight, taps), zeros_or(bias, op))

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


PRIMITIVE = nchw_primitive(
    "direct", lambda op, r: DirectCsr(op, r.target, r.threads, r.epilogue, r.knobs), "csr"
)
