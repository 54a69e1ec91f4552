"""Depthwise convolutions in int8 on blocks of 64 channels, bit for bit."""

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from dlas.kernels import Conv2d
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.convolution.depthwise import Depthwise
from dlas.kernels.convolution.depthwise_bytes import DepthwiseBytes, fitting
from dlas.kernels.convolution.primitives import plain_kernel
from dlas.kernels.ground.layout import Layout
from dlas.kernels.ground.target import resolve, runs_here
from kernel_checks import check_int8
from kernel_shapes import name

TARGET = "x86-64-v4-amx"
SHAPES = [
    Conv2d(1, 128, 9, 14, 128, (3, 3), padding=(1, 1, 1, 1), groups=128),
    Conv2d(2, 240, 11, 9, 240, (3, 3), (2, 2), (1, 0, 1, 1), groups=240),
    Conv2d(1, 64, 7, 7, 64, (5, 5), padding=(2, 2, 2, 2), groups=64),
    Conv2d(1, 60, 12, 3, 60, (5, 2), (2, 1), (2, 1, 1, 0), groups=60),
    Conv2d(2, 64, 8, 21, 64, (2, 7), (1, 2), (0, 3, 1, 3), (2, 1), groups=64),
    Conv2d(1, 64, 6, 9, 64, (1, 4), padding=(0, 3, 0, 3), dilation=(1, 2), groups=64),
]
"""Rows of a filter that fill no int32, one and more; strides, dilation, batches, channels that
fill no block."""


@pytest.mark.parametrize("turn", range(len(SHAPES)), ids=lambda i: name(SHAPES[i]))
def test_it_is_exact(turn: int) -> None:
    op, cpu = SHAPES[turn], resolve(TARGET)
    kernel = plain_kernel(op, "spatial-pack", "dense", cpu, 1, dtype="int8")
    assert isinstance(kernel, DepthwiseBytes)
    if not runs_here(cpu):
        pytest.skip("this CPU has no AMX")
    check_int8(op, "spatial-pack", turn, 1 + turn % 2, TARGET)


def test_blocks_of_a_vector_run_otherwise() -> None:
    few = Conv2d(1, 96, 9, 14, 96, (3, 3), padding=(1, 1, 1, 1), groups=96)
    others = [
        (few, TARGET),
        *((SHAPES[0], target) for target in ("x86-64-v4-vnni", "x86-64-v3", "aarch64-dotprod")),
    ]
    for op, target in others:
        kernel = plain_kernel(op, "spatial-pack", "dense", resolve(target), 1, dtype="int8")
        assert isinstance(kernel, Depthwise)


def test_dot_products_of_half_as_wide_vectors_are_not_enough() -> None:
    """CPUs with AVX-VNNI and without AVX-512 pack bytes, too, but not four quarters of them."""
    narrow, layout = resolve("x86-64-v3"), Layout(64)
    narrow = replace(narrow, features=(*narrow.features, "avx_vnni"))
    assert not fitting(narrow, layout, layout, Epilogue())
    assert fitting(resolve(TARGET), layout, layout, Epilogue())
