"""Memory that kernels may be given: numpy arrays aligned to a cache line."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlas.kernels.ground.layout import AnyArray

ALIGNMENT = 64
"""Bytes of a cache line: a vector that begins at a multiple of its size lies in one."""


def aligned(shape: tuple[int, ...], dtype: str = "float32") -> AnyArray:
    """Return an uninitialized array whose first byte is aligned."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def aligned_copy(array: AnyArray, shape: tuple[int, ...]) -> AnyArray:
    """Return an aligned copy of this shape, of the array's type."""
    result = aligned(shape, str(array.dtype))
    result.reshape(-1)[:] = array.reshape(-1)
    return result


def viewed(array: AnyArray, shape: Sequence[int] | None, dtype: str) -> AnyArray:
    """Return an array as an argument of a function: of its type and shape (None: as it is).

    An image of bytes whose channels lie in fours may be longer than a row of its channels.
    """
    same = array if str(array.dtype) == dtype else array.reshape(-1).view(dtype)
    if shape is None:
        return same
    count = math.prod(shape)
    if dtype == "uint8" and count < same.size:
        same = same.reshape(-1)[:count]
    return same.reshape(tuple(shape))


def tensor(array: AnyArray) -> Any:
    """Return TVM's view of an aligned array (no copy; the view keeps the array alive)."""
    from tvm_ffi import from_dlpack

    return from_dlpack(array)
