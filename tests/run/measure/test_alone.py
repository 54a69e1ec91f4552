from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dlas.core.errors import StorageError, UserError
from dlas.run.measure import alone
from dlas.run.measure.alone import beside_measuring, machine_lock

HOLD = """
import sys
from pathlib import Path
from dlas.run.measure.alone import machine_lock
with machine_lock(path=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = hold(path)
    notes: list[str] = []
    with (
        pytest.raises(UserError, match=f"process {holder.pid} of .*, since .* within 0.1 s"),
        machine_lock(notes.append, wait_s=0.1, path=path),
    ):
        pass
    assert len(notes) == 1
    assert f"process {holder.pid}" in notes[0]
    holder.communicate()
    with machine_lock(notes.append, wait_s=0, path=path):
        assert len(notes) == 1


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = hold(path)

    def free(_: str) -> None:
        holder.communicate()

    with machine_lock(free, wait_s=30, path=path):
        assert holder.returncode == 0


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = hold(path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with machine_lock(wait_s=0, path=path):
        pass


def test_all_users_may_take_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    before = os.umask(0o077)
    try:
        with machine_lock(path=path):
            assert path.stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with (
        pytest.raises(StorageError, match="cannot be opened"),
        machine_lock(path=tmp_path / "lock"),
    ):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_another_file_may_be_named_and_is_another_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(alone.VARIABLE, str(tmp_path / "mine.lock"))
    with machine_lock(wait_s=0):
        assert (tmp_path / "mine.lock").exists()
        with pytest.raises(UserError, match="process"), machine_lock(wait_s=0):
            pass
        monkeypatch.setenv(alone.VARIABLE, str(tmp_path / "other.lock"))
        with machine_lock(wait_s=0):
            pass


def test_several_work_beside_each_other_and_nobody_measures_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        beside_measuring(path=path),
        beside_measuring(path=path, wait_s=0),
        pytest.raises(UserError, match=f"process {os.getpid()}"),
        machine_lock(wait_s=0, path=path),
    ):
        pass
    with (
        machine_lock(path=path),
        pytest.raises(UserError, match=f"process {os.getpid()}"),
        beside_measuring(wait_s=0, path=path),
    ):
        pass
