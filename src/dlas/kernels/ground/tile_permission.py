"""Linux lets a process use AMX's tiles when it asks: they make what is saved of a thread large."""

import ctypes
import platform
from functools import cache

_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18
"""x86-64's system call, what is asked of it, and for which state of the processor."""


@cache
def given() -> bool:
    """Ask for this process, once; children have the permission, other programs not.

    Whether the system gives it: it may be too old, or forbid the call.
    """
    if platform.machine() != "x86_64":
        return False
    libc = ctypes.CDLL(None)
    return int(libc.syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA)) == 0
