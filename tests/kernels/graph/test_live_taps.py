"""Filters cut to what meets the image: the same outputs, and nothing less."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
from torch import nn  # noqa: E402

from dlas.kernels import Conv2d, UnsupportedError, compile_model  # noqa: E402
from dlas.kernels.convolution import oracle  # noqa: E402
from dlas.kernels.graph.live_taps import alive, without  # noqa: E402
from kernel_checks import random  # noqa: E402


def small() -> list[Conv2d]:
    """Small images under every filter, stride, dilation and padding of a few."""
    found = []
    for size, kernel, stride, dilation, before, behind in itertools.product(
        (1, 2, 3, 5), (1, 2, 3, 5), (1, 2, 3), (1, 2), (0, 1, 2, 3), (0, 1, 3)
    ):
        try:
            found.append(
                Conv2d(
                    1, 2, size, 2, 3, (kernel, 1), (stride, 1), (before, 0, behind, 0),
                    (dilation, 1),
                )
            )  # fmt: skip
        except UnsupportedError:
            continue
    return found


def test_outputs_are_the_same() -> None:
    cuts = 0
    for op in small():
        (top, bottom), (left, right) = alive(op, 0), alive(op, 1)
        cut = without(op, (top, bottom), (left, right))
        if cut == op:
            continue
        cuts += 1
        x, w = random(op.in_shape), random(op.weight_shape)
        np.testing.assert_array_equal(
            oracle.conv2d(cut, x, w[:, :, top:bottom, left:right]).y, oracle.conv2d(op, x, w).y
        )
    assert cuts > 100


@pytest.mark.parametrize(
    ("size", "stride", "kernel", "padding"),
    [(1, 1, (1, 1), (0, 0, 0, 0)), (2, 2, (2, 2), (0, 0, 0, 0)), (2, 1, (3, 3), (1, 1, 1, 1))],
)
def test_of_a_padded_filter_the_image_s_part_is_left(
    size: int, stride: int, kernel: tuple[int, int], padding: tuple[int, ...]
) -> None:
    op = Conv2d(1, 4, size, size, 4, (3, 3), (stride, stride), (1, 1, 1, 1))
    cut = without(op, alive(op, 0), alive(op, 1))
    assert (cut.kernel, cut.padding) == (kernel, padding)


@pytest.mark.parametrize("algorithm", ["gemm", "direct", "spatial-pack", "winograd", "native"])
def test_a_network_s_last_layers_are_cut(algorithm: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 20, 3, 2, 1),
        nn.Conv2d(20, 20, 3, 1, 1, groups=20), nn.Conv2d(20, 33, 3, 1, 1),
    ).eval()  # fmt: skip
    x = torch.randn(1, 3, 4, 4)
    program = compile_model(torch.export.export(model, (x,)), algorithm, threads=2)
    with torch.no_grad():
        expected = model.double()(x.double()).numpy()
    np.testing.assert_allclose(program.run(x.numpy()), expected, atol=1e-5)
    rows = [r for r in program.describe()["operators"] if r["kind"] == "conv2d"]
    assert [row["filter"] for row in rows] == [[3, 3], [2, 2], [1, 1], [1, 1]]
    assert all(row["filter_given"] == [3, 3] for row in rows)
    assert [row["weight_count"] for row in rows] == [648, 4320, 180, 5940]
