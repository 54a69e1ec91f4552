"""`gemm` where filters cover the whole image: each image of the batch is one row of patches.

Pixels in lanes would leave all lanes but one idle; this product has output channels there, and
the image is the patch, as it lies in memory.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dlas.kernels.code.emit import PrimFunc
from dlas.kernels.convolution.matrix import dense_linear, linear_op
from dlas.kernels.convolution.plain import PlainKernel
from dlas.kernels.convolution.space import Space
from dlas.kernels.convolution.spatial_pack import SpatialPack
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import AnyArray, Layout
from dlas.kernels.ground.quantization import Quantization
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
        op, epilogue, numbers = self.op, self.epilogue, self.numbers
        each = numbers.block
        inside = -(-op.in_channels // each) * each * op.height * op.width
        if epilogue.residual is not None:
            epilogue = replace(epilogue, residual=Layout(op.out_channels))
        linear = linear_op(op.batch, inside, op.out_channels)
        return dense_linear(linear, self.target, self.threads, epilogue, self.knobs, numbers.name)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [factors, parameters], [residual], y)."""
        return self.product.function(name)

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return the packed filters and the padded bias."""
        product, (count, channels, high, wide), each = (
            self.product,
            weight.shape,
            self.numbers.block,
        )
        if each > 1:  # as the image lies: its elements' channels last
            filters = np.zeros((count, -(-channels // each) * each, high, wide), weight.dtype)
            filters[:, :channels] = weight
            weight = filters.reshape(count, -1, each, high, wide).transpose(0, 1, 3, 4, 2)
        return product.constants(weight.reshape(product.op.weight_shape), bias)

    def scales(self, quantization: Quantization) -> tuple[AnyArray, ...]:
        """Return what the last store of an int8 kernel reads."""
        return self.product.scales(quantization)

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        product = self.product.describe()
        kernel = str(product["kernel"]).replace("spatial-pack", "gemm")
        return {**product, "kernel": kernel, "patches": "the image, a row each"}

    def space(self) -> Space | None:
        """Return the settings for tuning: those of the linear layer."""
        return self.product.space()
