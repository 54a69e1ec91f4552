"""Activations of the last store against float64, extremes among the inputs."""

import numpy as np
import pytest

pytest.importorskip("tvm")
from scipy.special import erf, expit

from dlas.kernels.code import emit
from dlas.kernels.code.epilogue import activate
from dlas.kernels.code.machine_code import compile_functions
from dlas.kernels.ground.arrays import aligned, aligned_copy, tensor
from dlas.kernels.ground.program import load_library
from dlas.kernels.ground.target import resolve

LARGEST, SMALLEST = np.finfo(np.float32).max, np.float32(1e-45)
EXACT = {
    "sigmoid": expit,
    "silu": lambda x: x * expit(x),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
}


def inputs() -> np.ndarray:
    rng = np.random.default_rng()
    drawn = [scale * rng.standard_normal(4096) for scale in (1e-3, 1, 10, 100, 1e20)]
    edges = [0.0, -0.0, 86.9, 87.0, 87.1, 88.1, 104.0, LARGEST, SMALLEST, 2e-38, 1e-40]
    every = np.concatenate([*drawn, np.linspace(-110, 110, 8192), edges, np.negative(edges)])
    padded = np.zeros(-(-len(every) // 16) * 16)
    padded[: len(every)] = every
    return padded.astype(np.float32)


def run(activation: str, x: np.ndarray) -> np.ndarray:
    from tvm.tirx.script.builder import ir as T

    target = resolve("native")
    function = emit.Function("apply")
    with function.body():
        source, goal = emit.argument("x", x.shape), emit.argument("y", x.shape)
        with T.serial(len(x) // target.lanes) as i:
            first = i * target.lanes
            emit.each_lane(
                target.lanes,
                lambda j: emit.store(goal, activate(source[first + j], activation), first + j),
            )
    library = load_library(compile_functions({"apply": function.result}, target))
    y = aligned(x.shape)
    library["apply"](tensor(aligned_copy(x, x.shape)), tensor(y))
    return y


@pytest.mark.parametrize("activation", sorted(EXACT))
def test_activation_is_close_to_float64_everywhere(activation: str) -> None:
    x = inputs()
    y, exact = run(activation, x), EXACT[activation](x.astype(np.float64))
    # e^x is cut off at -87: what is below 2e-36 need only stay below it.
    allowed = {"sigmoid": 5e-7, "silu": 6e-7, "gelu": 5e-7}[activation]
    bound = allowed * np.abs(exact) + 2e-36
    if activation == "gelu":  # the error function's error is absolute
        bound += 3e-7 * np.minimum(np.abs(x.astype(np.float64)), 10)
    assert np.isfinite(y).all()
    worst = int(np.argmax(np.abs(y - exact) / bound))
    assert abs(y[worst] - exact[worst]) <= bound[worst], (x[worst], y[worst], exact[worst])


def test_infinite_inputs_have_their_limits() -> None:
    x = np.zeros(16, np.float32)
    x[:2] = np.inf, -np.inf
    assert run("sigmoid", x)[:2] == pytest.approx([1, 0], rel=2e-7, abs=1e-37)
    silu = run("silu", x)
    assert silu[0] == np.inf and silu[1] == pytest.approx(0, abs=2e-36)


def test_silu_and_gelu_hand_on_what_is_no_number() -> None:
    x = np.zeros(16, np.float32)
    x[3] = np.nan
    for activation in ("silu", "gelu"):
        assert np.flatnonzero(np.isnan(run(activation, x))).tolist() == [3]
