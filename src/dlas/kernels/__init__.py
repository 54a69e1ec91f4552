"""Convolution kernels and whole models by TVM, the algorithm chosen by name.

Usable without the rest of dlas. Importing this package loads neither TVM nor torch; the first
build does. `load` needs TVM's runtime only.
"""

from typing import TYPE_CHECKING, Any

from dlas.kernels.ground.errors import (
    InputError,
    KernelError,
    MissingFeatureError,
    UnsupportedError,
)
from dlas.kernels.ground.quantization import ByteTable, Quantization, Scale, Sum
from dlas.kernels.ground.shape import Conv2d

if TYPE_CHECKING:
    from dlas.kernels.compile import compile_model
    from dlas.kernels.conv import BuiltConv2d, build_conv2d
    from dlas.kernels.ground.program import Program, load

__all__ = [
    "BuiltConv2d",
    "ByteTable",
    "Conv2d",
    "InputError",
    "KernelError",
    "MissingFeatureError",
    "Program",
    "Quantization",
    "Scale",
    "Sum",
    "UnsupportedError",
    "build_conv2d",
    "compile_model",
    "load",
]

_LAZY = {
    "BuiltConv2d": "conv",
    "build_conv2d": "conv",
    "compile_model": "compile",
    "Program": "ground.program",
    "load": "ground.program",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
