"""TVM's thread pool: set for a call, restored after it, and the caller left where it was.

TVM pins the calling thread to a core when its pool starts, which would slow down everything else
in the process; binding is therefore switched off before the runtime is first used. On x86 TVM
also takes every second CPU for a hyper-thread and never uses more than half of them, so that two
virtual CPUs give one thread, whatever is asked; the number of CPUs is therefore stated.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("TVM_BIND_THREADS", "0")
os.environ.setdefault("TVM_NUM_THREADS", str(len(os.sched_getaffinity(0))))

_BIG = 1  # TVM's name for "use the given number of workers"
_state = threading.local()  # each Python thread has a pool of its own


def cores() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Run the block with at most `threads` threads."""
    before: int = getattr(_state, "threads", cores())
    _configure(threads)
    try:
        yield
    finally:
        _configure(before)


def _configure(threads: int) -> None:
    if getattr(_state, "threads", None) != threads:
        _function()(_BIG, threads)
        _state.threads = threads


def _function() -> Any:
    from tvm_ffi import get_global_func

    return get_global_func("runtime.config_threadpool")
