"""`native`: what TVM itself does with a convolution, its `topi` definition in default loops.

No schedule and no template: the yardstick that the chosen algorithms are compared with.
"""

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import te, topi

from dlas.kernels.code.emit import PrimFunc, begins_anywhere
from dlas.kernels.convolution.contract import Kernel, Request
from dlas.kernels.convolution.plain import PlainKernel, nchw_primitive
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.layout import Array
from dlas.kernels.ground.shape import Conv2d


@dataclass(frozen=True)
class Native(PlainKernel):
    """One convolution as TVM lowers it by default, NCHW to NCHW, on one thread."""

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (x, weight, bias, [residual], y)."""
        op = self.op
        x = te.placeholder(op.in_shape, "float32", "x")
        w = te.placeholder(op.weight_shape, "float32", "weight")
        b = te.placeholder((op.out_channels,), "float32", "bias")
        strides, padding, dilation = list(op.stride), list(op.padding), list(op.dilation)
        if op.groups == 1:
            y = topi.nn.conv2d_nchw(x, w, strides, padding, dilation, "float32")
        else:
            y = topi.nn.group_conv2d_nchw(x, w, strides, padding, dilation, op.groups, "float32")
        summed = y
        y = te.compute(op.out_shape, lambda n, c, i, j: summed[n, c, i, j] + b[c], "biased")
        arguments = [x, w, b]
        if self.epilogue.residual:
            arguments.append(te.placeholder(op.out_shape, "float32", "residual"))
            y = topi.add(y, arguments[-1])
        y = _activate(y, self.epilogue.activation)
        function = begins_anywhere(te.create_prim_func([*arguments, y]))
        return function.with_attr("global_symbol", name)

    def constants(self, weight: Array, bias: Array | None) -> tuple[Array, ...]:
        """Return the filters and the bias as they came."""
        zeros = np.zeros(self.op.out_channels, np.float32)
        return weight, zeros if bias is None else bias

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


def _lower(op: Conv2d, r: Request) -> Kernel:
    if r.knobs.module:
        return Scheduled(op, r.target, r.threads, r.epilogue, r.knobs.module)
    return Native(op, r.target, r.threads, r.epilogue)


PRIMITIVE = nchw_primitive("native", _lower)
