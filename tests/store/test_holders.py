"""Locks of processes that were stopped: named after a lease, not waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dlas.core.errors import UserError
from dlas.run.measure.alone import beside_measuring, folder_lock, machine_lock
from dlas.store.holders import acquire_from_living, holders, is_stopped
from dlas.store.leases import VARIABLE
from dlas.store.locks import Locks

HOLD = """
import fcntl, sys
with open(sys.argv[1], "a+") as file:
    fcntl.flock(file, fcntl.LOCK_SH if sys.argv[2] == "shared" else fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(path: Path, how: str = "exclusive") -> Iterator[subprocess.Popen[str]]:
    """Have another process hold a file's lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    until = time.monotonic() + 10
    while not is_stopped(process.pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_kernel_tells_who_holds_a_lock(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with held(file) as process:
        assert holders(file) == [process.pid]
        assert not is_stopped(process.pid)
        stop(process)
    assert holders(file) == []
    assert holders(tmp_path / "none") == []
    assert not is_stopped(process.pid)


def test_who_lives_is_waited_for(tmp_path: Path) -> None:
    with held(tmp_path / "lock", "shared") as process:
        threading.Timer(1.0, process.kill).start()
        began = time.monotonic()
        os.close(acquire_from_living(tmp_path / "lock", 0.2))
        assert time.monotonic() - began > 0.5


def _use(folder: Path) -> None:
    with Locks(folder).use():
        pass


def _write(folder: Path) -> None:
    with Locks(folder).writing():
        pass


def _evict(folder: Path) -> None:
    locks = Locks(folder)
    with locks.use(), locks.only_user() as alone:
        assert alone


def _clean(folder: Path) -> None:
    with Locks(folder).nobody(folder):
        pass


def _measure(folder: Path) -> None:
    with machine_lock(path=folder / "machine"):
        pass


def _work(folder: Path) -> None:
    with beside_measuring(path=folder / "machine"):
        pass


def _run(folder: Path) -> None:
    with folder_lock(folder, lambda _: None):
        pass


@pytest.mark.parametrize(
    ("name", "how", "wants"),
    [
        ("use", "exclusive", _use), ("store", "exclusive", _write),
        ("store", "shared", _evict), ("store", "shared", _clean),
        ("machine", "shared", _measure), ("machine", "exclusive", _work),
        ("run.lock", "exclusive", _run),
    ],
)  # fmt: skip
def test_who_was_stopped_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: str,
    wants: Callable[[Path], None],
) -> None:  # fmt: skip
    monkeypatch.setenv(VARIABLE, "0.3")
    with held(tmp_path / name, how) as process:
        stop(process)
        said = rf"process {process.pid} holds .*{name} and has been stopped .*kill -CONT"
        with pytest.raises(UserError, match=said):
            wants(tmp_path)
        threading.Timer(0.1, process.kill).start()
        wants(tmp_path)
