"""A step's records: numbers only grow, and of two that commit the same number one wins."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from dlas.core.errors import StorageError
from dlas.core.records import Outcome, Status
from dlas.store.artifacts import ArtifactStore, Overtaken
from dlas.store.generations import NONE

FAILED = Outcome(Status.FAILED, reason="no")


def filled(store: ArtifactStore, text: str) -> Path:
    folder = store.scratch()
    (folder / "a").write_text(text)
    return folder


def names(store: ArtifactStore) -> list[str]:
    steps = store.root / "steps"
    return sorted(p.relative_to(steps).as_posix() for p in steps.rglob("*.json"))


def format_of(store: ArtifactStore) -> int:
    return int(json.loads((store.root / "dlas-artifacts.json").read_text())["format"])


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def test_a_step_committed_again_gets_a_new_record(store: ArtifactStore) -> None:
    assert store.generation("k") == NONE
    first = store.commit("k", "build", filled(store, "one"), {}, 0)
    assert (first.generation, store.generation("k"), format_of(store)) == (0, 0, 1)
    second = store.commit("k", "build", filled(store, "two"), {}, 0)
    third = store.fail("k", "build", FAILED, 1)
    assert (second.generation, third.generation) == (1, 2)
    assert store.get("k") == third
    assert names(store) == ["k.json", "k/1.json", "k/2.json"]
    assert format_of(store) == 2  # an older dlas would take the first for the newest
    assert ArtifactStore(store.root).get("k") == third


def test_what_an_older_dlas_wrote_is_generation_0(store: ArtifactStore) -> None:
    made = store.commit("k", "build", filled(store, "one"), {}, 0)
    assert "generation" not in json.loads((store.root / "steps" / "k.json").read_text())
    assert store.get("k") == made


def test_who_comes_second_is_told_and_its_work_is_gone(store: ArtifactStore) -> None:
    base = store.generation("k")
    winner = store.commit("k", "build", filled(store, "quick"), {}, 0, after=base)
    late = filled(store, "late")
    with pytest.raises(Overtaken):
        store.commit("k", "build", late, {}, 0, after=base)
    with pytest.raises(Overtaken):
        store.fail("k", "build", FAILED, 1, after=base)
    assert store.get("k") == winner
    assert not late.exists()
    assert [p.name for p in (store.root / "objects").iterdir()] == [winner.content]
    assert list((store.root / "tmp").glob("*/*")) == []


def test_a_forgotten_step_is_a_generation(store: ArtifactStore) -> None:
    made = store.commit("k", "build", filled(store, "one"), {}, 0)
    assert made.content is not None
    assert store.discard(made.content) == ("k",)
    assert store.get("k") is None
    assert store.generation("k") == 1
    with pytest.raises(Overtaken):  # by one that slept since before the first
        store.commit("k", "build", filled(store, "late"), {}, 0, after=NONE)
    again = store.commit("k", "build", filled(store, "two"), {}, 0)
    assert again.generation == 2
    assert store.forget("k")
    assert not store.forget("k")
    assert store.get("k") is None


def test_clean_keeps_the_newest_record(store: ArtifactStore) -> None:
    for text in ("one", "two", "three"):
        kept = store.commit("k", "build", filled(store, text), {}, 0)
        store.commit("gone", "build", filled(store, text), {}, 0)
    report = store.clean(["k"])
    assert (report.objects, report.steps) == (2, 1)
    assert names(store) == ["k/2.json"]
    assert not (store.root / "steps" / "gone").exists()
    assert store.get("k") == kept
    assert store.commit("k", "build", filled(store, "four"), {}, 0).generation == 3


def test_the_newest_of_every_step_is_listed(store: ArtifactStore) -> None:
    for _ in range(11):
        store.fail("many", "build", FAILED, 1)
    store.fail("once", "build", FAILED, 1)
    listed = {
        key: file.relative_to(store.root).as_posix() for key, file in store.records().items()
    }
    assert listed == {"many": "steps/many/10.json", "once": "steps/once.json"}


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_without_hard_links_the_first_still_wins(store: ArtifactStore, code: int) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, "no links here")

    with patch("os.link", refuse):
        first = store.fail("k", "build", FAILED, 1, after=NONE)
        with pytest.raises(FileExistsError):
            from dlas.store.disk import write_first

            write_first(
                store.root / "steps" / "k.json", "x", store.root / "tmp" / "x", store.root / "lock"
            )
    assert store.get("k") == first


def test_a_full_disk_leaves_nothing_half_done(store: ArtifactStore) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with patch("os.link", refuse), pytest.raises(StorageError, match=r"disk is full"):
        store.commit("k", "build", filled(store, "one"), {}, 0)
    assert store.get("k") is None
    assert names(store) == []


def _race(root: Path, barrier: Any, number: int) -> None:
    store = ArtifactStore(root)
    for turn in range(25):
        folder = store.scratch()
        (folder / "a").write_text(f"{number} {turn}")
        barrier.wait()
        try:
            store.commit("k", "build", folder, {"by": number}, 0, after=turn - 1)
            (root.parent / f"won-{turn}-{number}").touch()
        except Overtaken:
            pass
        barrier.wait()


def test_each_generation_is_committed_once(store: ArtifactStore) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    racers = [context.Process(target=_race, args=(store.root, barrier, n)) for n in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * 3
    won = [p.name.split("-") for p in store.root.parent.glob("won-*")]
    assert sorted(int(turn) for _, turn, _ in won) == list(range(25))
    assert store.generation("k") == 24
    for _, turn, number in won:
        file = store.root / "steps" / ("k.json" if turn == "0" else f"k/{turn}.json")
        assert json.loads(file.read_text())["info"] == {"by": int(number)}


# ------------------------------------------------------------ what others may have put there


def _of_another(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "key": "other"}


def _outside(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "content": "../../etc"}


def _without_object(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "content": None}


def _strange_info(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "info": ["needs"]}


def _strange_status(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "status": "excellent"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_of_another, "of the step 'other'"),
        (_outside, r"'\.\./\.\./etc' is no hash"),
        (_without_object, "complete and its artefact is None"),
        (_strange_info, "info is no mapping"),
        (_strange_status, "excellent"),
        (lambda said: [said], "list indices"),
        (lambda said: {**said, "more": 1}, "more"),
    ],
)
def test_a_record_that_no_dlas_writes_is_refused(store: ArtifactStore, change, said) -> None:
    store.commit("k", "build", filled(store, "one"), {}, 0)
    file = store.root / "steps" / "k.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(StorageError, match=f"k.json is damaged.*{said}"):
        store.get("k")


def test_a_record_nested_without_end_is_refused(store: ArtifactStore) -> None:
    (store.root / "steps" / "k.json").write_text("[" * 200_000)
    with pytest.raises(StorageError, match=r"k.json is damaged"):
        store.get("k")


@pytest.mark.parametrize("where", ["file", "folder", "files"])
def test_a_link_in_an_object_is_refused(store: ArtifactStore, tmp_path: Path, where: str) -> None:
    made = store.commit("k", "build", filled(store, "one"), {}, 0)
    assert made.content is not None
    files = store.path(made.content)
    moved = tmp_path / "elsewhere"
    target = {"file": files / "a", "folder": files.parent, "files": files}[where]
    target.rename(moved)
    target.symlink_to(moved)  # the very same bytes, for now
    with pytest.raises(StorageError, match=r"is damaged.*link"):
        ArtifactStore(store.root).path(made.content)


def test_what_is_no_plain_file_is_not_read(store: ArtifactStore) -> None:
    store.fail("good", "build", FAILED, 1)
    steps = store.root / "steps"
    os.mkfifo(steps / "pipe.json")
    (steps / "link.json").symlink_to(steps / "good.json")
    (steps / "._good.json").write_bytes(b"\0\5\26\7")  # as macOS leaves on other file systems
    (steps / "._folder").mkdir()
    (steps / ".DS_Store").touch()
    assert [*store.records()] == ["good"]
    for name in ("pipe", "link"):
        with pytest.raises(
            StorageError, match=rf"{name}\.json is damaged \(it is no plain file\)"
        ):
            store.get(name)
    (steps / "good").mkdir()
    os.mkfifo(steps / "good" / "1.json")
    with pytest.raises(StorageError, match=r"1\.json is damaged \(it is no plain file\)"):
        store.get("good")


def test_an_object_that_is_no_plain_folder_is_not_read(store: ArtifactStore) -> None:
    content = store.commit("k", "build", filled(store, "one"), {}, 0).content
    assert content is not None
    manifest = store.root / "objects" / content / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(StorageError, match=r"manifest\.json of the artefact is neither file nor"):
        ArtifactStore(store.root).path(content)
