"""What holds for every test: the libraries of this process compute on one thread.

Two workers with two threads each, on two processors, wait for each other more than they compute,
and OpenMP waits by spinning. Children are not touched, and what asks for more threads gets them.
"""

from __future__ import annotations

import hashlib
import signal
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
import threadpoolctl
from hypothesis import settings

# A busy machine is no failure: how long an example takes says nothing of what it checks.
settings.register_profile("dlas", deadline=None)
settings.load_profile("dlas")

LONG = (
    "test_whole_study", "test_testing", "test_disk_budget", "test_optimization_contract",
    "test_page_in_chromium", "test_kills", "test_software_torch_compile", "test_software_tvm",
    "test_ceilings", "test_model", "test_concat", "test_faults", "test_conv", "test_truth",
    "test_explore", "test_advise", "test_sessions", "test_convert", "test_software_pytorch",
    "test_interpreter",
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


def pytest_sessionstart() -> None:
    """Let the programs that tests start hear Ctrl-C, though pytest may run behind a shell's &."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


def pytest_collection_finish() -> None:
    threadpoolctl.threadpool_limits(1, "blas")  # scikit-learn brings it


_EXPORTS: dict[bytes, Any] = {}


@pytest.fixture
def exported_once() -> Iterator[dict[bytes, Any]]:
    """Let ``torch.onnx.export`` give what it gave before for the same network.

    Most checks of optimizations ask for an export that an earlier check had. Yields the exports
    by their networks; whoever wants to see that an export can be repeated clears it.
    """
    import torch

    export = torch.onnx.export

    def once(module: Any, example: Any, **options: Any) -> Any:
        kinds = [f"{type(m).__module__}.{type(m).__qualname__}" for m in module.modules()]
        key = hashlib.sha256(repr((kinds, module, example, sorted(options.items()))).encode())
        for name, tensor in module.state_dict().items():
            key.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            key.update(tensor.numpy().tobytes())
        if key.digest() not in _EXPORTS:
            _EXPORTS[key.digest()] = export(module, example, **options)
        return _EXPORTS[key.digest()]

    with patch("torch.onnx.export", once):
        yield _EXPORTS
