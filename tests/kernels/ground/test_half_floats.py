"""Floats of 16 bits: the nearest one, ties to even, and what does not fit is refused."""

import numpy as np
import pytest

from dlas.kernels import UnsupportedError
from dlas.kernels.ground.half_floats import ROUND_OFF, narrowed, widened

DTYPES = list(ROUND_OFF)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_half_is_the_nearest(dtype: str) -> None:
    rng = np.random.default_rng()
    x = (rng.standard_normal(4096) * 10.0 ** rng.uniform(-3, 3, 4096)).astype(np.float32)
    x = x[np.abs(x) > 1e-3]  # below 6e-5 float16 has denormals only
    halves = narrowed(x, dtype)
    assert halves.nbytes * 2 == x.nbytes
    found = widened(halves, dtype)
    assert (np.abs(found - x) <= ROUND_OFF[dtype] * np.abs(x)).all()
    np.testing.assert_array_equal(narrowed(found, dtype), halves)
    # No neighbour is nearer.
    for step in (-1, 1):
        bits = (halves.view(np.uint16) + np.uint16(step % 65536)).view(halves.dtype)
        assert (np.abs(found - x) <= np.abs(widened(bits, dtype) - x)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_go_to_the_even_one(dtype: str) -> None:
    u = ROUND_OFF[dtype]
    x = np.array([1 + u, 1 + 3 * u, 1 + u * 1.001, -(1 + u)], np.float32)
    expected = np.array([1, 1 + 4 * u, 1 + 2 * u, -1], np.float32)
    np.testing.assert_array_equal(widened(narrowed(x, dtype), dtype), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_stays_so(dtype: str) -> None:
    payload = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(widened(narrowed(payload, dtype), dtype)).all()
    infinite = np.array([np.inf, -np.inf, 0.0, -0.0], np.float32)
    np.testing.assert_array_equal(widened(narrowed(infinite, dtype), dtype), infinite)


def test_a_number_that_is_too_large_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="weights up to 70000 do not fit into float16"):
        narrowed(np.array([1, -7e4], np.float32), "float16")
    assert widened(narrowed(np.array([7e4], np.float32), "bfloat16"), "bfloat16") == 70144
    with pytest.raises(UnsupportedError, match="do not fit into bfloat16"):
        narrowed(np.array([np.finfo(np.float32).max], np.float32), "bfloat16")
