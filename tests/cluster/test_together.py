"""Runs of one study by several processes that share a database and an object store."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from dlas.cli.app import main
from dlas.store.results import SessionRow
from living import gone, marked
from place import Place, place
from team import LAYERS, LEASE_S, MEASURE, SECRETS, begun, rows, whole


@pytest.fixture
def lab(tmp_path: Path, s3: Any) -> Place:
    return place(tmp_path)


def shared(lab: Place, database: str, bucket: str) -> list[str]:
    study = lab.study(layers=LAYERS, measure=MEASURE)
    return ["run", str(study), "--store", bucket, "--results", database, "--out"]


def test_a_second_machine_finds_all_done(
    lab: Place, database: str, bucket: str, undisturbed: Place,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    command = shared(lab, database, bucket)
    first = lab.dlas(*command, "one")
    assert first.returncode == 0, first.stderr
    whole(lab, database, bucket, undisturbed)
    again = lab.dlas(*command, "two")
    assert again.returncode == 0, again.stderr
    whole(lab, database, bucket, undisturbed)
    assert len(rows(database)[SessionRow]) == 2
    shown = []
    for name in ("one", "two"):
        capfdbinary.readouterr()
        assert main(["table", str(lab.root / name), "--format", "csv"]) == 0
        shown.append(capfdbinary.readouterr().out)
    assert shown[0] == shown[1]
    seen = [repr(rows(database)), first.stdout, first.stderr, again.stdout, again.stderr]
    seen += [f.read_text(errors="replace") for f in lab.root.rglob("*") if f.is_file()]
    assert not [text for text in seen for secret in SECRETS if secret in text]


def started(lab: Place, command: list[str], out: str, mark: str) -> subprocess.Popen[bytes]:
    return lab.start(*command, out, DLAS_TEST_MARK=mark, DLAS_LEASE=LEASE_S)


def ends(process: subprocess.Popen[bytes]) -> None:
    try:
        assert process.wait(timeout=200) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_one_is_stopped_for_longer_than_its_lease_and_woken(
    lab: Place, database: str, bucket: str, undisturbed: Place
) -> None:
    command, mark = shared(lab, database, bucket), uuid.uuid4().hex
    sleeper = started(lab, command, "one", mark)
    begun(bucket, lab.root / "looks", 2)
    os.killpg(sleeper.pid, signal.SIGSTOP)
    commands = marked(mark)
    assert len(commands) >= 2
    assert not [text for text in commands for secret in SECRETS if secret in text]
    other = started(lab, command, "two", mark)
    begun(bucket, lab.root / "looks", 5)  # they go on without it
    time.sleep(2)
    os.killpg(sleeper.pid, signal.SIGCONT)
    ends(other)
    ends(sleeper)
    assert gone(mark) == []
    whole(lab, database, bucket, undisturbed)


def test_one_is_killed_while_the_servers_stumble(
    lab: Place, database: str, bucket: str, undisturbed: Place, postgres: Any, s3: Any
) -> None:
    command, mark = shared(lab, database, bucket), uuid.uuid4().hex
    killed, other = (started(lab, command, out, mark) for out in ("one", "two"))
    begun(bucket, lab.root / "looks", 2)
    os.kill(killed.pid, signal.SIGKILL)
    s3.failing.set()
    postgres.stop("immediate")
    time.sleep(3)
    postgres.start()
    s3.failing.clear()
    ends(other)
    killed.wait()
    assert gone(mark) == []
    whole(lab, database, bucket, undisturbed)
