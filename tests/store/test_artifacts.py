from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlas.core.errors import StepError, StorageError, UserError
from dlas.core.records import Outcome, Status
from dlas.store.artifacts import ArtifactStore, DamagedObject, StepRecord
from dlas.store.step_record import forgotten

KEY = "k" * 64


def filled(store: ArtifactStore, **files: str) -> Path:
    folder = store.scratch()
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def objects(store: ArtifactStore) -> list[str]:
    return sorted(p.name for p in (store.root / "objects").iterdir())


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def test_what_is_committed_is_read_back(store: ArtifactStore) -> None:
    made = store.commit(
        KEY, "build", filled(store, a="one", deep__b="two"), {"size": 3, "x": [1.5, None]}, 2.5,
        attempts=2, log="said", versions={"torch": "2"},
    )  # fmt: skip
    assert made.status is Status.COMPLETE
    again = ArtifactStore(store.root)
    assert again.get(KEY) == made
    assert (made.info, made.seconds, made.attempts) == ({"size": 3, "x": [1.5, None]}, 2.5, 2)
    assert made.content is not None
    folder = again.path(made.content)
    assert (folder / "a").read_text() == "one"
    assert (folder / "deep" / "b").read_text() == "two"
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o444


def test_an_unknown_step_is_none(store: ArtifactStore) -> None:
    assert store.get("nothing") is None


def test_the_same_content_twice_is_one_object(store: ArtifactStore) -> None:
    first = store.commit("one", "build", filled(store, a="x"), {}, 0)
    second = store.commit("two", "build", filled(store, a="x"), {}, 0)
    other = store.commit("three", "build", filled(store, b="x"), {}, 0)
    assert first.content == second.content != other.content
    assert len(objects(store)) == 2
    assert list((store.root / "tmp").glob("*/*")) == []


def test_a_failed_step_keeps_where_and_why(store: ArtifactStore) -> None:
    outcome = Outcome(Status.FAILED, {"left": 1}, "no such operator", "last lines", 3.0)
    made = store.fail(KEY, "lower", outcome, 2)
    assert store.get(KEY) == made
    assert made == StepRecord(
        KEY, "lower", Status.FAILED, None, {"left": 1}, "no such operator", "last lines", 3.0,
        made.created_at, 2, {},
    )  # fmt: skip
    with pytest.raises(ValueError, match="no failure"):
        store.fail(KEY, "lower", Outcome(Status.COMPLETE), 1)


