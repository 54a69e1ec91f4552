"""The disk budget: sizes as people write them, what may go, and who else is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlas.core.errors import UserError
from dlas.core.records import Stage
from dlas.store.artifacts import ArtifactStore, DamagedObject
from dlas.store.budget import Budget, Inventory, checked_size, parse_size, size_text
from dlas.store.disk import acquire

BIG = 1000


def put(store: ArtifactStore, key: str, stage: Stage, text: str = "", size: int = BIG) -> str:
    folder = store.scratch()
    (folder / "a").write_text((text or key).ljust(size, "."))
    content = store.commit(key, stage, folder, {}, 0).content
    assert content is not None
    time.sleep(0.002)  # so that one is older than the other
    return content


def there(store: ArtifactStore, *keys: str) -> list[str]:
    records = {key: store.get(key) for key in keys}
    return [k for k, r in records.items() if r and r.content and store.has(r.content)]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def notes() -> list[str]:
    return []


def budget(store: ArtifactStore, objects: float, notes: list[str]) -> Budget:
    """Return a budget of so many objects of the size that ``put`` makes."""
    one = max(Inventory(store).sizes().values())
    return Budget(store, int(objects * one), notes.append)


# ------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2G", 2_000_000_000), ("500M", 500_000_000), ("1.5GB", 1_500_000_000),
        ("2GiB", 2 * 1024**3), ("2gib", 2 * 1024**3), (" 10 k ", 10_000), ("1T", 10**12),
        ("0.5Mi", 512 * 1024),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("500", "has no unit"), ("2.5", "has no unit"), ("much", "is no size"), ("", "is no size"),
        ("-2G", "is no size"), ("2X", "is no size"), ("2GG", "is no size"), ("1e3M", "is no size"),
        ("0G", "leaves no room"), ("0.0001k", "leaves no room"),
    ],
)  # fmt: skip
def test_what_is_no_size_is_told_with_what_is(text: str, why: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_size(text)
    assert len(caught.value.problems) == 1
    for part in (f"--max-disk {text!r} {why}", "500M", "1.5GB", "2GiB"):
        assert part in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2G"])
def test_a_size_in_bytes_is_a_whole_number(size) -> None:
    with pytest.raises(UserError, match="whole number of bytes above 0"):
        checked_size(size)


def test_sizes_as_text() -> None:
    said = [size_text(n) for n in (2_500_000_000, 20_040_000, 312_400)]
    assert said == ["2.50 GB", "20.0 MB", "312 kB"]


# ------------------------------------------------------------ what goes


def test_the_oldest_go_first_and_no_more_than_needed(store: ArtifactStore, notes) -> None:
    names = ["d", "b", "c", "a"]
    contents = [put(store, name, Stage.OPTIMIZE) for name in names]
    kept = budget(store, 2.5, notes)
    with store.use():
        assert kept.room((), (), ())
        assert there(store, *names) == ["c", "a"]
        assert (kept.evicted, kept.evicted_bytes) == (2, kept.most // 2)
        assert kept.room((), (), ())  # within the budget nothing goes
        assert there(store, *names) == ["c", "a"]
    assert "older ones go" in notes[0]
    assert len(notes) == 1
    record = store.get("d")
    assert record is not None
    assert record.content == contents[0]
    with pytest.raises(DamagedObject, match="missing"):
        store.path(contents[0])


def test_room_is_made_for_an_output_as_large_as_the_largest_of_its_stage(
    store: ArtifactStore, notes
) -> None:
    for name in "ab":
        put(store, name, Stage.OPTIMIZE)
    kept = budget(store, 2.5, notes)
    with store.use():
        assert kept.room([Stage.BUILD], (), ())  # none is known
        assert there(store, "a", "b") == ["a", "b"]
        assert kept.room([Stage.OPTIMIZE], (), ())
        assert there(store, "a", "b") == ["b"]
        assert not kept.room([Stage.OPTIMIZE, Stage.OPTIMIZE], ["b"], ())
        assert there(store, "a", "b") == ["b"]


def test_only_intermediate_artefacts_go_unless_they_are_read(store: ArtifactStore, notes) -> None:
    stages = [Stage.INPUTS, Stage.BUILD, Stage.EVALUATE, Stage.MEMORY, Stage.PREPARE,
              Stage.OPTIMIZE, Stage.LOWER, Stage.REFERENCE]  # fmt: skip
    for stage in stages:
        put(store, str(stage), stage)
    held = put(store, "held", Stage.LOWER)
    kept = Budget(store, 1, notes.append)
    with store.use():
        assert not kept.room((), ["optimize"], [held])
    left = ["inputs", "build", "evaluate", "memory", "optimize", "held"]
    assert sorted(there(store, *map(str, stages), "held")) == sorted(left)
    assert all(store.get(str(stage)) for stage in stages)


def test_what_a_build_shares_with_a_lowered_network_stays(store: ArtifactStore, notes) -> None:
    put(store, "lowered", Stage.LOWER, "same")
    put(store, "built", Stage.BUILD, "same")
    with store.use():
        assert not Budget(store, 1, notes.append).room((), (), ())
    assert there(store, "built", "lowered") == ["built", "lowered"]


def test_what_no_record_points_to_goes(store: ArtifactStore, notes) -> None:
    old = put(store, "built", Stage.BUILD, "before")
    put(store, "built", Stage.BUILD, "after")
    with store.use():
        assert budget(store, 1, notes).room((), ["built"], ())
    assert not store.has(old)
    assert there(store, "built") == ["built"]


def test_clean_works_after_eviction(store: ArtifactStore, notes) -> None:
    put(store, "net", Stage.OPTIMIZE)
    put(store, "built", Stage.BUILD)
    put(store, "other", Stage.BUILD)
    with store.use():
        assert budget(store, 2, notes).room((), (), ())
    report = store.clean(["net", "built"])
    assert (report.objects, report.steps) == (1, 1)
    assert store.get("net") is not None
    assert there(store, "net", "built") == ["built"]


# ------------------------------------------------------------ who else is there


def test_nothing_goes_while_another_run_uses_the_store(store: ArtifactStore, notes) -> None:
    put(store, "net", Stage.OPTIMIZE)
    kept = Budget(store, 1, notes.append)
    other = ArtifactStore(store.root)
    with store.use():
        with other.use():
            assert not kept.room((), (), ())
            assert there(store, "net") == ["net"]
            assert "another run uses" in notes[-1]
            assert "wait until that has ended" in str(kept.refusal(3))
        # asking has not cost the run its own mark
        with pytest.raises(UserError, match="a run is using"):
            store.clean([])
        assert kept.room((), (), ())
        assert there(store, "net") == []
        assert "wait until" not in str(kept.refusal(3))
        with pytest.raises(UserError, match="a run is using"):
            store.clean([])


def test_while_something_goes_no_other_run_begins(store: ArtifactStore) -> None:
    use = store.root / "locks" / "use"
    with store.use():
        with store.only_user() as alone:
            assert alone
            assert acquire(use, shared=True, wait=False) is None
        handle = acquire(use, shared=True, wait=False)
        assert handle is not None
        os.close(handle)


TWO = """
import sys, time
from pathlib import Path
from dlas.store.artifacts import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
with store.use():
    print("ready", flush=True)
    sys.stdin.readline()
    found, end = 0, time.monotonic() + 0.7
    while time.monotonic() < end:
        with store.only_user() as alone:
            found += alone
    print(found, flush=True)
    sys.stdin.readline()
