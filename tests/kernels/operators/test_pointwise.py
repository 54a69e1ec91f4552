"""Arithmetic in float that reads and writes bytes, and means of it, against numpy."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from dlas.kernels import Scale
from dlas.kernels.ground.expression import Expression, given, number, operator, values
from dlas.kernels.ground.layout import Layout, Shape4, pack, unpack
from dlas.kernels.ground.target import CpuTarget, resolve, runs_here
from dlas.kernels.operators.byte_mean import ByteMean
from dlas.kernels.operators.pointwise import Pointwise
from dlas.kernels.operators.quantized import plain
from kernel_checks import bytes_of, called, random

NATIVE = resolve("native")
TARGETS = [t for t in ("native", "x86-64-v3", "x86-64-v4") if runs_here(resolve(t))]
Halo = tuple[int, int, int, int]
NONE: Halo = (0, 0, 0, 0)

SILU = operator("multiply", given(0), operator("sigmoid", given(0)))
GATED = operator("multiply", SILU, operator("sigmoid", given(1)))
HARD = operator(
    "multiply",
    given(0),
    operator(
        "divide",
        operator(
            "minimum",
            operator("maximum", operator("add", given(0), number(3)), number(0)),
            number(6),
        ),
        number(6),
    ),
)
SUM = operator("add", operator("relu", given(1)), operator("gelu", given(0)))

SHAPES: list[tuple[Shape4, int, Halo]] = [
    ((1, 48, 7, 7), 0, NONE),
    ((2, 32, 9, 5), 0, (1, 1, 2, 1)),
    ((1, 16, 90, 61), 0, NONE),
    ((1, 5, 6, 7), 1, NONE),
    ((1, 12, 3, 3), 4, NONE),
    ((1, 8, 1, 1), 4, NONE),
    ((3, 20, 11, 13), 4, (0, 2, 1, 0)),
    ((1, 1, 1, 577), 1, NONE),
]
"""Shapes, channels of a block (0: those of a vector), halos of the output: images of less than
a vector and of several jobs, vectors that do not come out even."""


def scale(step: float) -> Scale:
    return Scale(step, int(np.random.default_rng().integers(0, 256)))


def real(q: np.ndarray, s: Scale) -> np.ndarray:
    return (q.astype(np.int32) - s.zero).astype(np.float32) * np.float32(s.scale)


def check_steps(found: np.ndarray, exact: np.ndarray, s: Scale) -> None:
    """Quantized numbers: those of numpy, but where these are within 1e-4 of the middle."""
    steps = exact.astype(np.float64) / np.float32(s.scale)
    nearest = np.clip(np.rint(steps) + s.zero, 0, 255)
    close = np.abs(np.abs(steps - np.trunc(steps)) - 0.5) < 1e-4
    assert (np.abs(found - nearest)[close] <= 1).all()
    np.testing.assert_array_equal(found[~close], nearest[~close])


def check(
    nchw: Shape4, block: int, halo: Halo, expression: Expression, cpu: CpuTarget,
    kinds: tuple[str, ...], whole: tuple[bool, ...], turn: int = 0,
) -> Pointwise:  # fmt: skip
    form = Layout(block or cpu.lanes)
    out = form.with_halo(halo)
    n, c, _, _ = nchw
    shapes = [nchw if w else (n, c, 1, 1) for w in whole]
    scales = [scale(0.03 + 0.02 * at) if k == "uint8" else None for at, k in enumerate(kinds)]
    arrays = [
        bytes_of(s) if k == "uint8" else random(s) for s, k in zip(shapes, kinds, strict=False)
    ]
    exact = values(
        expression,
        [a if s is None else real(a, s) for a, s in zip(arrays, scales, strict=False)],
    )
    kernel = Pointwise(
        nchw, tuple(form for _ in shapes), kinds, whole, expression, out,
        plain(scales) and turn % 2 == 0, cpu, 1 + turn % 2,
    )  # fmt: skip
    constants = kernel.constants(scales[:-1], scales[-1])
    y = np.zeros(out.shape(nchw), kinds[-1])
    found = called(kernel, [*(pack(a, form) for a in arrays), *constants], y)
    inner = unpack(found, out, nchw)
    to = scales[-1]
    if to is None:
        np.testing.assert_allclose(inner, exact, rtol=1e-5, atol=1e-6)
    else:
        check_steps(inner, exact, to)
    fill = 0 if to is None else to.zero
    if c % form.block == 0:
        np.testing.assert_array_equal(found, pack(inner, out, fill))
    return kernel


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("turn", range(len(SHAPES)))
def test_a_gated_image_is_right(turn: int, target: str) -> None:
    nchw, block, halo = SHAPES[turn]
    kinds = ("uint8", "uint8" if turn % 3 else "float32", "uint8")
    check(nchw, block, halo, GATED, resolve(target), kinds, (True, False), turn)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("turn", range(len(SHAPES)))
def test_sums_of_bytes_and_floats_are_right(turn: int, target: str) -> None:
    nchw, block, halo = SHAPES[turn]
    kinds = (
        ("uint8", "uint8", "float32"), ("uint8", "float32", "uint8"),
        ("uint8", "uint8", "uint8"), ("uint8", "float32", "float32"),
    )[turn % 4]  # fmt: skip
    check(nchw, block, halo, SUM, resolve(target), kinds, (True, True), turn)


def test_tables_are_used_where_bytes_are_permuted() -> None:
    nchw: Shape4 = (1, 2 * NATIVE.lanes, 8, 8)
    kernel = check(nchw, 0, NONE, GATED, NATIVE, ("uint8",) * 3, (True, False))
    assert kernel.by_tables == ("avx512vbmi" in NATIVE.features)
    without = replace(NATIVE, features=tuple(f for f in NATIVE.features if f != "avx512vbmi"))
    assert not check(nchw, 0, NONE, GATED, without, ("uint8",) * 3, (True, False)).by_tables


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("turn", range(len(SHAPES)))
def test_means_of_bytes_are_right(turn: int, target: str) -> None:
    nchw, block, halo = SHAPES[turn]
    cpu = resolve(target)
    form, (n, c, _, _) = Layout(block or cpu.lanes), nchw
    inp, expression = form.with_halo(halo), (SILU, given(0), HARD)[turn % 3]
    s, x = scale(0.05), bytes_of(nchw)
    to = None if turn % 2 else scale(0.01)
    kernel = ByteMean(
        nchw, inp, form, expression, "float32" if to is None else "uint8", cpu, 1 + turn % 2
    )
    y = np.zeros(form.shape((n, c, 1, 1)), kernel.stored)
    found = called(kernel, [pack(x, inp, s.zero), *kernel.constants(s, to)], y)
    inner = unpack(found, form, (n, c, 1, 1))
    exact = values(expression, [real(x, s)]).astype(np.float64).mean((2, 3), keepdims=True)
    if to is None:
        np.testing.assert_allclose(inner, exact, rtol=1e-5, atol=1e-5)
    else:
        check_steps(inner, exact, to)


@pytest.mark.parametrize("target", TARGETS[:2])
@pytest.mark.parametrize("image", [(1, 3), (2, 2), (7, 7), (6, 5)])
def test_the_mean_of_an_image_is_onnxruntime_s_bit_for_bit(
    image: tuple[int, int], target: str
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import int8_models

    make, cpu, s = onnx.helper, resolve(target), Scale(6 / 255, 3)
    nchw: Shape4 = (2, 37, *image)
    told = {"s": np.float32(s.scale), "z": np.uint8(s.zero), "axes": np.array([2, 3])}
    graph = make.make_graph(
        [
            make.make_node("DequantizeLinear", ["x", "s", "z"], ["real"]),
            make.make_node("ReduceMean", ["real", "axes"], ["y"]),
        ],
        "mean",
        [make.make_tensor_value_info("x", onnx.TensorProto.UINT8, nchw)],
        [make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (2, 37, 1, 1))],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in told.items()],
    )
    peer = int8_models.session(make.make_model(graph, opset_imports=[make.make_opsetid("", 20)]))
    last = (4, NONE) if image[0] % 2 else (1, NONE)
    for block, halo in ((cpu.lanes, (1, 0, 0, 2)), (64, NONE), last):
        form, x = Layout(block), bytes_of(nchw)
        inp = form.with_halo(halo)
        kernel = ByteMean(nchw, inp, form, given(0), "float32", cpu, 1 + block % 2)
        y = np.zeros(form.shape((2, 37, 1, 1)), np.float32)
        found = called(kernel, [pack(x, inp, s.zero), *kernel.constants(s, None)], y)
        expected = peer.run(None, {"x": x})[0]
        np.testing.assert_array_equal(unpack(found, form, (2, 37, 1, 1)), expected)