def test_a_failure_gives_way_to_a_success(store: ArtifactStore) -> None:
    store.fail(KEY, "lower", Outcome(Status.FAILED, reason="no"), 1)
    store.commit(KEY, "lower", filled(store, a="x"), {}, 0, attempts=2)
    found = store.get(KEY)
    assert found is not None
    assert found.status is Status.COMPLETE
    assert store.forget(KEY)
    assert not store.forget(KEY)
    assert store.get(KEY) is None


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 300])
def test_a_key_cannot_leave_the_store(store: ArtifactStore, name: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        store.get(name)
    with pytest.raises(ValueError, match="no key"), store.lock(name):
        pass


def test_info_that_is_not_finite_is_refused(store: ArtifactStore) -> None:
    folder = filled(store, a="x")
    with pytest.raises(ValueError, match="JSON"):
        store.commit(KEY, "build", folder, {"x": float("nan")}, 0)
    assert store.get(KEY) is None
    assert (folder / "a").exists()


def test_links_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    folder = filled(store, a="x")
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(StepError, match="link of the artefact is a link"):
        store.commit(KEY, "build", folder, {}, 0)
    assert store.get(KEY) is None


def test_a_file_with_a_second_name_gets_bytes_of_its_own(
    store: ArtifactStore, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("x")
    mode = theirs.stat().st_mode
    folder = filled(store, b="y")
    (folder / "a").hardlink_to(theirs)
    content = store.commit(KEY, "build", folder, {}, 0).content
    assert content is not None
    theirs.write_text("changed")
    assert theirs.stat().st_mode == mode
    assert (ArtifactStore(store.root).path(content) / "a").read_text() == "x"


def test_a_folder_from_another_file_system_is_copied(store: ArtifactStore) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == store.root.stat().st_dev:
        pytest.skip("no second file system here")
    folder = shm / f"dlas-test-{os.getpid()}"
    folder.mkdir()
    (folder / "a").write_text("x")
    made = store.commit(KEY, "build", folder, {}, 0)
    assert made.content is not None
    assert (store.path(made.content) / "a").read_text() == "x"
    assert not folder.exists()


# ------------------------------------------------------------ damage


def damage_by_change(folder: Path) -> str:
    (folder / "a").chmod(0o644)
    (folder / "a").write_text("X")
    return "a was changed"


def damage_by_loss(folder: Path) -> str:
    (folder / "a").unlink()
    return "a is missing"


def damage_by_addition(folder: Path) -> str:
    (folder / "c").write_text("new")
    return "c was added"


def damage_of_manifest(folder: Path) -> str:
    file = folder.parent / "manifest.json"
    said = json.loads(file.read_text())
    said["files"]["a"] = "0" * 64
    file.write_text(json.dumps(said))
    return "manifest.json was changed"


def damage_by_half_a_manifest(folder: Path) -> str:
    file = folder.parent / "manifest.json"
    file.write_text(file.read_text()[:20])
    return "manifest.json cannot be read"


def damage_by_no_manifest(folder: Path) -> str:
    (folder.parent / "manifest.json").unlink()
    return "manifest.json is missing"


DAMAGES = [
    damage_by_change, damage_by_loss, damage_by_addition, damage_of_manifest,
    damage_by_half_a_manifest, damage_by_no_manifest,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_named_and_discarded(store: ArtifactStore, damage) -> None:
    made = store.commit("one", "build", filled(store, a="x", b="y"), {}, 0)
    store.commit("two", "lower", filled(store, a="x", b="y"), {}, 0)
    store.commit("else", "lower", filled(store, a="z"), {}, 0)
    assert made.content is not None
    said = damage(store.path(made.content))
    fresh = ArtifactStore(store.root)
    with pytest.raises(DamagedObject, match=said) as caught:
        fresh.path(made.content)
    assert isinstance(caught.value, StorageError)
    assert fresh.discard(caught.value.content) == ("one", "two")
    assert fresh.get("one") is None
    assert fresh.get("two") is None
    assert fresh.get("else") is not None
    assert made.content not in objects(store)
    with pytest.raises(DamagedObject, match="missing"):
        fresh.path(made.content)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_object_is_mended_by_the_same_content(store: ArtifactStore, damage) -> None:
    made = store.commit("one", "build", filled(store, a="x", b="y"), {}, 0)
    assert made.content is not None
    damage(store.path(made.content))
    fresh = ArtifactStore(store.root)
    again = fresh.commit("two", "build", filled(fresh, a="x", b="y"), {}, 0)
    assert again.content == made.content
    assert (ArtifactStore(store.root).path(made.content) / "a").read_text() == "x"


def test_a_damaged_record_is_named(store: ArtifactStore) -> None:
    store.commit(KEY, "build", filled(store, a="x"), {}, 0)
    file = store.root / "steps" / f"{KEY}.json"
    file.write_text(file.read_text()[:30])
    with pytest.raises(StorageError, match=rf"{KEY}\.json is damaged.*remove it"):
        store.get(KEY)


def test_only_the_first_reading_is_verified(store: ArtifactStore) -> None:
    made = store.commit(KEY, "build", filled(store, a="x"), {}, 0)
    assert made.content is not None
    fresh = ArtifactStore(store.root)
    damage_by_change(fresh.path(made.content))
    fresh.path(made.content)  # known good: not read again
    with pytest.raises(DamagedObject):
        ArtifactStore(store.root).path(made.content)


# ------------------------------------------------------------ opening


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"not empty \(it holds 'thesis.tex'\)"):
        ArtifactStore(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_absent_store_is_not_created_unasked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="check the path"):
        ArtifactStore(tmp_path / "no", create=False)
    assert not (tmp_path / "no").exists()


def test_another_format_is_refused(store: ArtifactStore) -> None:
    (store.root / "dlas-artifacts.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match=r"format 99.*upgrade"):
        ArtifactStore(store.root)
    (store.root / "dlas-artifacts.json").write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        ArtifactStore(store.root)


# ------------------------------------------------------------ cleaning


def test_clean_removes_what_is_not_kept(store: ArtifactStore) -> None:
    kept = store.commit("kept", "build", filled(store, a="x" * 10), {}, 0)
    store.commit("same", "build", filled(store, a="x" * 10), {}, 0)
    store.commit("gone", "build", filled(store, a="y" * 1000), {}, 0)
    store.fail("failed", "build", Outcome(Status.FAILED, reason="no"), 1)
    with store.lock("gone"):
        pass
    before = sorted(p for p in store.root.rglob("*"))
    planned = store.clean(["kept"], dry_run=True)
    assert sorted(p for p in store.root.rglob("*")) == before
    report = store.clean(["kept"])
    assert report == planned
    assert (report.objects, report.steps) == (1, 3)
    assert 1000 < report.bytes < 1300
    assert objects(store) == [kept.content]
    assert [f.stem for f in (store.root / "steps").iterdir()] == ["kept"]
    assert list((store.root / "locks").glob("*.lock")) == []
    assert store.clean(["kept"]) == type(report)(0, 0)


def test_clean_waits_for_no_run_but_refuses(store: ArtifactStore) -> None:
    store.commit("a", "build", filled(store, a="x"), {}, 0)
    with store.use(), pytest.raises(UserError, match="a run is using"):
        store.clean([])
    assert store.get("a") is not None
    assert store.clean([]).objects == 1


def test_clean_leaves_a_living_process_its_scratch(store: ArtifactStore) -> None:
    folder = filled(store, a="x")
    other = ArtifactStore(store.root)
    assert other.clean([]).scratch == 0
    made = store.commit(KEY, "build", folder, {}, 0)
    assert made.content is not None


# ------------------------------------------------------------ processes


def child(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True
    )


SCRATCH = """
import sys, time
from pathlib import Path
from dlas.store.artifacts import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
(store.scratch() / "big").write_text("x" * 1000)
print("ready", flush=True)
if len(sys.argv) > 2: time.sleep(60)
"""


def test_scratch_ends_with_its_process(store: ArtifactStore) -> None:
    assert child(SCRATCH, store.root).wait() == 0
    assert list((store.root / "tmp").iterdir()) == []


def test_scratch_of_a_killed_process_is_swept(store: ArtifactStore) -> None:
    process = child(SCRATCH, store.root, "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert store.clean([]).scratch == 0
    assert len(list((store.root / "tmp").rglob("big"))) == 1
    process.kill()
    process.wait()
    assert store.clean([], dry_run=True).scratch == 1
    assert store.clean([]).scratch == 1
    assert list((store.root / "tmp").rglob("big")) == []


def test_a_forked_child_leaves_its_parents_scratch(store: ArtifactStore) -> None:
    folder = filled(store, a="x")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            (store.scratch() / "mine").write_text("x")
            import atexit

            atexit._run_exitfuncs()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert (folder / "a").exists()


LOCKER = """
import sys, time
from pathlib import Path
from dlas.store.artifacts import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
for _ in range(30):
    with store.lock("step"):
        count = Path(sys.argv[2])
        seen = int(count.read_text())
        time.sleep(0.001)
        count.write_text(str(seen + 1))
"""


def test_a_lock_keeps_processes_apart(store: ArtifactStore, tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    processes = [child(LOCKER, store.root, count) for _ in range(3)]
    for _ in range(20):  # cleaning removes idle lock files: nobody may be let in by that
        store.clean([])
        time.sleep(0.01)
    assert [p.wait() for p in processes] == [0, 0, 0]
    assert count.read_text() == "90"


COMMITTER = """
import sys, itertools
from pathlib import Path
from dlas.store.artifacts import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
start = int(sys.argv[2])
for i in itertools.count(start):
    folder = store.scratch()
    for n in range(4):
        (folder / str(n)).write_text(f"{i // 2} {n} " * 500)
    record = store.commit(f"step-{i}", "build", folder, {"i": i}, 0.0)
    print(i, record.content, flush=True)
"""


def test_kills_at_any_moment_lose_and_damage_nothing(store: ArtifactStore) -> None:
    done: dict[int, str] = {}
    for turn in range(12):
        start = max(done, default=-1) + 1
        process = child(COMMITTER, store.root, start)
        assert process.stdout is not None
        first = process.stdout.readline()  # it works: now let it die somewhere
        time.sleep(0.003 * turn)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.wait()
        for line in (first + rest).splitlines(keepends=True):
            if line.endswith("\n"):
                number, content = line.split()
                done[int(number)] = content
        check = ArtifactStore(store.root)
        for number, content in done.items():
            record = check.get(f"step-{number}")
            assert record is not None
            assert record.content == content
            text = f"{number // 2} 3 " * 500
            assert (check.path(content) / "3").read_text() == text
        for key, file in check.records().items():
            record = check.get(key)
            if record is None:
                assert json.loads(file.read_text()) == forgotten(key)
                continue
            assert record.content is not None
            check.path(record.content)
        for name in objects(store):
            check.path(name)
    assert len(done) >= 12
    store.clean([f"step-{n}" for n in done])
    assert len(list((store.root / "tmp").glob("*.owner"))) <= 1


CLEANER = """
import sys
from pathlib import Path
from dlas.store.artifacts import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
turn = 0
while True:
    for i in range(20):
        folder = store.scratch()
        for n in range(3):
            (folder / str(n)).write_text(f"{i} {n} {turn}" * 500)
        store.commit(f"gone-{i}", "build", folder, {}, 0.0)
        if i == 10 and turn == 0:
            print("ready", flush=True)
    store.clean(["kept"])
    folder = store.scratch()
    (folder / "a").write_text(f"other {turn}")
    store.discard(store.commit("gone", "build", folder, {}, 0.0).content)
    turn += 1
"""


def test_kills_while_cleaning_leave_no_record_without_its_object(store: ArtifactStore) -> None:
    kept = store.commit("kept", "build", filled(store, a="x"), {}, 0)
    for turn in range(6):
        process = child(CLEANER, store.root)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.02 * turn)
        process.kill()
        process.wait()
        check = ArtifactStore(store.root)
        assert check.get("kept") == kept
        for key, file in check.records().items():
            record = check.get(key)
            if record is None:
                assert json.loads(file.read_text()) == forgotten(key)
                continue
            assert record.content is not None
            check.path(record.content)  # there, and whole
    store.clean(["kept"])
    assert objects(store) == [kept.content]


def _commit_same(root: Path, barrier, number: int) -> None:
    store = ArtifactStore(root)
    for turn in range(20):
        folder = store.scratch()
        (folder / "a").write_text(f"{turn}" * 2000)
        barrier.wait()
        store.commit(f"{number}-{turn}", "build", folder, {}, 0)


def test_two_processes_commit_the_same_content(store: ArtifactStore) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [context.Process(target=_commit_same, args=(store.root, barrier, n)) for n in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [p.exitcode for p in both] == [0, 0]
    assert len(objects(store)) == 20
    for name in objects(store):
        store.path(name)


def test_two_processes_create_the_store_at_once(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from dlas.store.artifacts import ArtifactStore
ArtifactStore(Path(sys.argv[1])).scratch()
"""
    processes = [child(code, tmp_path / "new") for _ in range(4)]
    assert [p.wait() for p in processes] == [0] * 4
