"""Dense linear layers: rows of a matrix are the pixels of an image whose channels come last."""

from dataclasses import replace

from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.register_tile import default_tile
from dlas.kernels.convolution import arithmetic
from dlas.kernels.convolution.spatial_pack import SpatialPack
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget

NAME = "linear"
"""What records of tuning call this kernel where a convolution has its primitive."""


def linear_op(rows: int, wide_in: int, wide_out: int) -> Conv2d:
    """Return the 1x1 convolution of one row of pixels that a linear layer is."""
    return Conv2d(1, wide_in, 1, rows, wide_out, (1, 1))


def dense_linear(
    op: Conv2d,
    target: CpuTarget,
    threads: int,
    epilogue: Epilogue | None = None,
    knobs: Knobs = FIXED,
    dtype: str = "float32",
) -> SpatialPack:
    """Return the kernel (x [rows, in], weight, bias, [residual], y [rows, out]).

    Args:
        op: what `linear_op` returns.
        target: the CPU.
        threads: threads that the loops are written for.
        epilogue: residual and activation; a residual's layout is that of the output.
        knobs: what tuning found.
        dtype: in what weights are stored; in int8 the rows of x are whole elements (`in` is a
            multiple of four).
    """
    layouts = (Layout(op.in_channels), Layout(op.out_channels))
    numbers, own = arithmetic.chosen(dtype, op, target, layouts[0])
    tile = replace(own or default_tile(numbers.reduced(op), target), **knobs.as_dict())
    return SpatialPack(op, target, threads, *layouts, epilogue or Epilogue(), tile, numbers)
