"""Floats of 16 bits as they are stored: float16 as numpy has it, bfloat16 as its bits."""

from collections.abc import Mapping

import numpy as np

from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.layout import AnyArray, Array

STORED: Mapping[str, str] = {"bfloat16": "uint16", "float16": "float16"}
"""The type of the arrays that hold each."""
ROUND_OFF: Mapping[str, float] = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""The largest relative error of rounding a number that is no denormal."""


def narrowed(values: AnyArray, dtype: str) -> AnyArray:
    """Return numbers rounded to the nearest half, ties to even, as they are stored.

    Raises:
        UnsupportedError: a finite number that is too large for the type.
    """
    exact = np.ascontiguousarray(values, np.float32)
    if dtype == "float16":
        with np.errstate(over="ignore"):
            halves: AnyArray = exact.astype(np.float16)
    else:
        bits = exact.view(np.uint32)
        up = (bits >> 16 & 1) + np.uint32(0x7FFF)
        rounded = np.where(np.isnan(exact), bits | np.uint32(1 << 22), bits + up)
        halves = (rounded >> 16).astype(np.uint16)
    if np.isfinite(exact).all() and not np.isfinite(widened(halves, dtype)).all():
        raise UnsupportedError(f"weights up to {np.abs(exact).max():g} do not fit into {dtype}")
    return halves


def widened(halves: AnyArray, dtype: str) -> Array:
    """Return stored halves as float32."""
    if dtype == "float16":
        return halves.astype(np.float32)
    return (halves.astype(np.uint32) << 16).view(np.float32)
