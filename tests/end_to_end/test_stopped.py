"""A run that is stopped (SIGSTOP) in mid-step holds up nobody, and finds its step done."""

from __future__ import annotations

import fcntl
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlas.store.artifacts import ArtifactStore
from living import gone
from place import Place

LAYERS = {"optimization": ["none"], "software": ["onnxruntime"]}
MEASURE = {"rounds": 1, "memory": False, "accuracy_samples": 20, "min_controls": 0}
LEASE = {"DLAS_LEASE": "1"}


def test_another_run_goes_on_and_each_step_is_committed_once(fresh: Place) -> None:
    study = fresh.study(layers=LAYERS, measure=MEASURE)
    mark = uuid.uuid4().hex
    command = ["run", study, "--store", "shared", "--out"]
    sleeper = fresh.start(*command, "sleeper", DLAS_TEST_MARK=mark, **LEASE)
    try:
        with stopped_in_a_step(sleeper.pid, fresh.root / "shared") as key:
            other = fresh.dlas(*command, "other", **LEASE)
            assert other.returncode == 0, other.stderr
            done = ArtifactStore(fresh.root / "shared").get(key)
            assert done is not None
        assert sleeper.wait(timeout=120) == 0
    finally:
        if sleeper.poll() is None:
            os.killpg(sleeper.pid, signal.SIGKILL)
    assert gone(mark) == []
    store = ArtifactStore(fresh.root / "shared")
    assert store.get(key) == done
    assert {store.generation(each) for each in store.records()} == {0}
    for out in ("sleeper", "other"):
        assert {row.status for row in fresh.cells(out).values()} == {"complete"}
    assert set(fresh.rounds("sleeper")) == set(fresh.rounds("other"))


@contextmanager
def stopped_in_a_step(pid: int, store: Path, within_s: float = 60) -> Iterator[str]:
    """Stop a process and all it started while it does a step; give the step's key."""
    until = time.monotonic() + within_s
    while not (key := _doing(store)):
        assert time.monotonic() < until, "no step was ever begun"
        time.sleep(0.01)
        os.killpg(pid, signal.SIGSTOP)
        if not _doing(store):
            os.killpg(pid, signal.SIGCONT)
    os.killpg(pid, signal.SIGSTOP)
    try:
        yield key
    finally:
        os.killpg(pid, signal.SIGCONT)


def _doing(store: Path) -> str | None:
    """Return the key of a step that somebody does and nobody has done."""
    for file in sorted((store / "locks").glob("*.lock")):
        if not (store / "steps" / f"{file.stem}.json").exists() and _taken(file):
            return file.stem
    return None


def _taken(file: Path) -> bool:
    with file.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
