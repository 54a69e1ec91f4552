"""`gemm` of an image to a pixel, as a linear layer: right with all that is fused or tuned."""

import pytest

from dlas.kernels import Conv2d
from dlas.kernels.convolution.primitives import plain_kernel
from dlas.kernels.convolution.whole_window import WholeWindow, is_whole_window
from dlas.kernels.ground.target import resolve
from kernel_checks import check
from kernel_shapes import name

WHOLE = [
    Conv2d(1, 40, 7, 7, 100, (7, 7)),
    Conv2d(3, 21, 5, 4, 70, (5, 4)),
    Conv2d(1, 33, 1, 1, 17, (1, 1)),
    Conv2d(18, 3, 2, 3, 5, (2, 3), stride=(4, 1)),
]


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("turn", range(len(WHOLE)), ids=lambda i: name(WHOLE[i]))
def test_it_is_right(turn: int, target: str) -> None:
    op, threads = WHOLE[turn], 1 + turn % 2
    assert isinstance(plain_kernel(op, "gemm", "dense", resolve(target), threads), WholeWindow)
    check(op, "gemm", turn, threads, target)


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