"""


def test_two_runs_that_both_want_to_evict_never_do(store: ArtifactStore) -> None:
    command = [sys.executable, "-c", TWO, str(store.root)]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said: list[list[str]] = []
    for _ in ("ready", "found"):  # neither goes on, or ends, before the other is as far
        said.append([str(p.stdout and p.stdout.readline()).strip() for p in both])
        for process in both:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
    for process in both:
        process.communicate()
    assert said == [["ready", "ready"], ["0", "0"]]


EVICTER = """
import sys
from pathlib import Path
from dlas.records import Stage
from dlas.store.artifacts import ArtifactStore
from dlas.store.budget import Budget
store = ArtifactStore(Path(sys.argv[1]))
with store.use():
    turn = 0
    while True:
        for i in range(8):
            folder = store.scratch()
            for n in range(4):
                (folder / str(n)).write_text(f"{i} {n} {turn}" * 500)
            store.commit(f"{i}", Stage.LOWER, folder, {}, 0.0)
        if turn == 0:
            print("ready", flush=True)
        Budget(store, 8000, lambda text: None).room((), ["7"], ())
        turn += 1
"""


def test_kills_while_evicting_leave_objects_whole_or_gone(store: ArtifactStore) -> None:
    for turn in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", EVICTER, str(store.root)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.02 + 0.013 * turn)
        process.send_signal(signal.SIGKILL)
        process.wait()
        check = ArtifactStore(store.root)
        for name in Inventory(check).sizes():
            check.path(name)  # whole
        assert check.get("7") is not None
        assert there(check, "7") == ["7"]
    assert len(Inventory(store).steps()) == 8
