"""Pools on tiles between sparse convolutions, against PyTorch in float64."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
from torch import nn  # noqa: E402

from dlas.kernels import compile_model  # noqa: E402


def between(pool: nn.Module, size: tuple[int, int], batch: int) -> tuple[nn.Module, torch.Tensor]:
    """A pool between two sparse convolutions; what it pools may be negative everywhere."""
    model = nn.Sequential(nn.Conv2d(5, 6, 3, padding=1), pool, nn.Conv2d(6, 4, 3, padding=1))
    with torch.no_grad():
        for conv in (model[0], model[2]):
            conv.weight *= torch.rand_like(conv.weight) > 0.8
        model[0].bias -= 3
    return model.eval(), torch.randn(batch, 5, *size)


CASES = [
    (nn.MaxPool2d(3, 2, 1), (56, 56), True),
    (nn.MaxPool2d(2, 2), (32, 32), True),
    (nn.MaxPool2d(3, 1, 1), (27, 30), True),
    (nn.MaxPool2d(3, 1, (1, 0), dilation=(1, 2)), (15, 29), None),
    (nn.AvgPool2d(3, 2, 1), (32, 48), True),
    (nn.AvgPool2d(3, 1, 1, count_include_pad=False), (27, 30), True),
    (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (27, 30), None),
    (nn.MaxPool2d(2, 2), (28, 28), False),
    (nn.AvgPool2d(5, 5), (4, 40), None),
]


@pytest.mark.parametrize("turn", range(len(CASES)))
def test_pool_between_sparse_convolutions(turn: int) -> None:
    pool, size, tiled = CASES[turn]
    if size[0] < 5 and pool.kernel_size == 5:
        pool = nn.AvgPool2d((4, 5), (4, 5))
    model, x = between(pool, size, batch=1 + turn % 2)
    program = torch.export.export(model, (x,))
    built = compile_model(program, "spatial-pack", weights="csr", threads=1 + turn % 2)
    with torch.no_grad():
        exact = model.double()(x.double()).numpy()
    for _ in range(2):
        np.testing.assert_allclose(built.run(x.numpy()), exact, atol=1e-5 * np.abs(exact).max())
    kinds = [row["kind"] for row in built.describe()["operators"]]
    at = next(i for i, kind in enumerate(kinds) if kind.endswith("_pool"))
    if tiled is not None and built.describe()["target"]["lanes"] == 16:
        assert (kinds[at - 1] == kinds[at + 1] == "conv2d") == tiled
