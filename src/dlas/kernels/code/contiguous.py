"""Runs of an image: stretches of neighbouring elements that are neighbours in several layouts.

All of the tensor, where nothing depends on the channel and no layout has a halo; else all of a
block of channels, or a row of it where some layout has a halo. Elementwise kernels go through
a run in chunks of so many elements; where these do not come out even, the last chunk begins where
it ends with the run, and what it shares with the one before is stored twice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.ground.layout import Layout, Shape4

_JOB = 1 << 12
"""Elements of a job: where a run has several times as many, threads share it."""


@dataclass(frozen=True)
class Runs:
    """The runs of images of one shape in layouts of the same blocks of channels."""

    nchw: Shape4
    layouts: tuple[Layout, ...]
    by_channel: bool
    """Whether what is computed depends on the channel."""

    @property
    def block(self) -> int:
        """Channels that lie side by side."""
        return self.layouts[0].block

    @property
    def blocks(self) -> int:
        """Blocks of channels of an image."""
        return -(-self.nchw[1] // self.block)

    @property
    def by_row(self) -> bool:
        """Whether a run is a row."""
        return any(any(layout.halo) for layout in self.layouts)

    @property
    def length(self) -> int:
        """Elements of a run."""
        n, _, h, w = self.nchw
        if self.by_row:
            return w * self.block
        return h * w * self.block * (1 if self.by_channel else n * self.blocks)

    @property
    def count(self) -> int:
        """Runs of all images."""
        n, _, h, w = self.nchw
        return n * self.blocks * h * w * self.block // self.length

    def place(self, run: Expr) -> tuple[Expr, Expr, Expr]:
        """Return image, block and row of a run."""
        rows = self.nchw[2] if self.by_row else 1
        if not self.by_row and not self.by_channel:
            return (0, 0, 0)
        return run // (rows * self.blocks), run // rows % self.blocks, run % rows

    def first(self, layout: Layout, place: tuple[Expr, Expr, Expr]) -> Expr:
        """Return which element of a tensor in a layout a run begins with."""
        image, block, row = place
        top, left, bottom, right = layout.halo
        high, wide = self.nchw[2] + top + bottom, self.nchw[3] + left + right
        return (((image * self.blocks + block) * high + row + top) * wide + left) * self.block

    def size(self, layout: Layout) -> int:
        """Return the elements of a tensor in a layout."""
        return math.prod(layout.shape(self.nchw))

    def parts(self, chunk: int) -> int:
        """Return the jobs of a run."""
        return max(1, self.length // chunk * chunk // _JOB)

    def chunks(self, chunk: int, part: Expr, body: Callable[[Expr], None]) -> None:
        """Emit body(first element) for the chunks of a part of a run, which holds one at least."""
        whole, rest = divmod(self.length, chunk)
        parts = self.parts(chunk)
        if parts == 1:
            with emit.repeat(whole) as step:
                body(step * chunk)
            if rest:
                body(self.length - chunk)
            return
        start = part * whole // parts
        with T.serial((part + 1) * whole // parts - start) as step:
            body((start + step) * chunk)
        if rest:
            with T.If(part == parts - 1), T.Then():
                body(self.length - chunk)

    def fill_halo(
        self, y: Buffer, layout: Layout, place: tuple[Expr, Expr, Expr], value: Expr, lanes: int
    ) -> None:
        """Emit what the halo beside a row holds; the first and last rows have those outside."""
        if not any(layout.halo):
            return
        height, width = self.nchw[2:]
        top, left, bottom, right = layout.halo
        across, row = (left + width + right) * self.block, place[2]
        first = self.first(layout, place)
        begin = first - left * self.block

        def clear(start: Expr, count: int) -> None:
            emit.each(count, lanes, lambda j: emit.store(y, value, start + j))

        clear(begin, left * self.block)
        clear(first + width * self.block, right * self.block)
        if top:
            with emit.condition(row == 0):
                clear(begin - top * across, top * across)
        if bottom:
            with emit.condition(row == height - 1):
                clear(begin + across, bottom * across)
