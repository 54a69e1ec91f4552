"""Every primitive on every shape against float64, on fresh random inputs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dlas.kernels import Conv2d, InputError, UnsupportedError, build_conv2d
from dlas.kernels.convolution import primitives
from dlas.kernels.convolution.oracle import DIRECT_BOUND
from dlas.kernels.convolution.primitives import plain_kernel
from dlas.kernels.convolution.winograd import why_not
from dlas.kernels.convolution.winograd_tiles import default_outputs
from dlas.kernels.ground.target import resolve
from drawn_shapes import THREADS, ZEROS, operators, sixty
from kernel_checks import check, pairs, pairwise, random, worst_error
from kernel_shapes import SHAPES, name

PRIMITIVES = ["spatial-pack", "direct", "gemm"]
QUICK = pairwise(SHAPES)


def dealt(first: int) -> list[object]:
    """Deal the few shapes over the primitives, beginning with the `first`, and over threads."""
    cases = []
    for turn, op in enumerate(QUICK):
        primitive = PRIMITIVES[(turn + first) % len(PRIMITIVES)]
        # Not `turn % 2`: the activation is by `turn % 4`, and each shall meet 1 and 2 threads.
        threads = 1 + turn // len(PRIMITIVES) % 2
        cases.append(pytest.param(op, primitive, turn, threads, id=f"{name(op)}-{primitive}"))
    return cases


def test_few_shapes_show_every_pair_of_traits() -> None:
    every = set().union(*map(pairs, SHAPES))
    assert set().union(*map(pairs, QUICK)) == every
    assert len(QUICK) < len(SHAPES) / 2


@pytest.mark.parametrize(("op", "primitive", "turn", "threads"), dealt(0))
def test_primitive_is_right_on_few_shapes(
    op: Conv2d, primitive: str, turn: int, threads: int
) -> None:
    check(op, primitive, turn, threads)


@pytest.mark.parametrize("zeros", [None, 0.5])
@pytest.mark.parametrize("primitive", ["direct", "gemm"])
def test_large_strides_do_not_write_every_phase_out(primitive: str, zeros: float | None) -> None:
    patches = Conv2d(1, 3, 48, 64, 20, (16, 16), (16, 16))  # a vision transformer's first layer
    check(patches, primitive, 0, threads=2, zeros=zeros)
    check(Conv2d(1, 2, 23, 29, 8, (5, 5), (3, 4), (1, 2, 0, 1)), primitive, 1, 1, zeros=zeros)


@pytest.mark.kernels_full
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("primitive", [*PRIMITIVES, "native"])
@pytest.mark.parametrize("turn", range(len(SHAPES)), ids=lambda i: name(SHAPES[i]))
def test_primitive_is_right_on_all_shapes(primitive: str, turn: int, threads: int) -> None:
    check(SHAPES[turn], primitive, turn, threads)


@pytest.mark.kernels_full
@pytest.mark.parametrize("primitive", PRIMITIVES)
@pytest.mark.parametrize("turn", range(len(SHAPES)), ids=lambda i: name(SHAPES[i]))
def test_primitive_is_right_with_avx2(primitive: str, turn: int) -> None:
    check(SHAPES[turn], primitive, turn, threads=1, target="x86-64-v3")


LARGE = [
    Conv2d(1, 200, 9, 7, 150, (3, 3), padding=(1, 0, 1, 1)),
    Conv2d(1, 256, 14, 14, 256, (3, 3), padding=(1, 1, 1, 1)),
    Conv2d(1, 264, 2, 2, 80, (3, 3), padding=(1, 1, 1, 1)),
    Conv2d(1, 512, 1, 1, 300, (1, 1)),
    Conv2d(1, 160, 20, 20, 900, (1, 1)),
]


FETCHED = [("spatial-pack", op) for op in LARGE]
FETCHED += [("winograd", op) for op in LARGE if why_not(op) is None]


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize(
    "turn", range(len(FETCHED)), ids=lambda i: f"{FETCHED[i][0]}-{name(FETCHED[i][1])}"
)
def test_filters_beyond_the_caches_are_fetched_ahead(turn: int, target: str) -> None:
    (primitive, op), threads = FETCHED[turn], 1 + turn % 2
    kernel = plain_kernel(op, primitive, "dense", resolve(target), threads)
    assert "llvm.prefetch" in str(kernel.function("conv").script())
    check(op, primitive, turn, threads, target)


WINOGRAD = [
    *(op for op in SHAPES if why_not(op) is None),
    Conv2d(2, 20, 13, 9, 40, (3, 3), padding=(0, 1, 2, 1)),
    Conv2d(1, 24, 5, 6, 17, (3, 3)),
]


@pytest.mark.parametrize("turn", range(-2, 1), ids=lambda i: name(WINOGRAD[i]))
def test_winograd_is_right_on_few_shapes(turn: int) -> None:
    check(WINOGRAD[turn], "winograd", turn % 4, threads=1 + turn % 2)


@pytest.mark.kernels_full
@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("turn", range(len(WINOGRAD)), ids=lambda i: name(WINOGRAD[i]))
def test_winograd_is_right_on_all_shapes(turn: int, target: str) -> None:
    check(WINOGRAD[turn], "winograd", turn, threads=1 + turn % 2, target=target)


@pytest.mark.kernels_full
@sixty
@given(
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_winograd_is_right_on_drawn_shapes(
    channels: tuple[int, int], size: tuple[int, int], padding: tuple[int, int, int, int]
) -> None:
    try:
        op = Conv2d(1, channels[0], *size, channels[1], (3, 3), padding=padding)
    except UnsupportedError:
        assume(False)
        raise
    check(op, "winograd", 1, threads=1)


NO_WINOGRAD = [
    (Conv2d(1, 8, 6, 6, 8, (1, 1)), "3x3 kernel"),
    (Conv2d(1, 8, 6, 6, 8, (5, 5)), "3x3 kernel"),
    (Conv2d(1, 8, 6, 6, 8, (3, 3), (2, 2)), "stride and dilation 1"),
    (Conv2d(1, 8, 8, 8, 8, (3, 3), dilation=(2, 2)), "stride and dilation 1"),
    (Conv2d(1, 8, 6, 6, 8, (3, 3), groups=2), "one group"),
]


@pytest.mark.parametrize(("op", "said"), NO_WINOGRAD)
def test_winograd_refuses_what_it_cannot_do(op: Conv2d, said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        build_conv2d(op, random(op.weight_shape), primitive="winograd")


@pytest.mark.parametrize("op", [op for op, _ in NO_WINOGRAD])
def test_without_its_rule_winograd_fails(op: Conv2d, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ("winograd", "dense")
    known = primitives.PRIMITIVES
    monkeypatch.setitem(known, key, replace(known[key], why_not=lambda op: None))
    # Its filters do not have the shape that is transformed, or the outputs are wrong.
    with pytest.raises((ValueError, AssertionError)):
        check(op, "winograd", turn=0, threads=1)


def test_winograd_has_no_csr_weights() -> None:
    op = Conv2d(1, 8, 6, 6, 8, (3, 3))
    with pytest.raises(UnsupportedError, match="CSR weights: 'winograd'; known: direct, gemm"):
        build_conv2d(op, random(op.weight_shape), primitive="winograd", weights="csr")


@pytest.mark.parametrize(("op", "primitive", "turn", "threads"), dealt(1))
def test_csr_is_right_on_few_shapes(op: Conv2d, primitive: str, turn: int, threads: int) -> None:
    check(op, primitive, turn, threads, zeros=0.8)


@pytest.mark.kernels_full
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("primitive", PRIMITIVES)
@pytest.mark.parametrize("turn", range(len(SHAPES)), ids=lambda i: name(SHAPES[i]))
def test_csr_is_right_on_all_shapes(primitive: str, turn: int, threads: int) -> None:
    check(SHAPES[turn], primitive, turn, threads, zeros=[0.0, 0.5, 0.9, 0.99][turn % 4])


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_csr_extremes(primitive: str) -> None:
    op = Conv2d(1, 8, 9, 9, 6, (3, 3), (2, 2), (1, 1, 1, 1))
    weight, bias = random(op.weight_shape), random((6,))
    weight[1] = 0  # an empty row
    weight[4] = 0
    for filters in (weight, np.zeros_like(weight), random(op.weight_shape)):
        built = build_conv2d(op, filters, bias, primitive, "csr")
        assert worst_error(built, filters, bias, None, residual=False) <= DIRECT_BOUND
        assert built.describe()["non_zeros"] == np.count_nonzero(filters)


def test_table_has_at_least_sixty_shapes() -> None:
    assert len(set(SHAPES)) == len(SHAPES) >= 60


def test_no_bias_is_a_bias_of_zeros() -> None:
    op = Conv2d(1, 8, 6, 6, 8, (3, 3))
    weight = random(op.weight_shape)
    built = build_conv2d(op, weight)
    assert worst_error(built, weight, None, None, residual=False) <= DIRECT_BOUND


def test_weights_of_zero_give_the_bias() -> None:
    op = Conv2d(1, 8, 6, 6, 8, (3, 3))
    bias = random((8,))
    y = build_conv2d(op, np.zeros(op.weight_shape), bias)(random(op.in_shape))
    np.testing.assert_array_equal(y, np.broadcast_to(bias.reshape(1, 8, 1, 1), y.shape))


@pytest.mark.kernels_full
@pytest.mark.parametrize("primitive", PRIMITIVES)
@sixty
@given(op=operators(), turn=st.integers(0, 3), threads=THREADS, zeros=ZEROS)
def test_primitive_is_right_on_drawn_shapes(
    primitive: str, op: Conv2d, turn: int, threads: int, zeros: float | None
) -> None:
    check(op, primitive, turn, threads, zeros=zeros)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kernel": (9, 9)}, "larger than the padded image"),
        ({"groups": 3}, "groups must divide"),
        ({"stride": (0, 1)}, "must be >= 1"),
        ({"padding": (0, -1, 0, 0)}, "padding must be >= 0"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, object], said: str) -> None:
    fields: dict[str, object] = {
        "batch": 1, "in_channels": 8, "height": 6, "width": 6, "out_channels": 8, "kernel": (3, 3)
    }  # fmt: skip
    with pytest.raises(UnsupportedError, match=said):
        Conv2d(**(fields | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"primitive": "fft"}, "known: direct"),
        ({"dtype": "float64"}, "float32"),
        ({"activation": "tanh"}, "relu6"),
        ({"target": "pentium"}, "x86-64-v3"),
        ({"threads": 0}, "threads must be a whole number >= 1, got 0"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, object], said: str) -> None:
    op = Conv2d(1, 8, 6, 6, 8, (3, 3))
    with pytest.raises(UnsupportedError, match=said):
        build_conv2d(op, random(op.weight_shape), **options)  # type: ignore[arg-type]


def test_arrays_that_do_not_fit_are_refused() -> None:
    op = Conv2d(1, 8, 6, 6, 8, (3, 3))
    with pytest.raises(InputError, match="weight must have shape"):
        build_conv2d(op, random((8, 8, 3, 1)))
    built = build_conv2d(op, random(op.weight_shape))
    with pytest.raises(InputError, match="x must have shape"):
        built(random((1, 8, 6, 5)))
    with pytest.raises(InputError, match="x must hold real numbers, got complex64"):
        built(random((1, 8, 6, 6)).astype(np.complex64))


def test_multiplications_are_those_that_are_done() -> None:
    op = Conv2d(1, 32, 8, 8, 48, (3, 3), padding=(1, 1, 1, 1))
    weight = random(op.weight_shape)
    weight[:, 5:] = 0
    for primitive, weights, done in [
        ("gemm", "dense", 32 * 48 * 9 * 64),
        ("gemm", "csr", 5 * 48 * 9 * 64),
        ("winograd", "dense", 32 * 48 * 36 * 4),  # 6 x 6 points of 2 x 2 tiles
    ]:
        told = build_conv2d(op, weight, primitive=primitive, weights=weights).describe()
        assert told["multiplications"] == done
        assert told["dense_multiplications"] == 32 * 48 * 9 * 64


def test_the_threads_that_ran_are_told() -> None:
    op = Conv2d(1, 8, 6, 6, 8, (3, 3))
    built = build_conv2d(op, random(op.weight_shape), threads=1)
    assert built.describe()["ran_threads"] is None
    built(random(op.in_shape))
    assert built.describe()["ran_threads"] == 1


@pytest.mark.parametrize(
    ("channels", "size", "outputs"),
    [
        (64, 56, 4), (64, 2, 2),  # an image of one tile of F(2x2)
        (240, 16, 4), (256, 16, 2),  # 8.3 and 9.4 MB of filters, 16 tiles
        (256, 20, 2), (256, 21, 4),  # 25 and 36 tiles
    ],
)  # fmt: skip
def test_winograd_s_outputs_follow_from_filters_and_tiles(
    channels: int, size: int, outputs: int
) -> None:
    op = Conv2d(1, channels, size, size, channels, (3, 3), padding=(1, 1, 1, 1))
    assert default_outputs(op) == outputs


def test_samples_and_description_say_what_was_built() -> None:
    op = Conv2d(1, 32, 8, 8, 48, (3, 3), padding=(1, 1, 1, 1))
    built = build_conv2d(op, random(op.weight_shape), target="x86-64-v3")
    for scope in ("kernel", "standalone"):
        seconds = built.samples(random(op.in_shape), scope=scope, repeats=5)
        assert len(seconds) == 5 and min(seconds) > 0
    text = built.describe()
    assert text["primitive"] == "spatial-pack"
    assert text["input_layout"] == "NCHW8c+1,1,1,1"
    assert text["multiplications"] == 32 * 48 * 9 * 64
    assert text["weight_bytes"] == 4 * (32 * 48 * 9 + 48)
    assert text["pack_bytes"] == 4 * 32 * 10 * 10
