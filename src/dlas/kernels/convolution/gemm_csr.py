"""`gemm` with CSR weights: a sparse matrix of filters times a panel of patches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit, pixel_rows, sparse
from dlas.kernels.code.emit import Buffer, Expr, PrimFunc
from dlas.kernels.code.staging import Staging
from dlas.kernels.convolution import space
from dlas.kernels.convolution.direct_csr import zeros_or
from dlas.kernels.convolution.gemm import gather, panel_rows
from dlas.kernels.convolution.plain import PlainKernel, nchw_primitive
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import Array
from dlas.kernels.ground.shape import Conv2d


@dataclass(frozen=True)
class GemmCsr(PlainKernel):
    """One sparse convolution as a matrix product, NCHW to NCHW."""

    knobs: Knobs = FIXED

    @property
    def band(self) -> int:
        """Output rows gathered at a time."""
        return self.knobs.get("band", panel_rows(self.op, self.threads))

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
        """Return the kernel: (x, starts, offsets, values, bias, [residual], y)."""
        op = self.op
        outputs = op.batch * op.out_channels * op.out_height * op.out_width
        staging, slack = Staging(op), self.target.lanes
        bands = -(-op.out_height // self.band)
        # Rows past the image are gathered too (the last band may overhang), then dropped.
        slack += (bands * self.band - op.out_height) * staging.pitch
        function = emit.Function(name)
        with function.body():
            x = emit.argument("x", (*op.in_shape, 1))
            matrix = sparse.arguments(op.out_channels)
            bias = emit.argument("bias", (op.out_channels,))
            r = emit.argument("residual", (outputs,)) if self.epilogue.residual else None
            y = emit.argument("y", (outputs,))
            staged = T.alloc_buffer((staging.size(slack),), "float32")
            with T.serial(op.batch) as n:
                staging.fill(x, n, staged, slack, self.target.lanes, self.threads)
                with emit.outer(op.groups * bands, self.threads) as job:
                    at = (n, job // bands, job % bands * self.band)
                    self._band(staging, (staged, bias, r, y), matrix, at)
        return function.result

    def _band(
        self,
        staging: Staging,
        buffers: tuple[Buffer, Buffer, Buffer | None, Buffer],
        matrix: sparse.Csr,
        at: tuple[Expr, Expr, Expr],
    ) -> None:
        op, lanes, width = self.op, self.target.lanes, self.width
        staged, bias, residual, y = buffers
        n, group, row = at
        depth = op.in_channels // op.groups * op.kernel[0] * op.kernel[1]
        per_out = op.out_channels // op.groups
        panel = T.alloc_buffer((depth * width + lanes,), "float32")
        gather(staging, staged, panel, lanes, (group, row, self.band, width))
        run = T.alloc_buffer((per_out * width,), "float32")
        block = sparse.flat_block(self.target, self.vectors)
        step = self.vectors * lanes
        with T.serial(width // step) as q, T.serial(per_out) as o:
            goal = (run, o * width + q * step)
            channel = group * per_out + o
            source = (panel, q * step)
            sparse.product(matrix, (bias, channel), channel, block, source, goal)
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

    def constants(self, weight: Array, bias: Array | None) -> tuple[Any, ...]:
        """Return (starts, offsets, values, bias)."""
        op = self.op
        depth = weight[0].size
        taps = np.arange(depth, dtype=np.int32).reshape(1, *weight.shape[1:]) * self.width
        everywhere = np.broadcast_to(taps, (op.groups, *weight.shape[1:]))
        return (*sparse.pack(op, weight, everywhere), zeros_or(bias, op))

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {"kernel": "gemm csr", "vectors": self.vectors, "band": self.band}

    def space(self) -> Space | None:
        """Return the settings for tuning."""
        op, cpu = self.op, self.target
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


PRIMITIVE = nchw_primitive(
    "gemm", lambda op, r: GemmCsr(op, r.target, r.threads, r.epilogue, r.knobs), "csr"
)
