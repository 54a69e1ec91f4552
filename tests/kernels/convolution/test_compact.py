"""`gemm` of depthwise convolutions of small images: lanes are groups."""

import pytest

pytest.importorskip("tvm")

from dlas.kernels import Conv2d
from dlas.kernels.convolution.compact import Compact, suits
from dlas.kernels.convolution.primitives import plain_kernel
from dlas.kernels.ground.target import resolve
from kernel_checks import check
from kernel_shapes import name

SMALL = [
    Conv2d(1, 37, 5, 7, 37, (3, 3), padding=(1, 1, 1, 1), groups=37),
    Conv2d(2, 16, 2, 2, 16, (3, 3), padding=(1, 1, 1, 1), groups=16),
    Conv2d(1, 50, 9, 8, 50, (5, 5), (2, 2), (2, 1, 2, 3), groups=50),
    Conv2d(1, 33, 1, 1, 33, (1, 1), groups=33),
    Conv2d(1, 19, 6, 6, 19, (3, 2), padding=(2, 0, 1, 1), dilation=(2, 1), groups=19),
]


@pytest.mark.parametrize("turn", range(len(SMALL)), ids=lambda i: name(SMALL[i]))
def test_it_is_right(turn: int) -> None:
    target = ("native", "x86-64-v3")[turn // 2 % 2]
    op, threads = SMALL[turn], 1 + turn % 2
    assert isinstance(plain_kernel(op, "gemm", "dense", resolve(target), threads), Compact)
    check(op, "gemm", turn, threads, target)


def test_large_images_and_few_channels_are_not_taken() -> None:
    cpu = resolve("x86-64-v4")
    assert suits(SMALL[0], cpu)
    others = [
        Conv2d(1, 16, 20, 20, 16, (3, 3), groups=16),
        Conv2d(1, 16, 60, 60, 16, (3, 3), (4, 4), groups=16),
        Conv2d(1, 8, 4, 4, 8, (3, 3), groups=8),
        Conv2d(1, 16, 4, 4, 32, (3, 3), groups=16),
    ]
    assert not any(suits(op, cpu) for op in others)
