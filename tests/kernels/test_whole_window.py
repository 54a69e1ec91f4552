"""`gemm` of an image to a pixel, as a linear layer: right with all that is fused or tuned."""

import pytest
from kernel_checks import random, worst_error
from kernel_shapes import name

from dlas.kernels import Conv2d, build_conv2d
from dlas.kernels.reference import DIRECT_BOUND
from dlas.kernels.space import plain_kernel, space_of
from dlas.kernels.target import resolve
from dlas.kernels.whole_window import WholeWindow, covers

WHOLE = [
    Conv2d(1, 40, 7, 7, 100, (7, 7)),
    Conv2d(3, 21, 5, 4, 70, (5, 4)),
    Conv2d(1, 33, 1, 1, 17, (1, 1)),
    Conv2d(18, 3, 2, 3, 5, (2, 3), stride=(4, 1)),
]


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("turn", range(len(WHOLE)), ids=lambda i: name(WHOLE[i]))
def test_it_is_right(turn: int, target: str) -> None:
    op, activation = WHOLE[turn], (None, "relu", "relu6", "silu")[turn]
    weight, bias = random(op.weight_shape), random((op.out_channels,))
    built = build_conv2d(
        op, weight, bias, "gemm", activation=activation, threads=1 + turn % 2, target=target
    )
    assert built.describe()["schedule"]["patches"] == "the image, a row each"
    for residual in (False, True):
        assert worst_error(built, weight, bias, activation, residual) <= DIRECT_BOUND


def test_only_filters_of_the_image_s_size_are_taken() -> None:
    assert all(covers(op) for op in WHOLE)
    others = [
        Conv2d(1, 4, 5, 5, 4, (5, 4)),
        Conv2d(1, 4, 3, 3, 4, (3, 3), padding=(1, 1, 1, 1)),
        Conv2d(1, 4, 3, 3, 4, (3, 3), groups=2),
    ]
    assert not any(covers(op) for op in others)


def test_every_setting_is_one_of_the_product_s() -> None:
    op, cpu = WHOLE[0], resolve("native")
    kernel = plain_kernel(op, "gemm", "dense", cpu, threads=2)
    assert isinstance(kernel, WholeWindow)
    space = space_of(kernel, op, cpu)
    assert space is not None and len(space.settings) > 1
    for setting in space.settings[1:]:
        tuned = plain_kernel(op, "gemm", "dense", cpu, 2, setting)
        assert isinstance(tuned, WholeWindow)
        assert tuned.describe()["tile"] == setting.as_dict()
