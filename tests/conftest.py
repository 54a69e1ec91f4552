"""What holds for every test: the libraries of this process compute on one thread.

Two workers with two threads each, on two processors, wait for each other more than they compute,
and OpenMP waits by spinning: three quarters of the processor time of the tests of optimizations
went there. Children are not touched, and what asks for more threads gets them.
"""

from __future__ import annotations

import sys

import pytest
import threadpoolctl

LONG = (
    "test_whole_study", "test_testing", "test_kills", "test_optimization_contract",
    "test_page_in_chromium", "test_ceilings", "test_software_torch_compile", "test_truth",
    "test_faults", "test_software_pytorch", "test_lowering", "test_interpreter", "test_model",
)  # fmt: skip
"""The files that take longest, to be begun first; studies not beside each other, since those wait
for each other when they measure."""


def one_thread() -> None:
    """Hold what has been imported to one thread; an earlier test may have asked for more."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    one_thread()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


def pytest_collection_finish() -> None:
    threadpoolctl.threadpool_limits(1, "blas")  # scikit-learn brings it
