"""Convolutions in int8, bit for bit against exact sums and ONNX Runtime's roundings."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm")

from dlas.kernels import Conv2d, InputError, Quantization, Scale, UnsupportedError, build_conv2d
from dlas.kernels.code.numbers import left_out
from dlas.kernels.convolution import primitives
from dlas.kernels.ground.target import resolve, runs_here
from dlas.kernels.ground.types import SPARSE_INT8
from drawn_shapes import THREADS, ZEROS, operators, sixty
from kernel_checks import bytes_of, check_int8, filters_of, pairwise, scales_of
from kernel_shapes import SHAPES, name

PRIMITIVES = [
    p for p, weights, dtype in primitives.NARROW if (weights, dtype) == ("dense", "int8")
]
TARGETS = ["native", "x86-64-v3", "x86-64-v3-vnni", "x86-64-v4", "x86-64-v4-vnni", "x86-64-v4-amx"]
HERE = [name for name in TARGETS if runs_here(resolve(name))]
"""The dot products of this CPU: VNNI, and pairs of 16 bits where there is none."""
QUICK = pairwise(SHAPES, 9)
"""Few: a convolution in int8 is that of float32 with another step and another last store."""
SMALL = Conv2d(1, 18, 7, 6, 20, (3, 3), padding=(1, 1, 1, 1))


@pytest.mark.parametrize("turn", range(len(QUICK)), ids=lambda i: name(QUICK[i]))
def test_int8_is_exact_on_few_shapes(turn: int) -> None:
    primitive = PRIMITIVES[turn % len(PRIMITIVES)]
    check_int8(QUICK[turn], primitive, turn, 1 + turn // 2 % 2, HERE[turn // 2 % len(HERE)])


@pytest.mark.kernels_full
@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("primitive", PRIMITIVES)
@pytest.mark.parametrize("turn", range(len(SHAPES)), ids=lambda i: name(SHAPES[i]))
def test_int8_is_exact_on_all_shapes(turn: int, primitive: str, target: str) -> None:
    check_int8(SHAPES[turn], primitive, turn, threads=1 + turn % 2, target=target)


@pytest.mark.kernels_full
@pytest.mark.parametrize("primitive", PRIMITIVES)
@sixty
@given(op=operators(), turn=st.integers(0, 11), threads=THREADS, zeros=ZEROS)
def test_int8_is_exact_on_drawn_shapes(
    primitive: str, op: Conv2d, turn: int, threads: int, zeros: float | None
) -> None:
    sparse = zeros is not None and primitive in SPARSE
    check_int8(op, primitive, turn, threads, zeros=zeros if sparse else None)


SPARSE = [p for p, weights, _ in primitives.NARROW if weights == "csr"]


@pytest.mark.parametrize("turn", range(6), ids=lambda i: name(QUICK[i]))
def test_sparse_int8_is_exact_on_few_shapes(turn: int) -> None:
    primitive, zeros = SPARSE[turn % len(SPARSE)], (0.9, 0.5, 1.0)[turn % 3]
    threads, target = 1 + turn // 2 % 2, HERE[turn // 2 % len(HERE)]
    check_int8(QUICK[turn], primitive, turn, threads, target, zeros)


@pytest.mark.kernels_full
@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("primitive", SPARSE)
@pytest.mark.parametrize("turn", range(len(SHAPES)), ids=lambda i: name(SHAPES[i]))
def test_sparse_int8_is_exact_on_all_shapes(turn: int, primitive: str, target: str) -> None:
    check_int8(SHAPES[turn], primitive, turn, 1 + turn % 2, target, 0.9)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_lies_between_groups_is_no_zero(channels: int) -> None:
    """Groups are merged to whole fours of channels, and share fours with nothing in them."""
    op = Conv2d(1, 16 * channels, 9, 9, 16, (3, 3), groups=16)
    weight = np.ones(op.weight_shape, np.int8)
    assert left_out(op, weight, "int8") == 0
    weight[:8] = 0
    assert left_out(op, weight, "int8") == pytest.approx(0.5)


def test_groups_of_zeros_are_left_out_and_no_others() -> None:
    op = Conv2d(1, 16, 5, 5, 8, (3, 3), padding=(1, 1, 1, 1))
    weight, _ = filters_of(op)
    weight[weight == 0] = 1
    weight[:, 4:12] = 0  # two of four groups
    weight[0, :3] = 0  # three of the four channels of a group: it stays
    kernel = primitives.plain_kernel(op, "direct", "csr", resolve("native"), 1, dtype="int8")
    starts, _, values, _ = kernel.constants(weight, None)
    assert len(values) == starts[-1] == 8 * 2 * 9


def test_what_is_said_to_be_sparse_in_int8_is() -> None:
    assert tuple(SPARSE) == SPARSE_INT8


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_large_sums_are_exact_and_saturate(primitive: str) -> None:
    """The largest products: where pairs of them were summed in 16 bits they would saturate."""
    op = Conv2d(1, 64, 3, 3, 16, (3, 3), padding=(1, 1, 1, 1))
    weight = np.full(op.weight_shape, 127, np.int8)
    weight[1::2] = -128
    scales = Quantization(Scale(1.0), (1.0,), Scale(2.0**16, 3))
    built = build_conv2d(op, weight, None, primitive, dtype="int8", quantization=scales)
    y = built(np.full(op.in_shape, 255, np.uint8))
    inside = {127: 255 * 127 * 576, -128: -255 * 128 * 576}
    for channel, w in ((0, 127), (1, -128)):
        exact = min(max(round(inside[w] / 2**16) + 3, 0), 255)
        assert y[0, channel, 1, 1] == exact
    assert y[0, 1].max() == 0


TILED = [
    Conv2d(1, 48, 9, 11, 40, (3, 3), (2, 1), (1, 0, 2, 1)),
    Conv2d(2, 130, 5, 18, 33, (1, 1)),
    Conv2d(1, 64, 6, 7, 16, (3, 3), padding=(1, 1, 1, 1), dilation=(1, 2)),
    Conv2d(3, 96, 3, 2, 24, (3, 3), padding=(1, 1, 1, 1)),
    Conv2d(1, 64, 1, 37, 70, (1, 1)),
    Conv2d(1, 64, 9, 14, 96, (3, 3), padding=(1, 1, 1, 1)),
    Conv2d(2, 128, 7, 7, 64, (3, 3), padding=(1, 1, 1, 1)),
    Conv2d(1, 96, 15, 28, 200, (3, 3), (2, 2), (1, 1, 1, 1)),
    Conv2d(1, 3, 20, 23, 40, (7, 7), (2, 2), (3, 3, 3, 3)),
    Conv2d(2, 7, 9, 6, 20, (3, 5), padding=(1, 2, 1, 2), dilation=(2, 1)),
    Conv2d(1, 2, 6, 17, 16, (1, 4), (1, 3), (0, 3, 1, 2)),
]
"""Runs over several rows of the image and rows of their own; rows of tiles of channels and of
taps; images read in place and not; batches, what fills no tile, strides, dilation."""


@pytest.mark.skipif("x86-64-v4-amx" not in HERE, reason="this CPU has no AMX")
@pytest.mark.parametrize("op", TILED, ids=name)
def test_tiles_of_bytes_are_exact(op: Conv2d) -> None:
    built = check_int8(op, "spatial-pack", turn=1, threads=2, target="x86-64-v4-amx")
    schedule = built.describe()["schedule"]
    assert schedule["kernel"] == "spatial-pack by AMX"
    assert ("rows_of_tiles" in schedule) == (op.in_channels < 16)


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_halo_holds_the_zero_point(primitive: str) -> None:
    """Padding is a real zero: an image of the zero point gives the bias everywhere."""
    scales = replace(scales_of(SMALL), x=Scale(0.1, 201), sum=None)
    weight, bias = filters_of(SMALL)
    built = build_conv2d(SMALL, weight, bias, primitive, dtype="int8", quantization=scales)
    y = built(np.full(SMALL.in_shape, 201, np.uint8))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :, :1, :1], y.shape))


def test_description_says_the_types() -> None:
    weight, bias = filters_of(SMALL)
    built = build_conv2d(SMALL, weight, bias, dtype="int8", quantization=scales_of(SMALL))
    said = built.describe()
    assert said["dtype"] == "int8"
    assert said["types"] == {
        "input": "uint8", "weight": "int8", "accumulate": "int32", "output": "uint8",
    }  # fmt: skip
    scales, plain = scales_of(SMALL), "x86-64-v3"  # AMX's tiles are filled up with zeros
    small = build_conv2d(SMALL, weight, dtype="int8", quantization=scales, target=plain)
    whole = build_conv2d(SMALL, weight.astype(np.float32), target=plain)
    assert small.describe()["weight_bytes"] < whole.describe()["weight_bytes"] / 2


def test_what_cannot_be_built_in_int8_says_why() -> None:
    weight, bias = filters_of(SMALL)
    scales = scales_of(SMALL)

    def build(**changed: object) -> None:
        asked = {"dtype": "int8", "quantization": scales, **changed}
        build_conv2d(SMALL, weight, bias, **asked)  # type: ignore[arg-type]

    with pytest.raises(UnsupportedError, match="winograd in int8 is not implemented: its"):
        build(primitive="winograd")
    with pytest.raises(UnsupportedError, match="native with dense weights is not implemented"):
        build(primitive="native")
    with pytest.raises(UnsupportedError, match="silu is not implemented in int8"):
        build(activation="silu")
    with pytest.raises(UnsupportedError, match="int8 needs `quantization`"):
        build(quantization=None)
    with pytest.raises(UnsupportedError, match="belong to dtype int8, not float32"):
        build(dtype="float32")
    with pytest.raises(UnsupportedError, match=r"dtype must be one of .*'int9'.*int8"):
        build(dtype="int9")
    with pytest.raises(InputError, match="one scale or one for each of 20 output channels, got 3"):
        build(quantization=replace(scales, weight=(1.0, 1.0, 1.0)))


def test_what_is_no_scale_is_refused() -> None:
    for scale in (0.0, -1.0, float("nan"), float("inf"), 1e-60):
        with pytest.raises(InputError, match="positive finite"):
            Scale(scale)
    for zero in (-1, 256, 0.5):
        with pytest.raises(InputError, match="zero point"):
            Scale(1.0, zero)  # type: ignore[arg-type]


def test_numbers_that_do_not_fit_are_refused() -> None:
    weight, bias = filters_of(SMALL)
    scales = replace(scales_of(SMALL), sum=None)
    with pytest.raises(InputError, match="weight must hold whole numbers"):
        build_conv2d(SMALL, weight.astype(np.float32), dtype="int8", quantization=scales)
    with pytest.raises(InputError, match="weight must hold numbers from -128 to 127"):
        build_conv2d(SMALL, weight.astype(np.int32) * 2, dtype="int8", quantization=scales)
    built = build_conv2d(SMALL, weight, bias, dtype="int8", quantization=scales)
    with pytest.raises(InputError, match="x must hold whole numbers"):
        built(np.zeros(SMALL.in_shape, np.float32))
    with pytest.raises(InputError, match="needs the scales of the sum"):
        built(bytes_of(SMALL.in_shape), residual=bytes_of(SMALL.out_shape))
