"""A store of several machines, here in memory: two caches are two machines."""

from __future__ import annotations

import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from dlas.core.errors import StorageError, UserError
from dlas.core.records import Outcome, Status
from dlas.store import remote as remotes
from dlas.store.artifacts import ArtifactStore, DamagedObject, Overtaken
from dlas.store.generations import NONE
from dlas.store.leases import VARIABLE
from dlas.store.remote import Remote
from dlas.store.shared_store import SharedStore, artifact_store, shared_place

pytest.importorskip("fsspec", reason="pip install 'dlas[cluster]'")
FAILED = Outcome(Status.FAILED, reason="no")


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, "0.5")
    return f"memory://{uuid.uuid4().hex}/store"


@pytest.fixture
def here(url: str, tmp_path: Path) -> SharedStore:
    return SharedStore(url, tmp_path / "here")


@pytest.fixture
def there(url: str, tmp_path: Path) -> SharedStore:
    return SharedStore(url, tmp_path / "there")


def filled(store: ArtifactStore, **files: str) -> Path:
    folder = store.scratch()
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_what_one_machine_makes_another_reads(here: SharedStore, there: SharedStore) -> None:
    made = here.commit("k", "build", filled(here, a="one", deep__b="two"), {"x": 1}, 2.5)
    assert made.content is not None
    assert there.get("k") == made
    assert there.has(made.content)
    assert (there.path(made.content) / "deep" / "b").read_text() == "two"
    assert not there.has("0" * 64)
    assert there.get("none") is None


def test_the_layout_is_that_of_a_folder(here: SharedStore, url: str) -> None:
    made = here.commit("k", "build", filled(here, a="one"), {}, 0)
    here.fail("k", "build", FAILED, 1)
    names = Remote(url).names("")
    assert names == sorted(
        [
            "dlas-artifacts.json", f"objects/{made.content}/files/a",
            f"objects/{made.content}/manifest.json", "steps/k.json", "steps/k/1.json",
        ]
    )  # fmt: skip


def test_of_two_machines_one_commits(here: SharedStore, there: SharedStore) -> None:
    assert there.generation("k") == NONE
    first = here.commit("k", "build", filled(here, a="quick"), {}, 0, after=NONE)
    with pytest.raises(Overtaken):
        there.commit("k", "build", filled(there, a="late"), {}, 0, after=NONE)
    with pytest.raises(Overtaken):
        there.fail("k", "build", FAILED, 1, after=NONE)
    assert there.get("k") == first
    assert there.commit("k", "build", filled(there, a="next"), {}, 0, after=0).generation == 1


def test_a_forgotten_step_is_forgotten_everywhere(here: SharedStore, there: SharedStore) -> None:
    made = here.commit("k", "build", filled(here, a="one"), {}, 0)
    assert made.content is not None
    there.path(made.content)
    assert there.discard(made.content) == ("k",)
    assert here.get("k") is None
    assert not there.has(made.content)
    assert here.generation("k") == 1


def test_a_damaged_copy_is_fetched_again(here: SharedStore, there: SharedStore) -> None:
    made = here.commit("k", "build", filled(here, a="one"), {}, 0)
    assert made.content is not None
    file = there.path(made.content) / "a"
    file.chmod(0o644)
    file.write_text("changed")
    fresh = SharedStore(there.remote.url, there.root)
    assert (fresh.path(made.content) / "a").read_text() == "one"


# ------------------------------------------------------------ leases


