"""Memory that kernels may be given: numpy arrays aligned to a cache line."""

import math
from typing import Any

import numpy as np

from dlas.kernels.ground.layout import Array

ALIGNMENT = 64
"""Bytes of a cache line: a vector that begins at a multiple of its size lies in one."""


def aligned(shape: tuple[int, ...]) -> Array:
    """Return an uninitialized float32 array whose first byte is aligned."""
    size = math.prod(shape) * 4
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(np.float32).reshape(shape)


def aligned_copy(array: Array, shape: tuple[int, ...]) -> Array:
    """Return an aligned copy of this shape, of any type of at most four bytes."""
    room = aligned((math.prod(shape),)).view(array.dtype)
    result = room[: math.prod(shape)].reshape(shape)
    result.reshape(-1)[:] = array.reshape(-1)
    return result


def tensor(array: Array) -> Any:
    """Return TVM's view of an aligned array (no copy; the view keeps the array alive)."""
    from tvm_ffi import from_dlpack

    return from_dlpack(array)
