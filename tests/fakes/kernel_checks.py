"""What the kernel tests share: fresh inputs and the comparison with the float64 reference."""

import numpy as np

from dlas.kernels import BuiltConv2d, Conv2d, build_conv2d
from dlas.kernels.convolution import oracle
from dlas.kernels.convolution.oracle import DIRECT_BOUND, WINOGRAD_BOUND
from dlas.kernels.ground.layout import Array

ACTIVATIONS = [None, "relu", "relu6", "silu"]


def random(shape: tuple[int, ...]) -> Array:
    """Fresh standard normal numbers; another run sees others."""
    return np.random.default_rng().standard_normal(shape).astype(np.float32)


def worst_error(
    built: BuiltConv2d, weight: Array, bias: Array | None, activation: str | None, residual: bool
) -> float:
    """Largest error of one call, in units of what its inputs allow (see `reference`)."""
    op = built.op
    x, r = random(op.in_shape), random(op.out_shape) if residual else None
    y = built(x, residual=r)
    exact = oracle.conv2d(op, x, weight, bias, activation, r)
    assert y.shape == op.out_shape and y.dtype == np.float32
    scale = np.maximum(exact.magnitude, np.finfo(np.float32).tiny)
    return float((np.abs(y - exact.y) / scale).max())


def check(
    op: Conv2d,
    primitive: str,
    turn: int,
    threads: int,
    target: str = "native",
    zeros: float | None = None,
) -> None:
    """Build once and compare a plain call and one with everything fused; `zeros` means CSR."""
    weight, bias = random(op.weight_shape), random((op.out_channels,))
    if zeros is not None:
        weight[np.random.default_rng().random(weight.shape) < zeros] = 0
    activation = ACTIVATIONS[turn % 4]
    built = build_conv2d(
        op, weight, bias, primitive, "dense" if zeros is None else "csr",
        activation=activation, threads=threads, target=target,
    )  # fmt: skip
    bound = WINOGRAD_BOUND if primitive == "winograd" else DIRECT_BOUND
    for residual in (False, True):
        error = worst_error(built, weight, bias, activation, residual)
        assert error <= bound, f"{error} > {bound}, residual: {residual}"


def pairwise(ops: list[Conv2d], count: int | None = None) -> list[Conv2d]:
    """Few shapes that show every pair of traits (stride, kernel, ...) that meets in `ops`.

    Greedy: the next shape is the one that shows the most pairs not seen yet; the first `count`
    only, if it is given: they show most of the pairs.
    """
    left = {op: pairs(op) for op in ops}
    every = set().union(*left.values())
    seen: set[tuple[object, object]] = set()
    chosen: list[Conv2d] = []
    while seen != every and (count is None or len(chosen) < count):
        op = max(left, key=lambda o: len(left[o] - seen))
        seen |= left.pop(op)
        chosen.append(op)
    return chosen


def pairs(op: Conv2d) -> set[tuple[object, object]]:
    """Pairs of traits that the shape shows."""
    traits = [
        ("batch", op.batch > 1),
        ("kernel", op.kernel),
        ("stride", op.stride),
        ("dilation", op.dilation != (1, 1)),
        ("groups", "depthwise" if op.depthwise else op.groups > 1),
        ("lopsided", len(set(op.padding)) > 1),
        ("ragged", op.in_channels % 16 != 0, op.out_channels % 16 != 0),
        ("tiny", op.out_width < 4),
    ]
    return {(a, b) for i, a in enumerate(traits) for b in traits[i + 1 :]}
