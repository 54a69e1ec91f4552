"""The operators of ONNX that a quantized model leaves in float, each as PyTorch computes it.

An entry makes, of an operator's attributes and constants, a function of all its inputs. The
meaning is that of ONNX from opset 13 on. Nothing of dlas is imported here but what moves values:
an exported folder holds both files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from dlas.layers.software.shared.torch_moves import MOVES, Fixed, Maker, Run

OPERATORS: dict[str, Maker] = {**MOVES}


def _operator(*names: str) -> Callable[[Maker], Maker]:
    def named(maker: Maker) -> Maker:
        OPERATORS.update(dict.fromkeys(names, maker))
        return maker

    return named


def _same(run: Run) -> Maker:
    return lambda given: run


_UNCHANGED: Mapping[str, Run] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Pow": torch.pow,
    "MatMul": torch.matmul, "Where": torch.where, "Relu": torch.relu, "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh, "Erf": torch.erf, "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal, "Neg": torch.neg, "Abs": torch.abs, "Floor": torch.floor,
    "Ceil": torch.ceil, "Sin": torch.sin, "Cos": torch.cos, "Softplus": F.softplus,
    "HardSwish": F.hardswish, "Mish": F.mish, "Equal": torch.eq, "Less": torch.lt,
    "Greater": torch.gt, "And": torch.logical_and, "Or": torch.logical_or,
    "Not": torch.logical_not,
}  # fmt: skip
OPERATORS.update({name: _same(run) for name, run in _UNCHANGED.items()})


@_operator("Identity", "Dropout")
def _identity(given: Fixed) -> Run:
    return lambda x, *rest: x


@_operator("Div")
def _div(given: Fixed) -> Run:
    def run(a: Any, b: Any) -> Any:
        whole = not (a.is_floating_point() or b.is_floating_point())
        return torch.div(a, b, rounding_mode="trunc" if whole else None)

    return run


def _folded(pair: Run) -> Maker:
    def make(given: Fixed) -> Run:
        def run(first: Any, *rest: Any) -> Any:
            for each in rest:
                first = pair(first, each)
            return first

        return run

    return make


OPERATORS |= {
    "Min": _folded(torch.minimum),
    "Max": _folded(torch.maximum),
    "Sum": _folded(torch.add),
}


# ---------------------------------------------------------------- activations


@_operator("Clip")
def _clip(given: Fixed) -> Run:
    def run(x: Any, low: Any = None, high: Any = None) -> Any:
        return torch.clamp(x, low, high) if low is not None or high is not None else x

    return run


@_operator("Gelu")
def _gelu(given: Fixed) -> Run:
    approximate = given.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


@_operator("HardSigmoid")
def _hard_sigmoid(given: Fixed) -> Run:
    alpha, beta = given.get("alpha", 0.2), given.get("beta", 0.5)
    return lambda x: torch.clamp(x * alpha + beta, 0.0, 1.0)


@_operator("LeakyRelu")
def _leaky_relu(given: Fixed) -> Run:
    alpha = given.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


@_operator("Elu")
def _elu(given: Fixed) -> Run:
    alpha = given.get("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@_operator("PRelu")
def _prelu(given: Fixed) -> Run:
    return lambda x, slope: torch.where(x < 0, x * slope, x)


@_operator("Softmax")
def _softmax(given: Fixed) -> Run:
    axis = given.get("axis", -1)
    return lambda x: torch.softmax(x, axis)


@_operator("LogSoftmax")
def _log_softmax(given: Fixed) -> Run:
    axis = given.get("axis", -1)
    return lambda x: torch.log_softmax(x, axis)


# ---------------------------------------------------------------- norms


@_operator("LayerNormalization")
def _layer_norm(given: Fixed) -> Run:
    axis, epsilon = given.get("axis", -1), given.get("epsilon", 1e-5)

    def run(x: Any, scale: Any, bias: Any = None) -> Any:
        shape = list(x.shape[axis % x.dim() :])
        wide = [each.expand(shape) if each is not None else None for each in (scale, bias)]
        return F.layer_norm(x, shape, wide[0], wide[1], epsilon)

    return run


@_operator("BatchNormalization")
def _batch_norm(given: Fixed) -> Run:
    epsilon = given.get("epsilon", 1e-5)
    return lambda x, scale, bias, mean, var: F.batch_norm(
        x, mean, var, scale, bias, False, 0.0, epsilon
    )


@_operator("InstanceNormalization")
def _instance_norm(given: Fixed) -> Run:
    epsilon = given.get("epsilon", 1e-5)
    return lambda x, scale, bias: F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


# ---------------------------------------------------------------- products


@_operator("Gemm")
def _gemm(given: Fixed) -> Run:
    alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)
    left, right = given.get("transA", 0), given.get("transB", 0)

    def run(a: Any, b: Any, c: Any = None) -> Any:
        a, b = a.t() if left else a, b.t() if right else b
        y = torch.matmul(a, b) if alpha == 1.0 else alpha * torch.matmul(a, b)
        return y if c is None else y + (c if beta == 1.0 else beta * c)

    return run


@_operator("Einsum")
def _einsum(given: Fixed) -> Run:
    equation = given.get("equation")
    return lambda *inputs: torch.einsum(equation, *inputs)


def _halves(pads: Sequence[int]) -> tuple[list[int], list[int] | None]:
    """Return the padding of each axis where both sides have the same, else what F.pad takes."""
    half = len(pads) // 2
    first, last = list(pads[:half]), list(pads[half:])
    if first == last:
        return first, None
    sides = [side for pair in zip(reversed(first), reversed(last), strict=True) for side in pair]
    return [0] * half, sides


def _pads(given: Fixed, axes: int) -> list[int]:
    if given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise ValueError(f"its auto_pad is {given.get('auto_pad')}: it has to state its pads")
    return given.get("pads") or [0] * 2 * axes


@_operator("Conv")
def _conv(given: Fixed) -> Run:
    weight = given.constants[1]
    if weight is None or weight.dim() not in (3, 4, 5):
        raise ValueError("its weights are computed: they have to be constants")
    axes = weight.dim() - 2
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[axes]
    even, sides = _halves(_pads(given, axes))
    stride, dilation = given.get("strides", 1), given.get("dilations", 1)
    groups = given.get("group", 1)

    def run(x: Any, w: Any, b: Any = None) -> Any:
        x = F.pad(x, sides) if sides else x
        return convolve(x, w, b, stride, even, dilation, groups)

    return run


# ---------------------------------------------------------------- pools


@_operator("MaxPool")
def _max_pool(given: Fixed) -> Run:
    window = given.get("kernel_shape")
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(window)]
    even, sides = _halves(_pads(given, len(window)))
    stride, dilation = given.get("strides", 1), given.get("dilations", 1)
    up = bool(given.get("ceil_mode", 0))

    def run(x: Any) -> Any:
        x = F.pad(x, sides, value=-math.inf) if sides else x
        return pool(x, window, stride, even, dilation, up)

    return run


@_operator("AveragePool")
def _average_pool(given: Fixed) -> Run:
    window = given.get("kernel_shape")
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(window)]
    even, sides = _halves(_pads(given, len(window)))
    counted = bool(given.get("count_include_pad", 0))
    if sides and not counted:
        raise ValueError("it pads one side more than the other and counts no padding")
    if any(each != 1 for each in given.get("dilations", [])):
        raise ValueError("its window has gaps")
    stride, up = given.get("strides", 1), bool(given.get("ceil_mode", 0))

    def run(x: Any) -> Any:
        return pool(F.pad(x, sides) if sides else x, window, stride, even, up, counted)

    return run


@_operator("GlobalAveragePool")
def _global_average(given: Fixed) -> Run:
    return lambda x: x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


@_operator("GlobalMaxPool")
def _global_max(given: Fixed) -> Run:
    return lambda x: x.amax(dim=tuple(range(2, x.dim())), keepdim=True)


def _reduced(reduce: Callable[[Any, Sequence[int], bool], Any]) -> Maker:
    def make(given: Fixed) -> Run:
        axes = given.ints(1, "axes")
        keep, nothing = bool(given.get("keepdims", 1)), bool(given.get("noop_with_empty_axes", 0))

        def run(x: Any, *rest: Any) -> Any:
            if not axes and nothing:
                return x
            return reduce(x, axes or list(range(x.dim())), keep)

        return run

    return make


OPERATORS |= {
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMin": _reduced(torch.amin),
    "ReduceL2": _reduced(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
}
