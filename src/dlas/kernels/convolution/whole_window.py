"""`gemm` where filters cover the whole image: each image of the batch is one row of patches.

Pixels in lanes would leave all lanes but one idle; this product has output channels there, and
the image is the patch, as it lies in memory.
"""

from dataclasses import dataclass, replace
from typing import Any

from dlas.kernels.code.emit import PrimFunc
from dlas.kernels.convolution.matrix import dense_linear, linear_op
from dlas.kernels.convolution.plain import PlainKernel
from dlas.kernels.convolution.space import Space
from dlas.kernels.convolution.spatial_pack import SpatialPack
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import Array, Layout
from dlas.kernels.ground.shape import Conv2d


def is_whole_window(op: Conv2d) -> bool:
    """Whether the filters cover the image, no more and no less."""
    return op.kernel == (op.height, op.width) and not any(op.padding) and op.groups == 1


@dataclass(frozen=True)
class WholeWindow(PlainKernel):
    """One dense convolution of an image to a pixel, as a linear layer."""

    knobs: Knobs = FIXED

    @property
    def product(self) -> SpatialPack:
        """The kernel of the linear layer."""
        op, epilogue = self.op, self.epilogue
        inside = op.in_channels * op.height * op.width
        if epilogue.residual is not None:
            epilogue = replace(epilogue, residual=Layout(op.out_channels))
        linear = linear_op(op.batch, inside, op.out_channels)
        return dense_linear(linear, self.target, self.threads, epilogue, self.knobs)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [residual], y)."""
        return self.product.function(name)

    def constants(self, weight: Array, bias: Array | None) -> tuple[Array, ...]:
        """Return the packed filters and the padded bias."""
        product = self.product
        return product.constants(weight.reshape(product.op.weight_shape), bias)

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {**self.product.describe(), "kernel": "gemm", "patches": "the image, a row each"}

    def space(self) -> Space | None:
        """Return the settings for tuning: those of the linear layer."""
        return self.product.space()
