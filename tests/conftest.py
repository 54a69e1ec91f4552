"""What holds for every test: the libraries of this process compute on one thread.

Two workers with two threads each, on two processors, wait for each other more than they compute,
and OpenMP waits by spinning: three quarters of the processor time of the tests of optimizations
went there. Children are not touched, and what asks for more threads gets them.
"""

from __future__ import annotations

import sys

import pytest
import threadpoolctl


def one_thread() -> None:
    """Hold what has been imported to one thread; an earlier test may have asked for more."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    one_thread()


def pytest_collection_finish() -> None:
    threadpoolctl.threadpool_limits(1, "blas")  # scikit-learn brings it
