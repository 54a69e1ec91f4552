"""What all kernels have that read and write images as they came: plain channels, no halo."""

from collections.abc import Callable
from dataclasses import dataclass

from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.convolution.contract import Kernel, Primitive, Request
from dlas.kernels.ground.layout import NCHW, Layout
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget


@dataclass(frozen=True)
class PlainKernel:
    """One convolution, NCHW to NCHW."""

    op: Conv2d
    target: CpuTarget
    threads: int
    epilogue: Epilogue

    @property
    def inp(self) -> Layout:
        """Layout of the input."""
        return NCHW

    @property
    def out(self) -> Layout:
        """Layout of the output."""
        return NCHW


def nchw_primitive(
    name: str, lower: Callable[[Conv2d, Request], Kernel], weights: str = "dense"
) -> Primitive:
    """Return a primitive that reads and writes NCHW, and can do any operator."""
    return Primitive(name, weights, lambda op, target, knobs: NCHW, lambda target: 1, lower)
