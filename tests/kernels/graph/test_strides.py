"""Views by strides against numpy, and attention that reads q, k and v where they lie."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
from torch import nn  # noqa: E402

from dlas.kernels import compile_model  # noqa: E402
from dlas.kernels.graph.strides import contiguous, in_order, reshaped  # noqa: E402

ITEM = 4


@pytest.mark.parametrize(
    ("shape", "order", "goal"),
    [
        ((2, 6, 5), (0, 1, 2), (12, 5)),
        ((2, 6, 5), (0, 1, 2), (2, 3, 2, 5)),
        ((2, 6, 5), (1, 0, 2), (6, 10)),
        ((2, 6, 5), (1, 0, 2), (3, 2, 2, 5)),
        ((2, 6, 5), (2, 0, 1), (5, 12)),
        ((2, 6, 5), (2, 0, 1), (5, 1, 4, 3)),
        ((1, 6, 5), (2, 0, 1), (5, 6)),
        ((4, 3), (1, 0), (12,)),
        ((4, 3), (1, 0), (2, 6)),
        ((1, 1), (0, 1), (1, 1, 1)),
    ],
)
def test_a_reshape_copies_where_numpy_copies(
    shape: tuple[int, ...], order: tuple[int, ...], goal: tuple[int, ...]
) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape).transpose(order)
    strides = tuple(s // ITEM for s in array.strides)
    found, view = reshaped(array.shape, strides, goal), array.reshape(goal)
    if found is None:
        assert not np.shares_memory(array, view)
    else:
        placed = np.lib.stride_tricks.as_strided(array, goal, [s * ITEM for s in found])
        np.testing.assert_array_equal(placed, view)


def test_an_axis_of_one_element_has_any_stride() -> None:
    assert contiguous((2, 1, 3)) == (3, 3, 1)
    assert in_order((2, 1, 3), (3, 7, 1)) and not in_order((2, 1, 3), (1, 3, 2))


class Block(nn.Module):
    """Self-attention; `form`: how q, k and v are taken from the product of all three."""

    def __init__(self, form: str, heads: int = 2, depth: int = 12) -> None:
        super().__init__()
        self.form, self.heads, self.depth = form, heads, depth
        self.qkv, self.out = nn.Linear(20, 3 * heads * depth), nn.Linear(heads * depth, 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        product = self.qkv(x)
        if self.form == "chunk":
            parts = product.chunk(3, -1)
            q, k, v = (p.reshape(n, t, self.heads, self.depth).transpose(1, 2) for p in parts)
        else:
            apart = product.reshape(n, t, 3, self.heads, self.depth).permute(2, 0, 3, 1, 4)
            q, k, v = apart.unbind(0) if self.form == "unbind" else (apart[0], apart[1], apart[2])
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(n, t, -1))


@pytest.mark.parametrize("form", ["unbind", "chunk", "select"])
def test_no_copy_is_made_around_attention(form: str) -> None:
    model, x = Block(form).eval(), torch.randn(2, 19, 20)
    program = compile_model(torch.export.export(model, (x,)), threads=2)
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(program.run(x.numpy()), expected, atol=3e-6)
    kinds = [record["kind"] for record in program.describe()["operators"]]
    assert kinds == ["linear", "attention", "linear"]


class Turned(nn.Module):
    """Attention whose keys do not lie along the depth, and whose values are read twice."""

    def forward(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        y = nn.functional.scaled_dot_product_attention(q, k.transpose(-1, -2), q)
        return y + q.transpose(1, 2).transpose(2, 1)


def test_what_cannot_be_read_in_place_is_copied() -> None:
    model = Turned()
    q, k = torch.randn(1, 2, 5, 6), torch.randn(1, 2, 6, 5)
    program = compile_model(torch.export.export(model, (q, k)))
    np.testing.assert_allclose(program.run(q.numpy(), k.numpy()), model(q, k).numpy(), atol=3e-6)


class ByHand(Block):
    """Attention as its definition says: two products and a softmax."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        apart = self.qkv(x).reshape(n, t, 3, self.heads, self.depth).permute(2, 0, 3, 1, 4)
        q, k, v = apart.unbind(0)
        weights = (q @ k.transpose(-2, -1) * self.depth**-0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, t, -1))


def test_products_of_computed_matrices_read_in_place() -> None:
    model, x = ByHand("").eval(), torch.randn(2, 19, 20)
    program = compile_model(torch.export.export(model, (x,)))
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(program.run(x.numpy()), expected, atol=3e-6)
    kinds = [record["kind"] for record in program.describe()["operators"]]
    # What is left to turn is the output: its heads lie apart.
    assert kinds == [
        "linear", "matmul", "multiply", "softmax", "matmul", "permute_dims", "linear",
    ]  # fmt: skip
