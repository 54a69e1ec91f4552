"""`gemm` of an image to a pixel, as a linear layer: right with all that is fused or tuned."""

import pytest

from dlas.kernels import Conv2d
from dlas.kernels.convolution.primitives import plain_kernel
from dlas.kernels.convolution.whole_window import WholeWindow, is_whole_window
from dlas.kernels.ground.target import resolve, runs_here
from dlas.kernels.ground.types import HALVES
from kernel_checks import check, check_half, check_int8
from kernel_shapes import name

WHOLE = [
    Conv2d(1, 40, 7, 7, 100, (7, 7)),
    Conv2d(3, 21, 5, 4, 70, (5, 4)),
    Conv2d(1, 33, 1, 1, 17, (1, 1)),
    Conv2d(18, 3, 2, 3, 5, (2, 3), stride=(4, 1)),
]


TARGETS = ["native", "x86-64-v3", "x86-64-v4-amx"]


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("turn", range(len(WHOLE)), ids=lambda i: name(WHOLE[i]))
def test_it_is_right(turn: int, target: str) -> None:
    op, threads = WHOLE[turn], 1 + turn % 2
    assert isinstance(plain_kernel(op, "gemm", "dense", resolve(target), threads), WholeWindow)
    check(op, "gemm", turn, threads, target)


@pytest.mark.parametrize("target", [t for t in TARGETS if runs_here(resolve(t))])
@pytest.mark.parametrize("turn", range(len(WHOLE)), ids=lambda i: name(WHOLE[i]))
def test_it_is_exact_in_int8(turn: int, target: str) -> None:
    """An image of 17 outputs has 20 bytes: channels lie in fours, a row of them does not."""
    check_int8(WHOLE[turn], "gemm", turn, 1 + turn % 2, target)


MANY = Conv2d(18, 8, 2, 2, 40, (2, 2))
"""Enough rows, and whole pairs of channels: tiles where the CPU has them."""


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("op", [*WHOLE, MANY], ids=name)
def test_it_multiplies_halves_in_the_type_that_it_tells(op: Conv2d, dtype: str) -> None:
    built = check_half(op, "gemm", dtype, turn=1, threads=1)
    product, told = built.kernel.product, built.describe()
    assert built.kernel.numbers == product.numbers
    assert ("AMX" in told["schedule"]["kernel"]) == product.numbers.tiled


def test_only_filters_of_the_image_s_size_are_taken() -> None:
    assert all(is_whole_window(op) for op in WHOLE)
    others = [
        Conv2d(1, 4, 5, 5, 4, (5, 4)),
        Conv2d(1, 4, 3, 3, 4, (3, 3), padding=(1, 1, 1, 1)),
        Conv2d(1, 4, 3, 3, 4, (3, 3), groups=2),
    ]
    assert not any(is_whole_window(op) for op in others)


def test_every_setting_is_one_of_the_product_s() -> None:
    op, cpu = WHOLE[0], resolve("native")
    kernel = plain_kernel(op, "gemm", "dense", cpu, threads=2)
    assert kernel.describe()["patches"] == "the image, a row each"
    space = kernel.space()
    assert space is not None and len(space.settings) > 1
    for setting in space.settings[1:]:
        tuned = plain_kernel(op, "gemm", "dense", cpu, 2, setting)
        assert isinstance(tuned, WholeWindow)
        assert tuned.describe()["tile"] == setting.as_dict()
