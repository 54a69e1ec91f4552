from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dlas.core.errors import StorageError, UserError
from dlas.core.records import Outcome, Status
from dlas.store import disk, generations, scratch, sqlite
from dlas.store.artifacts import ArtifactStore
from dlas.store.results import FactRow, ResultStore

FACT = FactRow("c", "h", "build", "k", None, Status.COMPLETE, value={"text": "x" * 3000})


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode != 0:
        pytest.skip("this user cannot mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    with mounted(tmp_path / "small", "size=1m") as folder:
        yield folder


FILL = """
import os, sys
from pathlib import Path
from dlas.records import Status
from dlas.store.artifacts import ArtifactStore
from dlas.store.results import FactRow, ResultStore
folder = Path(sys.argv[1])
store = ArtifactStore(folder / "store")
made = store.scratch()
(made / "a").write_text("x")
store.commit("step", "build", made, {}, 0)
results = ResultStore(folder / "results.db")
results.put(FactRow("c", "h", "build", "k", None, Status.COMPLETE, value={"text": "x" * 3000}))
os._exit(0)  # as if killed
"""


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A read-only file system that holds a store, results, and the log of a killed run."""
    with mounted(tmp_path / "ro", "size=20m") as folder:
        subprocess.run([sys.executable, "-c", FILL, str(folder)], check=True)
        assert (folder / "results.db-wal").stat().st_size > 0
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder


def test_a_full_disk_damages_no_artefact(small: Path) -> None:
    store = ArtifactStore(small / "store")
    kept = []
    with pytest.raises(StorageError, match=rf"cannot .* {small}.*the disk is full; free some"):
        for n in range(100):
            folder = store.scratch()
            try:
                (folder / "a").write_bytes(bytes([n]) * 50_000)
            except OSError as error:
                raise disk.refused(error, "write", folder) from error
            store.commit(f"step-{n}", "build", folder, {"n": n}, 0)
            kept.append(f"step-{n}")
    assert 5 < len(kept) < 25
    again = ArtifactStore(small / "store")
    for n, key in enumerate(kept):
        record = again.get(key)
        assert record is not None
        assert record.content is not None
        assert (again.path(record.content) / "a").read_bytes() == bytes([n]) * 50_000
    again.clean(kept[:2])  # space comes back
    folder = again.scratch()
    (folder / "a").write_bytes(b"z" * 50_000)
    again.commit("more", "build", folder, {}, 0)


def test_a_full_disk_in_the_middle_of_a_commit_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(tmp_path / "store")
    calls = []

    def full(target: Path, text: str, temporary: Path, lock: Path) -> None:
        calls.append(target.name)
        raise OSError(errno.ENOSPC, "No space left on device", str(temporary))

    monkeypatch.setattr(generations, "write_first", full)
    folder = store.scratch()
    (folder / "a").write_text("x")
    with pytest.raises(StorageError, match=r"the disk is full; free some space"):
        store.commit("step", "build", folder, {}, 0)
    with pytest.raises(StorageError, match=r"cannot record a failed step.*the disk is full"):
        store.fail("step", "build", Outcome(Status.FAILED), 1)
    assert calls
    assert store.get("step") is None
    assert list((store.root / "tmp").glob("*/*")) == []
    monkeypatch.undo()
    folder = store.scratch()
    (folder / "a").write_text("x")
    store.commit("step", "build", folder, {}, 0)
    assert len(list((store.root / "objects").iterdir())) == 1


def test_a_full_disk_damages_no_result(small: Path) -> None:
    path = small / "results.db"
    kept = []
    with ResultStore(path) as store:
        with pytest.raises(
            StorageError, match=rf"cannot write the results in {path}: the disk is full; free"
        ):
            for n in range(1000):
                store.put(FactRow("c", "h", f"{n:04}", "k", None, Status.COMPLETE,
                                  value={"text": "x" * 3000}))  # fmt: skip
                kept.append(f"{n:04}")
        assert len(kept) > 20
        assert [r.kind for r in store.rows(FactRow)] == kept
    with ResultStore(path, read_only=True) as store:
        assert [r.kind for r in store.rows(FactRow)] == kept


LIMITED = """
import resource, sys
from pathlib import Path
from dlas.errors import StorageError
from dlas.records import Status
from dlas.store.results import FactRow, ResultStore
with ResultStore(Path(sys.argv[1])) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        for n in range(1000):
            store.put(FactRow("c", "h", f"{n:04}", "k", None, Status.COMPLETE,
                              value={"text": "x" * 3000}))
            print(n, flush=True)
    except StorageError as error:
        print(error, flush=True)
"""


def test_a_refused_write_damages_no_result(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[-1].startswith(f"cannot write the results in {path}: the disk")
    with ResultStore(path) as store:
        kinds = [r.kind for r in store.rows(FactRow)]
    # the refused row may be there, whole, if only the padding after it was refused
    assert kinds == [f"{n:04}" for n in range(len(kinds))]
    assert 3 < len(said) - 1 <= len(kinds) <= len(said)


def test_a_read_only_disk_can_be_read_and_says_so_when_written(read_only: Path) -> None:
    store = ArtifactStore(read_only / "store")
    record = store.get("step")
    assert record is not None
    assert record.content is not None
    assert (store.path(record.content) / "a").read_text() == "x"
    said = r"the file system is read-only; choose a folder that can be written"
    with pytest.raises(StorageError, match=said):
        store.scratch()
    with pytest.raises(StorageError, match=said), store.lock("step"):
        pass
    with pytest.raises(StorageError, match=said):
        store.fail("step", "build", Outcome(Status.FAILED), 1)
    with pytest.raises(StorageError, match=said):
        store.clean([])
    with pytest.raises(StorageError, match=said):
        ArtifactStore(read_only / "new")
    assert store.clean([], dry_run=True).objects == 1
    with ResultStore(read_only / "results.db", read_only=True) as results_:
        assert results_.rows(FactRow) == [FACT]  # it was only in the log of the killed run
    for name in ("results.db", "new.db", "new/results.db"):
        with pytest.raises(StorageError, match=r"read-only|permission denied"):
            ResultStore(read_only / name)


def refusals_as_another_user(mine: Path) -> list[str]:
    """Return what opening for writing says, then how many rows can be read, in a forked child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = []
        try:
            if os.getuid() == 0:  # root is refused nothing
                os.setgid(65534)
                os.setuid(65534)
            for act in (
                lambda: ResultStore(mine / "results.db"),
                lambda: ResultStore(mine / "new.db"),
                lambda: ArtifactStore(mine / "other"),
                lambda: ArtifactStore(mine / "store").scratch(),
            ):
                try:
                    act()
                    said.append("no error")
                except StorageError as error:
                    said.append(str(error))
            with ResultStore(mine / "results.db", read_only=True) as store:
                said.append(str(len(store.rows(FactRow))))
        except BaseException as error:
            said.append(repr(error))
        finally:
            os.write(writing, "\n".join(said).encode())
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return pipe.read().splitlines()


def test_a_folder_of_somebody_else_can_be_read_only() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        mine = Path(folder) / "mine"
        with ResultStore(mine / "results.db") as store:
            store.put(FACT)
        ArtifactStore(mine / "store")
        for part in (mine, *mine.rglob("*")):
            part.chmod(0o555 if part.is_dir() else 0o444)
        said = refusals_as_another_user(mine)
        for part in (mine, *mine.rglob("*")):
            part.chmod(0o755 if part.is_dir() else 0o644)
    assert len(said) == 5, said
    assert all("permission denied; choose a folder that you may write to" in x for x in said[:4])
    assert said[4] == "1"


# ------------------------------------------------------------ network file systems

MOUNTS = r"""/dev/sda1 / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/local xfs rw 0 0
//nas/share /mnt/with\040space cifs rw 0 0
me@host: /mnt/ssh fuse.sshfs rw 0 0
gocrypt /mnt/safe fuse.gocryptfs rw 0 0
/dev/sda1 /data ext4 rw 0 0
server:/data /data nfs rw 0 0
C: /mnt/c 9p rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/x", None),
        ("/tmp/x", None),
        ("/home/me/out", "nfs4"),
        ("/home", "nfs4"),
        ("/homes/me", None),
        ("/home/local/out", None),
        ("/mnt/with space/out", "cifs"),
        ("/mnt/ssh/out", "fuse.sshfs"),
        ("/mnt/safe/out", None),
        ("/data/out", "nfs"),
        ("/mnt/c/out", "9p"),
    ],
)
def test_network_file_systems_are_told_from_local_ones(
    tmp_path: Path, path: str, kind: str | None
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert disk.network_filesystem(Path(path), mounts) == kind


def test_without_a_list_of_mounts_nothing_is_known(tmp_path: Path) -> None:
    assert disk.network_filesystem(tmp_path, tmp_path / "absent") is None


def test_a_folder_through_a_link_counts_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\ns:/ {tmp_path / 'far'} nfs rw 0 0\n")
    assert disk.network_filesystem(tmp_path / "near" / "out", mounts) == "nfs"


def test_results_on_a_network_file_system_are_refused_but_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.db"
    with ResultStore(path) as store:
        store.put(FACT)
    before = path.read_bytes()
    monkeypatch.setattr(sqlite, "network_filesystem", lambda _: "nfs4")
    with pytest.raises(UserError, match=r"network file system \(nfs4\).*on a local disk"):
        ResultStore(path)
    with ResultStore(path, read_only=True) as store:
        assert store.rows(FactRow) == [FACT]
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["results.db"]


def test_a_lock_that_is_only_looked_for_can_be_had_over_nfs(tmp_path: Path) -> None:
    file = tmp_path / "a.owner"
    assert disk.acquire(file, wait=False, create=False) is None
    file.touch()
    handle = disk.acquire(file, wait=False, create=False)
    assert handle is not None
    assert fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    os.close(handle)


def test_scratch_on_a_network_file_system_has_to_be_old_to_be_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "network_filesystem", lambda _: "nfs4")
    for name in ("young", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.owner").touch()
    long_ago = time.time() - 2 * scratch.OLD_S
    for path in (tmp_path / "old", tmp_path / "old.owner", tmp_path / "young.owner"):
        os.utime(path, (long_ago, long_ago))
    assert scratch.sweep(tmp_path, remove=True) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["young", "young.owner"]
