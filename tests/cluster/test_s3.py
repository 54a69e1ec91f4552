"""Artefacts in S3 (moto stands in): as tests/store/test_shared_store.py, over a real wire."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dlas.core.errors import StorageError
from dlas.store.artifacts import ArtifactStore, DamagedObject, Overtaken
from dlas.store.generations import NONE
from dlas.store.leases import VARIABLE
from dlas.store.shared_store import SharedStore


def filled(store: ArtifactStore, text: str) -> Path:
    folder = store.scratch()
    (folder / "deep").mkdir()
    (folder / "deep" / "a").write_text(text)
    return folder


def test_machines_share_what_they_make(bucket: str, tmp_path: Path) -> None:
    here, there = (SharedStore(bucket, tmp_path / name) for name in ("here", "there"))
    assert there.get("k") is None
    base = there.generation("k")
    assert base == NONE
    made = here.commit("k", "build", filled(here, "one"), {"x": 1}, 2.5, after=base)
    assert made.content is not None
    assert there.get("k") == made
    assert (there.path(made.content) / "deep" / "a").read_text() == "one"
    with pytest.raises(Overtaken):
        there.commit("k", "build", filled(there, "late"), {}, 0, after=base)
    assert there.commit("k", "build", filled(there, "two"), {}, 0, after=0).generation == 1
    assert here.generation("k") == 1
    assert here.discard(made.content) == ()
    with pytest.raises(DamagedObject):
        SharedStore(bucket, tmp_path / "third").path(made.content)


def test_each_generation_is_committed_once(bucket: str, tmp_path: Path) -> None:
    stores = [SharedStore(bucket, tmp_path / str(n)) for n in range(4)]
    barrier = threading.Barrier(4)
    won: list[tuple[int, int]] = []

    def race(number: int) -> None:
        store = stores[number]
        for turn in range(5):
            folder = filled(store, f"{number} {turn}")
            barrier.wait()
            try:
                store.commit("k", "build", folder, {"by": number}, 0, after=turn - 1)
                won.append((turn, number))
            except Overtaken:
                pass
            barrier.wait()

    threads = [threading.Thread(target=race, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(turn for turn, _ in won) == list(range(5))
    record = stores[0].get("k")
    assert record is not None
    assert (4, record.info["by"]) in won


@pytest.mark.parametrize("seconds", [2])
def test_a_store_that_answers_500_for_a_while_costs_time_only(
    s3: Any, bucket: str, tmp_path: Path, seconds: float
) -> None:
    here, there = (SharedStore(bucket, tmp_path / name) for name in ("here", "there"))
    s3.failing.set()
    threading.Timer(seconds, s3.failing.clear).start()
    before = s3.refused
    made = here.commit("k", "build", filled(here, "one"), {}, 0, after=NONE)
    assert s3.refused > before
    assert made.content is not None
    assert there.get("k") == made
    assert (there.path(made.content) / "deep" / "a").read_text() == "one"


def test_a_store_that_is_not_there_is_a_sentence(
    s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"cannot read s3://.*See to the store"):
        SharedStore(bucket, tmp_path, patience_s=1)


def test_a_bucket_that_is_not_there_is_a_sentence(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot create s3://nobody-made-it/x/.*See to the"):
        SharedStore("s3://nobody-made-it/x", tmp_path)


def test_missing_credentials_are_said_at_once(
    s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"cannot read s3://.*redentials.*See to the store"):
        SharedStore(bucket, tmp_path)
    assert time.monotonic() - began < 60  # of 300


HOLDER = """
import sys, time
from pathlib import Path
from dlas.store.shared_store import SharedStore
store = SharedStore(sys.argv[1], Path(sys.argv[2]))
base = store.generation("k")
with store.lock("k"):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
    folder = store.scratch()
    (folder / "a").write_text("late")
    try:
        store.commit("k", "build", folder, {}, 0, after=base)
        print("committed", flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


def holder(bucket: str, cache: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, bucket, str(cache), str(seconds)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_machine_that_is_stopped_for_longer_than_its_lease_loses_its_step(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1.5")
    process = holder(bucket, tmp_path / "sleeper", 0.5)
    process.send_signal(signal.SIGSTOP)
    store = SharedStore(bucket, tmp_path / "here")
    with store.lock("k"):
        made = store.commit("k", "build", filled(store, "quick"), {}, 0, after=NONE)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=60)
    assert said == "Overtaken\n"
    assert store.get("k") == made
    assert store.generation("k") == 0


def test_a_machine_that_works_is_waited_for(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "1.5")
    process = holder(bucket, tmp_path / "worker", 4)
    store = SharedStore(bucket, tmp_path / "here")
    began = time.monotonic()
    with store.lock("k"):
        record = store.get("k")
    assert time.monotonic() - began > 2
    assert record is not None
    assert process.communicate(timeout=60)[0] == "committed\n"
