"""`gemm` of images of a few pixels: right with all that is fused or tuned, odd widths too."""

import pytest

pytest.importorskip("tvm")

from dlas.kernels import Conv2d
from dlas.kernels.convolution.few_pixels import FewPixels, suits
from dlas.kernels.convolution.primitives import plain_kernel
from dlas.kernels.ground.target import resolve
from dlas.kernels.ground.types import HALVES
from kernel_checks import check, check_half, check_int8
from kernel_shapes import name

PAD = (1, 1, 1, 1)
FEW = [
    Conv2d(1, 70, 4, 4, 83, (3, 3), padding=PAD),
    Conv2d(2, 37, 2, 2, 50, (3, 3), padding=PAD),
    Conv2d(1, 300, 4, 2, 130, (1, 1)),
    Conv2d(1, 21, 5, 5, 200, (3, 3), (2, 2), (0, 1, 1, 0)),
    Conv2d(3, 40, 1, 1, 33, (3, 3), padding=PAD),
    Conv2d(1, 530, 2, 4, 257, (3, 3), padding=PAD),
]


@pytest.mark.parametrize("turn", range(len(FEW)), ids=lambda i: name(FEW[i]))
def test_it_is_right(turn: int) -> None:
    target = ("native", "x86-64-v3")[turn // 2 % 2]
    op, threads, cpu = FEW[turn], 1 + turn % 2, resolve(target)
    kernel = plain_kernel(op, "gemm", "dense", cpu, threads)
    assert isinstance(kernel, FewPixels) == suits(op, cpu)
    check(op, "gemm", turn, threads, target)


@pytest.mark.parametrize("turn", range(len(FEW)), ids=lambda i: name(FEW[i]))
def test_it_is_right_in_narrow_types(turn: int) -> None:
    target = ("x86-64-v3", "native")[turn // 2 % 2]
    op, threads, cpu = FEW[turn], 1 + turn % 2, resolve(target)
    taken = suits(op, cpu)
    for dtype in (HALVES[turn % 2], "int8"):
        kernel = plain_kernel(op, "gemm", "dense", cpu, threads, dtype=dtype)
        assert isinstance(kernel, FewPixels) == taken
    check_half(op, "gemm", HALVES[turn % 2], turn, threads, target)
    check_int8(op, "gemm", turn, threads, target)


def test_filters_beyond_the_caches_are_fetched_ahead() -> None:
    kernel = plain_kernel(FEW[-1], "gemm", "dense", resolve("x86-64-v4"), 1)
    assert "llvm.prefetch" in str(kernel.function("conv").script())


def test_images_of_many_pixels_and_groups_are_not_taken() -> None:
    cpu = resolve("x86-64-v4")
    assert suits(Conv2d(1, 8, 4, 4, 16, (3, 3), padding=PAD), cpu)
    others = [
        Conv2d(1, 8, 7, 7, 16, (3, 3), padding=PAD),
        Conv2d(1, 8, 4, 4, 16, (3, 3), padding=PAD, groups=2),
        Conv2d(1, 8, 4, 4, 3, (3, 3), padding=PAD),
    ]
    assert not any(suits(op, cpu) for op in others)


def test_every_setting_is_one_that_can_be_built() -> None:
    op, cpu = FEW[0], resolve("native")
    space = plain_kernel(op, "gemm", "dense", cpu, 2).space()
    assert space is not None and len(space.settings) > 1
    for setting in space.settings[1:]:
        tuned = plain_kernel(op, "gemm", "dense", cpu, 2, setting)
        assert tuned.describe()["tile"] == setting.as_dict()
