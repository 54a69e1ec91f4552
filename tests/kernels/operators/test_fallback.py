"""Operators without a kernel of their own: right, and spread over threads where they are large."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
from torch import nn  # noqa: E402

from dlas.kernels import compile_model  # noqa: E402
from dlas.kernels.graph.importer import import_program  # noqa: E402
from dlas.kernels.operators.fallback import WORTH, fallback  # noqa: E402


class Mixed(nn.Module):
    """Permutation, gather, broadcast add, sums and softmax over inner and outer axes."""

    def __init__(self, large: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.rand(1, 1, large, 5))
        self.pick = nn.Parameter(torch.tensor([2, 0, 1]), requires_grad=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x.permute(0, 2, 1, 3) + self.token
        z = torch.index_select(y, 1, self.pick)
        return z, z.sum(2), torch.softmax(z, -1), torch.softmax(z, 2), z.mean((0, 1, 2, 3))


@pytest.mark.parametrize("large", [7, 1531])
def test_right_at_any_size(large: int) -> None:
    # Positive: where a sum cancels, no part of what is left would be a bound of its error.
    model, x = Mixed(large).eval(), torch.rand(2, large, 3, 5)
    program = compile_model(torch.export.export(model, (x,)), "best-by-rule", threads=2)
    with torch.no_grad():
        expected = model(x)
    for _ in range(3):  # a race would not show every time
        for found, wanted in zip(program.run(x.numpy()), expected, strict=True):
            np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-6)


def test_large_nests_are_spread_and_small_ones_are_not() -> None:
    def text(rows: int, threads: int) -> str:
        program = torch.export.export(Mixed(rows).eval(), (torch.randn(2, rows, 3, 5),))
        (call,) = (
            n.attrs["call"]
            for n in import_program(program).nodes
            if n.attrs["kind"] == "permute_dims"
        )
        return str(fallback(call, threads).function("f"))

    assert WORTH <= 2 * 1531 * 3 * 5
    assert "T.parallel" in text(1531, 2)
    assert "T.parallel" not in text(1531, 1)
    assert "T.parallel" not in text(7, 2)
