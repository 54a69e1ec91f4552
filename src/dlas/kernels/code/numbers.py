"""Types of numbers: what one step of a reduction multiplies, and how.

A kernel sees activations and filters as elements of one machine word each. In float32 an element
is one number. In int8 it is a *quad*: four neighbouring input channels, uint8 of the image or int8
of a filter, in one int32; a step multiplies the four pairs and adds the products to an int32 sum.
So a kernel in int8 is the kernel of a convolution with a quarter of the input channels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tvm.tirx.script.builder import ir as T

from dlas.kernels.code import emit
from dlas.kernels.code.dot import dot
from dlas.kernels.code.emit import Buffer, Expr
from dlas.kernels.ground.layout import AnyArray, Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


@dataclass(frozen=True)
class Numbers:
    """One type of numbers."""

    name: str
    element: str
    """Type in which a kernel reads activations and filters."""
    sums: str
    stored: str
    """Type in which activations are stored."""
    group: int
    """Input channels of an element."""

    @property
    def quantized(self) -> bool:
        """Whether sums are requantized when they are stored."""
        return self.stored == "uint8"

    def layout(self, layout: Layout) -> Layout:
        """Return a layout of blocks of channels as one of blocks of elements."""
        return replace(layout, block=layout.block // self.group)

    def reduced(self, op: Conv2d) -> Conv2d:
        """Return the convolution over elements: groups are merged until each has whole ones."""
        if self.group == 1:
            return op
        if op.groups == 1:
            return replace(op, in_channels=-(-op.in_channels // self.group))
        merged = self.merged(op)
        if op.groups // merged == 1:
            return replace(op, in_channels=-(-op.in_channels // self.group), groups=1)
        return replace(op, in_channels=op.in_channels // self.group, groups=op.groups // merged)

    def merged(self, op: Conv2d) -> int:
        """Return how many neighbouring groups become one, filters of the others zero there."""
        sides = (op.in_channels // op.groups, op.out_channels // op.groups)
        count = max(self.group // math.gcd(self.group, side) for side in sides)
        return count if op.groups % count == 0 else op.groups

    def elements(self, op: Conv2d, weight: AnyArray) -> AnyArray:
        """Return filters OIHW as those of `reduced(op)`: in int8 an int32 for four channels."""
        if self.group == 1:
            return weight
        merged = 1 if op.groups == 1 else self.merged(op)
        per_in, per_out = op.in_channels // op.groups, op.out_channels // op.groups
        count = -(-merged * per_in // self.group) * self.group
        wide = np.zeros((op.out_channels, count, *op.kernel), weight.dtype)
        for turn in range(merged):
            rows = np.arange(op.out_channels) // per_out % merged == turn
            wide[rows, turn * per_in : (turn + 1) * per_in] = weight[rows]
        apart = wide.reshape(op.out_channels, -1, self.group, *op.kernel)
        last = np.ascontiguousarray(apart.transpose(0, 1, 3, 4, 2))
        return last.view(self.element)[..., 0]

    def multiply_add(
        self,
        acc: Buffer,
        at: tuple[Expr, ...],
        target: CpuTarget,
        factors: tuple[Callable[[Expr], Expr], Callable[[Expr], Expr]],
        filters_first: bool = False,
    ) -> None:
        """Emit acc[at] += x * w for all lanes; one of the two may be the same in every lane.

        Args:
            acc: the sums, lanes last.
            at: which vector of them.
            target: the CPU.
            factors: activations and filters by lane.
            filters_first: in which order floats are multiplied.
        """
        x, w = factors
        lanes = target.lanes
        if self.group == 1:
            a, b = (w, x) if filters_first else (x, w)
            emit.each_lane(lanes, lambda j: emit.store(acc, acc[(*at, j)] + a(j) * b(j), *at, j))
            return
        j = T.Ramp(T.int32(0), 1, lanes)
        emit.store(acc, dot(target, acc[(*at, j)], x(j), w(j)), *at, j)


FLOAT32 = Numbers("float32", "float32", "float32", "float32", 1)
INT8 = Numbers("int8", "int32", "int32", "uint8", 4)
KNOWN = {numbers.name: numbers for numbers in (FLOAT32, INT8)}
