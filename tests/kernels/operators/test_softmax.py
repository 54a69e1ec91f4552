"""Softmax over the last axis: our kernel against float64, extremes included."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from dlas.kernels import compile_model  # noqa: E402


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """The float64 reference."""
    shifted = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    return shifted / shifted.sum(axis, keepdims=True)


@pytest.mark.parametrize(
    ("shape", "axis", "threads", "target"),
    [
        ((5, 37), -1, 2, "native"),
        ((2, 3, 16), 2, 1, "x86-64-v3"),
        ((4, 1), 1, 1, "native"),
        ((1, 1000), 1, 2, "native"),
        ((2, 7, 1, 1), 1, 1, "native"),
    ],
)
def test_softmax_is_right(shape: tuple[int, ...], axis: int, threads: int, target: str) -> None:
    net = torch.nn.Softmax(axis).eval()
    exported = torch.export.export(net, (torch.zeros(shape),))
    program = compile_model(exported, "best-by-rule", threads=threads, target=target)
    assert [o["kind"] for o in program.describe()["operators"]] == ["softmax"]
    rng = np.random.default_rng()
    for scale in (1, 30, 1e30):
        x = (scale * rng.standard_normal(shape)).astype(np.float32)
        x.flat[rng.integers(x.size // 2)] = -np.inf if x.shape[axis] > 1 else 0
        y = program.run(x)
        np.testing.assert_allclose(y, softmax(x, axis), rtol=2e-5, atol=1e-37)


@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 17, 36])
def test_what_is_no_number_is_handed_on(special: float, at: int) -> None:
    exported = torch.export.export(torch.nn.Softmax(1).eval(), (torch.zeros(3, 37),))
    program = compile_model(exported, "best-by-rule", threads=1)
    x = np.random.default_rng().standard_normal((3, 37)).astype(np.float32)
    x[1, at], x[2] = special, -np.inf
    y = program.run(x)
    assert np.isnan(y[1:]).all()
    np.testing.assert_allclose(y[0], softmax(x[:1], 1)[0], rtol=2e-5)


def test_an_inner_axis_is_left_to_the_fallback() -> None:
    exported = torch.export.export(torch.nn.Softmax(1).eval(), (torch.zeros(2, 5, 3),))
    program = compile_model(exported, "best-by-rule", threads=1)
    assert "softmax" not in [o["kind"] for o in program.describe()["operators"]]
    x = np.random.default_rng().standard_normal((2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(program.run(x), softmax(x, 1), rtol=2e-5)
