"""Linear layers with CSR weights against float64, on fresh random inputs."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")
from torch import nn  # noqa: E402

from dlas.kernels import compile_model  # noqa: E402
from dlas.kernels.convolution.oracle import DIRECT_BOUND  # noqa: E402
from dlas.kernels.ground.program import Program  # noqa: E402
from kernel_checks import random  # noqa: E402

ROWS = (1, 7, 8, 37)
TARGETS = ("native", "x86-64-v3")
ZEROS = (0, 0.9, 1.0)
FEATURES = ((37, 19), (21, 50), (5, 33), (70, 3))
"""Inputs and outputs by turn: no multiples of 4 or 16."""


class Heads(nn.Module):
    """Layers of one shape that read the same input: they share a kernel."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inside, outside) for _ in ZEROS)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(layer(x) for layer in self.layers)


class Short(nn.Module):
    """A layer without a bias around which there is a short cut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x) + x)


def prune(layer: nn.Linear, zeros: float) -> None:
    """Give the weights this share of zeros, and an empty row in the middle and at the end."""
    with torch.no_grad():
        layer.weight *= torch.rand_like(layer.weight) >= zeros
        layer.weight[[layer.out_features // 2, -1]] = 0


def build(model: nn.Module, shape: tuple[int, int], threads: int, target: str) -> Program:
    """Compile with all weights in CSR, however few of them are zero."""
    exported = torch.export.export(model.eval(), (torch.randn(*shape),))
    program = compile_model(
        exported, "spatial-pack", threads, target, weights="csr", csr_threshold=0
    )
    records = program.describe()["operators"]
    assert {(r["kind"], r["weights"]) for r in records} == {("linear", "csr")}
    return program


def exact(layer: nn.Linear, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x W^T + bias in float64, and |x| |W|^T + |bias|."""
    x64, w = x.astype(np.float64), layer.weight.detach().double().numpy()
    bias = np.zeros(len(w)) if layer.bias is None else layer.bias.detach().double().numpy()
    return x64 @ w.T + bias, np.abs(x64) @ np.abs(w).T + np.abs(bias)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("turn", range(len(ROWS)), ids=lambda i: f"{ROWS[i]}-rows")
def test_layer_is_right(turn: int, target: str) -> None:
    threads = 1 + (turn + TARGETS.index(target)) % 2
    (inside, outside), shape = FEATURES[turn], (ROWS[turn], FEATURES[turn][0])
    model = Heads(inside, outside)
    for layer, zeros in zip(model.layers, ZEROS, strict=True):
        prune(layer, zeros)
    program = build(model, shape, threads, target)
    x = random(shape)
    for _ in range(2):  # a second run must not see what the first left in memory
        for layer, y in zip(model.layers, program.run(x), strict=True):
            right, size = exact(layer, x)
            assert y.shape == right.shape and y.dtype == np.float32
            assert (np.abs(y - right) <= DIRECT_BOUND * size).all()


@pytest.mark.parametrize("rows", [3, 37])
def test_residual_and_activation_are_fused(rows: int) -> None:
    model, shape = Short(22), (rows, 22)
    prune(model.layer, 0.5)
    program = build(model, shape, threads=2, target="native")
    (record,) = program.describe()["operators"]
    assert (record["activation"], record["residual"]) == ("relu", True)
    x = random(shape)
    right, size = exact(model.layer, x)
    error = np.abs(program.run(x) - np.maximum(right + x, 0))
    assert (error <= DIRECT_BOUND * (size + np.abs(x))).all()
