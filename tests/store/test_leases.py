"""Leases: waited for while their holders live, taken over when they stand still."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dlas.core.errors import UserError
from dlas.store.artifacts import ArtifactStore
from dlas.store.leases import VARIABLE, Leases, Stillness

HOLDER = """
import sys, time
from pathlib import Path
from dlas.store.leases import Leases
with Leases(Path(sys.argv[1]), float(sys.argv[2])).hold("k") as number:
    print(number, flush=True)
    time.sleep(float(sys.argv[3]))
print("ended", flush=True)
"""
LASTS_S = 0.6


def holder(folder: Path, holds_s: float, lasts_s: float = LASTS_S) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(lasts_s), str(holds_s)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "0"
    return process


def test_a_holder_that_lives_is_waited_for_however_long(tmp_path: Path) -> None:
    process = holder(tmp_path, 4 * LASTS_S)
    with Leases(tmp_path, LASTS_S).hold("k") as number:
        assert number == 0
        assert process.stdout is not None
        assert process.stdout.read() == "ended\n"
    process.wait()


def test_a_holder_that_died_is_not_waited_for(tmp_path: Path) -> None:
    process = holder(tmp_path, 60, lasts_s=3600)
    process.kill()
    process.wait()
    with Leases(tmp_path, 3600).hold("k") as number:
        assert number == 0


def test_a_holder_that_is_stopped_is_given_up(tmp_path: Path) -> None:
    process = holder(tmp_path, 60)
    process.send_signal(signal.SIGSTOP)
    try:
        with Leases(tmp_path, LASTS_S).hold("k") as number:
            assert number == 1
            # another waits for the one who counts now, not for the first
            seen: list[int] = []
            other = threading.Thread(target=lambda: _hold(tmp_path, seen))
            other.start()
            process.send_signal(signal.SIGCONT)
            time.sleep(2 * LASTS_S)
            assert seen == []
        other.join(timeout=10)
        assert seen == [1]
    finally:
        process.kill()
        process.wait()


def _hold(folder: Path, seen: list[int]) -> None:
    with Leases(folder, LASTS_S).hold("k") as number:
        seen.append(number)


def test_nobody_works_while_nothing_is_held(tmp_path: Path) -> None:
    leases = Leases(tmp_path, 0.1)
    with leases.hold("k"):
        pass
    keeper = leases._keeper.thread
    assert keeper is not None
    assert keeper.ident is not None
    clock = time.pthread_getcpuclockid(keeper.ident)
    until = time.monotonic() + 20
    before = -1.0
    while (spent := time.clock_gettime(clock)) != before and time.monotonic() < until:
        before = spent
        time.sleep(0.3)  # three times as long as a lease: it would have beaten
    assert spent == before


def test_still_is_what_nobody_saw_change(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 9.0, 13.0, 19.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    watch = Stillness(10)
    assert [watch.still(seen) for seen in "aabbb"] == [False, False, False, False, True]


@pytest.mark.parametrize("said", ["soon", "-1", "nan", "1e9", "0"])
def test_a_lease_that_is_no_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(UserError, match=f"DLAS_LEASE='{said}': must be seconds"):
        ArtifactStore(tmp_path / "store")


def test_cleaning_refuses_where_a_stopped_process_cleans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0.3")
    store = ArtifactStore(tmp_path / "store")
    from dlas.store.disk import acquire

    held = acquire(store.root / "locks" / "turn")
    assert held is not None
    try:
        with pytest.raises(UserError, match="a run is using"):
            store.clean([])
        with store.use(), store.only_user() as alone:
            assert not alone
    finally:
        os.close(held)
    store.clean([])
