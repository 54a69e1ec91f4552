"""What the kernel tests share: fresh inputs and the comparison with the float64 reference."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlas.kernels import BuiltConv2d, ByteTable, Conv2d, Quantization, Scale, Sum, build_conv2d
from dlas.kernels.code.emit import argument_shapes, argument_types
from dlas.kernels.code.machine_code import compile_functions
from dlas.kernels.convolution import oracle
from dlas.kernels.convolution.oracle import DIRECT_BOUND, WINOGRAD_BOUND
from dlas.kernels.ground.arrays import aligned_copy, tensor, viewed
from dlas.kernels.ground.half_floats import narrowed, widened
from dlas.kernels.ground.layout import AnyArray, Array
from dlas.kernels.ground.program import load_library
from dlas.kernels.ground.target import CpuTarget

ACTIVATIONS = [None, "relu", "relu6", "silu"]


def random(shape: tuple[int, ...]) -> Array:
    """Fresh standard normal numbers; another run sees others."""
    return np.random.default_rng().standard_normal(shape).astype(np.float32)


def worst_error(
    built: BuiltConv2d, weight: Array, bias: Array | None, activation: str | None, residual: bool
) -> float:
    """Largest error of one call, in units of what its inputs allow (see `reference`)."""
    op = built.op
    x, r = random(op.in_shape), random(op.out_shape) if residual else None
    y = built(x, residual=r)
    exact = oracle.conv2d(op, x, weight, bias, activation, r)
    assert y.shape == op.out_shape and y.dtype == np.float32
    scale = np.maximum(exact.magnitude, np.finfo(np.float32).tiny)
    return float((np.abs(y - exact.y) / scale).max())


def check(
    op: Conv2d,
    primitive: str,
    turn: int,
    threads: int,
    target: str = "native",
    zeros: float | None = None,
) -> None:
    """Build once and compare a plain call and one with everything fused; `zeros` means CSR."""
    weight, bias = random(op.weight_shape), random((op.out_channels,))
    if zeros is not None:
        weight[np.random.default_rng().random(weight.shape) < zeros] = 0
    activation = ACTIVATIONS[turn % 4]
    built = build_conv2d(
        op, weight, bias, primitive, "dense" if zeros is None else "csr",
        activation=activation, threads=threads, target=target,
    )  # fmt: skip
    bound = WINOGRAD_BOUND if primitive == "winograd" else DIRECT_BOUND
    for residual in (False, True):
        error = worst_error(built, weight, bias, activation, residual)
        assert error <= bound, f"{error} > {bound}, residual: {residual}"


def check_half(
    op: Conv2d, primitive: str, dtype: str, turn: int, threads: int, target: str = "native"
) -> BuiltConv2d:
    """Build in a half and compare with float64 on inputs rounded as the kernel rounds them."""
    weight, bias = random(op.weight_shape), random((op.out_channels,))
    activation = ACTIVATIONS[turn % 4]
    built = build_conv2d(
        op, weight, bias, primitive, dtype=dtype, activation=activation, threads=threads,
        target=target,
    )  # fmt: skip
    kind = built.describe()["types"]["input"]
    x, r = random(op.in_shape), random(op.out_shape)
    for residual in (None, r):
        exact = oracle.conv2d(
            op, rounded(x, kind), rounded(weight, dtype), bias, activation, residual
        )
        size = exact.magnitude
        size = oracle.of_tiles(size) if primitive == "winograd" else size
        error = np.abs(built(x, residual=residual) - exact.y) / size
        bound = oracle.bound(primitive, dtype, kind, op.in_channels)
        assert error.max() <= bound, f"{error.max()} > {bound}, residual: {residual is not None}"
    return built


def rounded(x: Array, dtype: str) -> Array:
    """What numbers become that are stored in a type."""
    return x if dtype == "float32" else widened(narrowed(x, dtype), dtype)


QUANTIZED = [None, "relu", "relu6"]


def bytes_of(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Fresh uint8 numbers."""
    return np.random.default_rng().integers(0, 256, shape).astype(np.uint8)


def filters_of(op: Conv2d, zeros: float = 0.0) -> tuple[npt.NDArray[np.int8], AnyArray]:
    """Fresh int8 filters, of which a share is zero, and int32 biases."""
    rng = np.random.default_rng()
    weight = rng.integers(-128, 128, op.weight_shape).astype(np.int8)
    weight[rng.random(op.weight_shape) < zeros] = 0
    return weight, rng.integers(-4000, 4000, op.out_channels).astype(np.int32)


