"""`native`: what TVM itself does with a convolution, its `topi` definition in default loops.

No schedule and no template: the yardstick that the chosen algorithms are compared with.
"""

import base64
import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm import te, topi

from dlas.kernels.code.emit import PrimFunc, begins_anywhere
from dlas.kernels.code.numbers import FLOAT32, WIDENED
from dlas.kernels.convolution.contract import Kernel, Request
from dlas.kernels.convolution.plain import PlainKernel, nchw_primitive
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground import types
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.layout import AnyArray
from dlas.kernels.ground.shape import Conv2d


@dataclass(frozen=True)
class Native(PlainKernel):
    """One convolution as TVM lowers it by default, NCHW to NCHW, on one thread."""

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [residual], y)."""
        op = self.op
        x = te.placeholder(op.in_shape, "float32", "x")
        stored = te.placeholder(op.weight_shape, self.numbers.filters, "weight")
        w = self._widened(stored)
        b = te.placeholder((op.out_channels,), "float32", "bias")
        strides, padding, dilation = list(op.stride), list(op.padding), list(op.dilation)
        if op.groups == 1:
            y = topi.nn.conv2d_nchw(x, w, strides, padding, dilation, "float32")
        else:
            y = topi.nn.group_conv2d_nchw(x, w, strides, padding, dilation, op.groups, "float32")
        summed = y
        y = te.compute(op.out_shape, lambda n, c, i, j: summed[n, c, i, j] + b[c], "biased")
        arguments = [x, stored, b]
        if self.epilogue.residual:
            arguments.append(te.placeholder(op.out_shape, "float32", "residual"))
            y = topi.add(y, arguments[-1])
        y = _activate(y, self.epilogue.activation)
        function = begins_anywhere(te.create_prim_func([*arguments, y]))
        return function.with_attr("global_symbol", name)

    def _widened(self, stored: Any) -> Any:
        """Return filters in the type in which they are multiplied."""
        if not self.numbers.halves:
            return stored
        wide = self.numbers.wide
        return te.compute(self.op.weight_shape, lambda *at: wide(stored(*at)), "widened")

    def constants(self, weight: AnyArray, bias: AnyArray | None) -> tuple[AnyArray, ...]:
        """Return the filters, rounded to what is stored, and the bias as it came."""
        zeros = np.zeros(self.op.out_channels, np.float32)
        return self.numbers.stored_filters(weight), zeros if bias is None else bias

    def describe(self) -> dict[str, Any]:
        """Return the schedule: none."""
        return {"kernel": "topi default loops"}

    def space(self) -> Space | None:
        """Return None: there is no template whose knobs could be tuned."""
        return None


@dataclass(frozen=True)
class Scheduled(Native):
    """One convolution with a schedule that MetaSchedule found, NCHW to NCHW."""

    module: str
    """The scheduled function, as `packed` writes it."""

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [residual], y)."""
        return unpacked(self.module).with_attr("global_symbol", name)

    def describe(self) -> dict[str, Any]:
        """Return the schedule."""
        return {"kernel": "topi scheduled by metaschedule"}


def packed(module: Any) -> str:
    """Return a module's text, compressed."""
    return base64.b64encode(zlib.compress(tvm.ir.save_json(module).encode(), 9)).decode()


def unpacked(text: str) -> PrimFunc:
    """Return the only function of a module that `packed` wrote."""
    module = tvm.ir.load_json(zlib.decompress(base64.b64decode(text)).decode())
    (function,) = module.functions.values()
    return function


def _activate(y: Any, activation: str | None) -> Any:
    if activation is None:
        return y
    if activation == "relu":
        return topi.nn.relu(y)
    if activation == "relu6":
        return topi.clip(y, 0.0, 6.0)
    if activation == "silu":
        return topi.multiply(y, topi.sigmoid(y))
    if activation == "sigmoid":
        return topi.sigmoid(y)
    raise UnsupportedError(f"unknown activation {activation!r}; known: relu, relu6, silu, sigmoid")


def _lower(op: Conv2d, r: Request, dtype: str = "float32") -> Kernel:
    if r.knobs.module:
        return Scheduled(op, r.target, r.threads, r.epilogue, r.knobs.module)
    numbers = FLOAT32 if dtype == FLOAT32.name else WIDENED[dtype]
    return Native(op, r.target, r.threads, r.epilogue, numbers=numbers)


PRIMITIVE = nchw_primitive("native", _lower)
NARROW = tuple(
    nchw_primitive("native", partial(_lower, dtype=dtype), dtype=dtype) for dtype in types.HALVES
)