def test_a_lease_is_waited_for_and_handed_on(here: SharedStore, there: SharedStore) -> None:
    seen: list[str] = []

    def other() -> None:
        with there.lock("k"):
            seen.append("there")

    with here.lock("k"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(1.2)  # longer than a lease: it is renewed
        seen.append("here")
    thread.join(timeout=20)
    assert seen == ["here", "there"]


def test_a_lease_that_nobody_renews_runs_out(here: SharedStore, url: str) -> None:
    Remote(url).create("locks/k.lease/0", b'{"beat": "of one who is gone"}')
    with here._leases.hold("k") as number:
        assert number == 1
    with here._leases.hold("k") as number:
        assert number == 2


# ------------------------------------------------------------ refused, as test_hostile.py


def changed(url: str, content: str, files: Any) -> None:
    text = json.dumps({"files": files}).encode()
    Remote(url).write(f"objects/{content}/manifest.json", text)


@pytest.mark.parametrize("name", ["a/../../b", "a\\..\\b", "", "./a", "a//b", "nul\0"])
def test_names_that_leave_the_folder_are_refused(
    here: SharedStore, there: SharedStore, url: str, tmp_path: Path, name: str
) -> None:
    made = here.commit("k", "build", filled(here, a="one"), {}, 0)
    assert made.content is not None
    changed(url, made.content, {name: "0" * 64})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DamagedObject, match=r"is refused: it names"):
        there.path(made.content)
    assert [p for p in sorted(tmp_path.rglob("*")) if "tmp" not in p.parts] == [
        p for p in before if "tmp" not in p.parts
    ]


@pytest.mark.parametrize("files", [None, [], 3, {"a": "0" * 64}, {"a": "0" * 64, "b": "1" * 64}])
def test_a_manifest_that_lies_is_refused(
    here: SharedStore, there: SharedStore, url: str, files: Any
) -> None:
    made = here.commit("k", "build", filled(here, a="one"), {}, 0)
    assert made.content is not None
    changed(url, made.content, files)
    with pytest.raises(DamagedObject, match=r"refused|damaged|missing"):
        there.path(made.content)
    assert not (there.root / "objects" / made.content).exists()
    assert list((there.root / "tmp").glob("*/*")) == []


def test_an_object_is_fetched_with_the_manifest_that_was_checked(
    here: SharedStore, there: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = here.commit("k", "build", filled(here, a="one"), {}, 0)
    assert made.content is not None
    asked: list[str] = []
    real = there.remote.read
    monkeypatch.setattr(there.remote, "read", lambda name: (asked.append(name), real(name))[1])
    there.path(made.content)
    assert asked == [f"objects/{made.content}/manifest.json"]


def test_only_generations_are_counted(here: SharedStore, url: str) -> None:
    first = here.fail("k", "build", FAILED, 1)
    for name in ("7", "x.json", "8.json.part", "9/1.json"):
        Remote(url).write(f"steps/k/{name}", b"{}")
    assert here.get("k") == first


def test_other_bytes_under_the_same_name_are_refused(
    here: SharedStore, there: SharedStore, url: str
) -> None:
    made = here.commit("k", "build", filled(here, a="one"), {}, 0)
    assert made.content is not None
    Remote(url).write(f"objects/{made.content}/files/a", b"two")
    with pytest.raises(DamagedObject, match=r"a was changed"):
        there.path(made.content)
    assert there.discard(made.content) == ("k",)


def test_a_newer_store_is_refused(url: str, tmp_path: Path) -> None:
    Remote(url).write("dlas-artifacts.json", b'{"format": 99}')
    with pytest.raises(UserError, match=r"format 99.*upgrade"):
        SharedStore(url, tmp_path)
    Remote(url).write("dlas-artifacts.json", b"[" * 10000)
    with pytest.raises(StorageError, match=r"damaged"):
        SharedStore(url, tmp_path)


def test_what_needs_to_be_alone_is_refused(here: SharedStore) -> None:
    with pytest.raises(UserError, match=r"shared by several machines: cleaning is refused"):
        here.clean([])
    with pytest.raises(UserError, match=r"--max-disk"):
        shared_place(here.remote.url, Path("out"), 1000)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://host/x", "must be a folder, or s3://BUCKET/PREFIX"),
        ("s3://", "must be a folder, or s3://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/x", "holds a password"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        artifact_store(address, tmp_path)
    assert "secret" not in str(caught.value)


# ------------------------------------------------------------ a store that cannot be used


class Overwriting:
    """A file system that writes whatever is there, as S3 servers without If-None-Match do."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite") -> None:
        self.inner.pipe_file(path, data)


def test_a_store_that_overwrites_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SharedStore(url, tmp_path / "here")
    before = Remote(url).names("")
    real = remotes._opened

    def opened(address: str) -> tuple[Any, str]:
        inner, root = real(address)
        return Overwriting(inner), root

    monkeypatch.setattr(remotes, "_opened", opened)
    with pytest.raises(UserError, match=r"overwrites files that are to be created once"):
        SharedStore(url, tmp_path / "there")
    assert Remote(url).names("") == before


class NoCredentialsError(Exception):
    """As botocore calls its own."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoCredentialsError("Unable to locate credentials"), "Unable to locate credentials. See"),
        (FileNotFoundError("The specified bucket does not exist"), "bucket does not exist. See"),
    ],
)
def test_what_waiting_does_not_mend_is_said_at_once(url: str, error: Exception, said: str) -> None:
    remote = Remote(url)

    class Refusing:
        def pipe_file(self, *_: Any, **__: Any) -> None:
            raise error

    remote._fs = Refusing()
    began = time.monotonic()
    for write in (remote.write, remote.create):
        with pytest.raises(StorageError, match=rf"cannot (write|create) memory://.*/x: .*{said}"):
            write("x", b"")
    assert time.monotonic() - began < 10