def scales_of(op: Conv2d, first: bool = False) -> Quantization:
    """Fresh scales and zero points, with outputs spread over all of uint8."""
    rng = np.random.default_rng()

    def zero() -> int:
        return int(rng.integers(0, 256))

    weight = tuple(float(s) for s in rng.uniform(0.5, 2, op.out_channels) / 100)
    deviation = 0.02 * 0.01 * 73 * 100 * float(np.prod(op.weight_shape[1:])) ** 0.5
    x, y = Scale(0.02, zero()), Scale(deviation / rng.uniform(30, 90), zero())
    other = Scale(y.scale * rng.uniform(0.3, 3), zero())
    total = Scale(y.scale * rng.uniform(0.7, 2), zero())
    return Quantization(x, weight, y, Sum(other, total, first))


def called(
    kernel: Any, arrays: list[AnyArray], output: AnyArray, target: CpuTarget | None = None
) -> AnyArray:
    """Compile a kernel for a CPU (else the one that it is of), call it and return the output."""
    function = kernel.function("kernel")
    module = load_library(compile_functions({"kernel": function}, target or kernel.target))
    forms = zip(argument_shapes(function), argument_types(function), strict=True)
    given = [
        aligned_copy(found, found.shape)
        for array, form in zip([*arrays, output], forms, strict=True)
        for found in [viewed(array, *form)]
    ]
    module["kernel"](*[tensor(each) for each in given])
    return viewed(given[-1], output.shape, str(output.dtype))


def any_table() -> ByteTable:
    """A function of a byte that nobody would guess, each result once."""
    rng = np.random.default_rng()
    return ByteTable(rng.permutation(256).astype(np.uint8).tobytes(), Scale(0.1, 77))


def check_int8(
    op: Conv2d,
    primitive: str,
    turn: int,
    threads: int,
    target: str = "native",
    zeros: float | None = None,
) -> BuiltConv2d:
    """Build in int8 and compare with the exact reference: not one bit may differ.

    `zeros` (a share of the filters) means CSR.
    """
    weight, bias = filters_of(op, zeros or 0.0)
    activation, scales = QUANTIZED[turn % 3], scales_of(op, first=turn % 2 == 1)
    if turn % 4 in (1, 2):
        scales = replace(scales, table=any_table())
    built = build_conv2d(
        op, weight, bias, primitive, "dense" if zeros is None else "csr", dtype="int8",
        activation=activation, threads=threads, target=target, quantization=scales,
    )  # fmt: skip
    scales = replace(scales, activation=activation)
    x, r = bytes_of(op.in_shape), bytes_of(op.out_shape)
    for residual in (None, r):
        y = built(x, residual=residual)
        exact = oracle.quantized_conv2d(op, x, weight, bias, scales, residual)
        assert y.dtype == np.uint8
        np.testing.assert_array_equal(y, exact)
    return built


def pairwise(ops: list[Conv2d], count: int | None = None) -> list[Conv2d]:
    """Few shapes that show every pair of traits (stride, kernel, ...) that meets in `ops`.

    Greedy: the next shape is the one that shows the most pairs not seen yet; the first `count`
    only, if it is given: they show most of the pairs.
    """
    left = {op: pairs(op) for op in ops}
    every = set().union(*left.values())
    seen: set[tuple[object, object]] = set()
    chosen: list[Conv2d] = []
    while seen != every and (count is None or len(chosen) < count):
        op = max(left, key=lambda o: len(left[o] - seen))
        seen |= left.pop(op)
        chosen.append(op)
    return chosen


def pairs(op: Conv2d) -> set[tuple[object, object]]:
    """Pairs of traits that the shape shows."""
    traits = [
        ("batch", op.batch > 1),
        ("kernel", op.kernel),
        ("stride", op.stride),
        ("dilation", op.dilation != (1, 1)),
        ("groups", "depthwise" if op.depthwise else op.groups > 1),
        ("lopsided", len(set(op.padding)) > 1),
        ("ragged", op.in_channels % 16 != 0, op.out_channels % 16 != 0),
        ("tiny", op.out_width < 4),
    ]
    return {(a, b) for i, a in enumerate(traits) for b in traits[i + 1 :]}
