"""What all kernels have that read and write images as they came: plain channels, no halo.

In int8 channels lie in fours (NCHW4c): plain images of elements of four bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from dlas.kernels.code import emit, requantize, sparse
from dlas.kernels.code.emit import Buffer
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.numbers import FLOAT32, Numbers, block_of
from dlas.kernels.convolution.contract import Kernel, Primitive, Request
from dlas.kernels.ground.layout import Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


class CsrArguments(NamedTuple):
    """The arguments of a kernel with CSR weights, in TIR and in their order."""

    x: Buffer
    matrix: sparse.Csr
    bias: Buffer
    scales: requantize.StoreScales | None
    residual: Buffer | None
    y: Buffer


@dataclass(frozen=True)
class PlainKernel:
    """One convolution, NCHW to NCHW."""

    op: Conv2d
    target: CpuTarget
    threads: int
    epilogue: Epilogue
    numbers: Numbers = field(default=FLOAT32, kw_only=True)

    @property
    def inp(self) -> Layout:
        """Layout of the input: plain elements."""
        return Layout(self.numbers.block)

    @property
    def out(self) -> Layout:
        """Layout of the output."""
        return self.inp

    @property
    def reduced(self) -> Conv2d:
        """The convolution over elements."""
        return self.numbers.reduced(self.op)

    @property
    def rows_out(self) -> int:
        """Elements of an output pixel."""
        return -(-self.op.out_channels // self.out.block)

    def csr_arguments(self) -> CsrArguments:
        """Declare the arguments of a kernel with CSR weights."""
        op, numbers = self.reduced, self.numbers
        rows, kind = self.rows_out * numbers.group, numbers.element
        outputs = (op.batch * self.rows_out * op.out_height * op.out_width,)
        return CsrArguments(
            emit.argument("x", (*op.in_shape, 1), kind),
            sparse.arguments(rows, values=kind),
            emit.argument("bias", (rows,), numbers.sums),
            requantize.arguments(rows, self.epilogue, numbers.quantized),
            emit.argument("residual", outputs, kind) if self.epilogue.residual else None,
            emit.argument("y", outputs, kind),
        )


def nchw_primitive(
    name: str,
    lower: Callable[[Conv2d, Request], Kernel],
    weights: str = "dense",
    dtype: str = "float32",
) -> Primitive:
    """Return a primitive for any operator that reads and writes NCHW (in int8 NCHW4c)."""
    layout = Layout(block_of(dtype))
    return Primitive(
        name, weights, lambda op, target, knobs: layout, lambda op, target: layout.block, lower,
        dtype=dtype, plain=True,
    )  # fmt: skip
