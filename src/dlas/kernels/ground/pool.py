"""TVM's thread pool: set for a call, restored after it, and the caller left where it was.

TVM pins the calling thread to a core when its pool starts, which would slow down everything else
in the process; binding is therefore switched off before the runtime is first used. On x86 TVM
also takes every second CPU for a hyper-thread and never uses more than half of them, so that two
virtual CPUs give one thread, whatever is asked; the number of CPUs is therefore stated.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

os.environ.setdefault("TVM_BIND_THREADS", "0")
os.environ.setdefault("TVM_NUM_THREADS", str(len(os.sched_getaffinity(0))))

_BIG = 1  # TVM's name for "use the given number of workers"


@contextmanager
def limited(threads: int) -> Iterator[int]:
    """Run the block with at most `threads` threads; gives how many the pool has.

    Each Python thread has a pool of its own.
    """
    before = size()
    if before != threads:
        _function("runtime.config_threadpool")(_BIG, threads)
    now = size()
    try:
        yield now
    finally:
        if before != now:
            _function("runtime.config_threadpool")(_BIG, before)


def size() -> int:
    """Number of threads of the calling thread's pool."""
    return int(_function("runtime.NumThreads")())


@cache
def _function(name: str) -> Any:
    from tvm_ffi import get_global_func

    return get_global_func(name)
