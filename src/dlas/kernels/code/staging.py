"""A padded copy of one NCHW image in which every tap of a filter reads consecutive floats.

The copy is split by the strides: [C, phases down, phases across, rows, pitch], so that output
pixel (h, w) of tap (kh, kw) lies at a fixed offset of the tap plus h * pitch + w, for any stride
and dilation. Phases that no tap reads are left out: what lies behind the last row of a phase is
read, too (junk pixels), and numbers that are there by chance may be denormals, which cost several
times the product. A run over whole rows therefore needs no index arithmetic; it computes
`pitch - OW` junk pixels a row, which are dropped when the run is stored.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.ground.shape import Conv2d

WRITTEN_OUT = 4
"""Phases that are written out; the 256 of a 16x16 filter with stride 16 compile for minutes."""
Row = Callable[[Buffer, tuple[Expr, Expr, Expr], Buffer, Expr, Any, int], None]


@dataclass(frozen=True)
class Staging:
    """Geometry of the copy."""

    op: Conv2d
    height: int = 0
    """Output rows that the copy serves; 0: all."""
    outside: Any = field(default=None, compare=False)
    """What is outside the image, where it is not zero: four times the zero point."""

    @property
    def dtype(self) -> str:
        """Type of the elements."""
        return "float32" if self.outside is None else "int32"

    @property
    def _none(self) -> Expr:
        return T.float32(0) if self.outside is None else self.outside

    @property
    def rows(self) -> int:
        """Rows of one phase."""
        height = self.height or self.op.out_height
        return height + (self.op.kernel[0] - 1) * self.op.dilation[0] // self.op.stride[0]

    @property
    def pitch(self) -> int:
        """Floats of one row of one phase."""
        return (
            self.op.out_width + (self.op.kernel[1] - 1) * self.op.dilation[1] // self.op.stride[1]
        )

    @property
    def phases(self) -> tuple[list[int], list[int]]:
        """The phases that taps read, down and across."""
        op = self.op
        down, across = (
            sorted({k * op.dilation[axis] % op.stride[axis] for k in range(op.kernel[axis])})
            for axis in (0, 1)
        )
        return down, across

    @property
    def plane(self) -> int:
        """Floats of one channel."""
        down, across = self.phases
        return len(down) * len(across) * self.rows * self.pitch

    def size(self, slack: int) -> int:
        """Floats of the copy; `slack` more may be read past its end."""
        return self.op.in_channels * self.plane + slack

    def offset(self, channel: Expr, kh: Expr, kw: Expr) -> Expr:
        """Return where output pixel (0, 0) of this tap lies."""
        op = self.op
        down, across = kh * op.dilation[0], kw * op.dilation[1]
        phase = self._place(down % op.stride[0], across % op.stride[1])
        row, column = down // op.stride[0], across // op.stride[1]
        return channel * self.plane + (phase * self.rows + row) * self.pitch + column

    def _place(self, down: Expr, across: Expr) -> Expr:
        """Return the number of a phase among those that are stored."""
        first, second = self.phases
        return _number(down, first) * len(second) + _number(across, second)

    def tap_offset(self, channel: int, kh: int, kw: int) -> int:
        """Return `offset` of plain numbers."""
        return int(self.offset(channel, kh, kw))

    def fill(
        self, x: Buffer, n: Expr, staged: Buffer, slack: int, lanes: int, threads: int
    ) -> None:
        """Emit the copy of image `n`; what lies outside the image becomes zero."""
        with emit.outer(self.op.in_channels, threads) as c:
            self.channel(x, (n, c, 0), staged, c, lanes)
        self._zeros(staged, self.op.in_channels * self.plane, slack, lanes)

    def channel(
        self, x: Buffer, source: tuple[Expr, Expr, Expr], staged: Buffer, place: Expr, lanes: int
    ) -> None:
        """Emit the copy of one channel.

        Args:
            x: the images.
            source: image, channel, and the first output row that the copy serves.
            staged: the copy.
            place: number of the channel in the copy.
            lanes: floats of a vector.
        """
        op, (n, c, first) = self.op, source
        down, across = self.phases

        def phase(r: Expr, ph: Expr, pw: Expr, row: Row) -> None:
            h = (first + r) * op.stride[0] + ph - op.padding[0]
            start = place * self.plane + (self._place(ph, pw) * self.rows + r) * self.pitch
            with T.If(T.And(h >= 0, h < op.height)):
                with T.Then():
                    row(x, (n, c, h), staged, start, pw, lanes)
                with T.Else():
                    self._zeros(staged, start, self.pitch, lanes)

        many = len(down) * len(across) > WRITTEN_OUT
        with T.serial(self.rows) as r:
            if many and (down, across) == (list(range(len(down))), list(range(len(across)))):
                with T.serial(len(down)) as ph, T.serial(len(across)) as pw:
                    phase(r, ph, pw, self._any_row)
            else:
                for one in itertools.product(down, across):
                    phase(r, *one, self._row)

    def _any_row(
        self,
        x: Buffer,
        row: tuple[Expr, Expr, Expr],
        staged: Buffer,
        start: Expr,
        phase: Expr,
        lanes: int,
    ) -> None:
        """Emit the copy of one row of a phase that is known at run time."""
        op = self.op
        with T.serial(self.pitch) as q:
            v = q * op.stride[1] + phase - op.padding[1]
            inside = T.And(v >= 0, v < op.width)
            if self.outside is None:
                value = T.if_then_else(inside, x[(*row, v, 0)], T.float32(0))
                emit.store(staged, value, start + q)
                return
            with T.If(inside):
                with T.Then():
                    emit.store(staged, x[(*row, v, 0)], start + q)
                with T.Else():
                    emit.store(staged, self.outside, start + q)

    def _row(
        self,
        x: Buffer,
        row: tuple[Expr, Expr, Expr],
        staged: Buffer,
        start: Expr,
        phase: int,
        lanes: int,
    ) -> None:
        """Emit the copy of one phase of one row of the image."""
        op, step = self.op, self.op.stride[1]
        shift = phase - op.padding[1]
        # Column q holds pixel q * step + shift.
        first = min(self.pitch, max(0, -(shift // step)))
        last = max(first, min(self.pitch, -(-(op.width - shift) // step)))
        self._zeros(staged, start, first, lanes)
        self._zeros(staged, start + last, self.pitch - last, lanes)
        pixel = first * step + shift
        emit.each(
            last - first,
            lanes,
            lambda q: emit.store(staged, x[(*row, q * step + pixel, 0)], start + first + q),
        )

    def _zeros(self, staged: Buffer, start: Expr, count: int, lanes: int) -> None:
        emit.each(count, lanes, lambda q: emit.store(staged, self._none, start + q))


def _number(phase: Expr, stored: list[int]) -> Expr:
    """Return the place of a phase in an ascending list."""
    if stored == list(range(len(stored))):
        return phase
    if isinstance(phase, int):
        return stored.index(phase)
    return sum(T.if_then_else(phase >= other, 1, 0) for other in stored[1:])