def test_credentials_that_were_there_may_come_back(url: str) -> None:
    remote = Remote(url)
    remote.write("x", b"one")
    inner, refusals = remote._fs, [NoCredentialsError("Unable to locate credentials")] * 2

    class Flickering:
        def cat_file(self, path: str) -> bytes:
            if refusals:
                raise refusals.pop()
            return bytes(inner.cat_file(path))

    remote._fs = Flickering()
    assert remote.read("x") == b"one"


class ClientError(Exception):
    """As botocore calls what a store answers."""

    def __init__(self, code: str) -> None:
        self.response = {"Error": {"Code": code}}


def test_a_store_that_is_not_amazons_says_in_its_words_that_a_file_is_there(url: str) -> None:
    remote = Remote(url)

    class Other:
        def pipe_file(self, *_: Any, **__: Any) -> None:
            raise OSError(5, "at least one of the conditions") from ClientError(
                "PreconditionFailed"
            )

    remote._fs = Other()
    assert not remote.create("x", b"")


# ------------------------------------------------------------ a store that does not answer


class Flaky:
    """A file system that refuses some calls, and some after it has carried them out."""

    def __init__(self, inner: Any, before: int, after: int) -> None:
        self.inner, self.before, self.after = inner, before, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.inner, name)

        def call(*args: Any, **more: Any) -> Any:
            if self.before:
                self.before -= 1
                raise OSError(5, "internal error")
            said = real(*args, **more)
            if self.after:
                self.after -= 1
                raise ConnectionError("no answer")
            return said

        return call


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2), (1, 1)])
def test_a_refusal_that_passes_costs_time_only(url: str, before: int, after: int) -> None:
    remote = Remote(url)
    remote._fs = Flaky(remote._fs, before, after)
    assert remote.create("x", b"ours")  # also where it was taken and the answer was lost
    remote._fs = Flaky(remote._fs.inner, before, after)
    assert remote.read("x") == b"ours"
    assert not Remote(url).create("x", b"theirs")


def test_a_refusal_that_lasts_is_a_sentence(url: str) -> None:
    remote = Remote(url, patience_s=0.3)
    remote._fs = Flaky(remote._fs, 10**6, 0)
    with pytest.raises(StorageError, match=r"cannot write memory://.*/x: .*internal error.*again"):
        remote.write("x", b"")


def test_many_steps_are_listed_at_once_and_few_are_asked_for(here: SharedStore) -> None:
    store = here
    store.commit("done", "build", filled(store, a="x"), {}, 0)
    many = [f"step{n}" for n in range(200)]
    asked: list[str] = []
    exists = store.remote.exists

    def seen(name: str) -> bool:
        asked.append(name)
        return exists(name)

    store.remote.exists = seen  # type: ignore[method-assign]
    assert store.perhaps_done([*many, "done"]) == {"done"}
    assert asked == []
    assert store.perhaps_done(["few"]) == ["few"]
