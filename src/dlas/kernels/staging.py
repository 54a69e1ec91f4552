"""A padded copy of one NCHW image in which every tap of a filter reads consecutive floats.

The copy is split by the strides: [C, stride_h, stride_w, rows, pitch], so that output pixel
(h, w) of tap (kh, kw) lies at a fixed offset of the tap plus h * pitch + w, for any stride and
dilation. A run over whole rows therefore needs no index arithmetic; it computes `pitch - OW` junk
pixels a row, which are dropped when the run is stored.
"""

from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels import emit
from dlas.kernels.emit import Buffer, Expr
from dlas.kernels.shape import Conv2d


@dataclass(frozen=True)
class Staging:
    """Geometry of the copy."""

    op: Conv2d

    @property
    def rows(self) -> int:
        """Rows of one phase."""
        return (
            self.op.out_height + (self.op.kernel[0] - 1) * self.op.dilation[0] // self.op.stride[0]
        )

    @property
    def pitch(self) -> int:
        """Floats of one row of one phase."""
        return (
            self.op.out_width + (self.op.kernel[1] - 1) * self.op.dilation[1] // self.op.stride[1]
        )

    @property
    def plane(self) -> int:
        """Floats of one channel."""
        return self.op.stride[0] * self.op.stride[1] * self.rows * self.pitch

    def size(self, slack: int) -> int:
        """Floats of the copy; `slack` more may be read past its end."""
        return self.op.in_channels * self.plane + slack

    def offset(self, channel: Expr, kh: Expr, kw: Expr) -> Expr:
        """Return where output pixel (0, 0) of this tap lies."""
        op = self.op
        down, across = kh * op.dilation[0], kw * op.dilation[1]
        phase = (down % op.stride[0]) * op.stride[1] + across % op.stride[1]
        row, column = down // op.stride[0], across // op.stride[1]
        return channel * self.plane + (phase * self.rows + row) * self.pitch + column

    def tap_offset(self, channel: int, kh: int, kw: int) -> int:
        """Return `offset` of plain numbers."""
        return int(self.offset(channel, kh, kw))

    def fill(self, x: Buffer, n: Expr, staged: Buffer, slack: int, threads: int) -> None:
        """Emit the copy of image `n`; what lies outside the image becomes zero."""
        op = self.op
        sh, sw = op.stride
        with (
            emit.outer(op.in_channels, threads) as c,
            T.serial(sh) as ph,
            T.serial(sw) as pw,
            T.serial(self.rows) as r,
        ):
            base = c * self.plane + ((ph * sw + pw) * self.rows + r) * self.pitch
            h = r * sh + ph - op.padding[0]
            inside_h = T.And(h >= 0, h < op.height)
            with T.serial(self.pitch) as q:
                v = q * sw + pw - op.padding[1]
                inside = T.And(inside_h, T.And(v >= 0, v < op.width))
                value = T.if_then_else(inside, x[n, c, h, v, 0], T.float32(0))
                emit.store(staged, value, base + q)
        with T.serial(slack) as q:
            emit.store(staged, T.float32(0), op.in_channels * self.plane + q)
