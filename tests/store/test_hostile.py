"""What somebody may hand to dlas to do harm: each is refused in the sentence that the docs give.

The list is the one of docs/together.md, name by name. Nothing is written outside of the folders
that are dlas's to write, and no program that comes along is run.
"""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import stat
import uuid
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundles import contents, manifest, with_database, written
from dlas.cli.app import main
from dlas.core.errors import DlasError
from dlas.core.records import Outcome, Status
from dlas.run.engines import wire
from dlas.run.send import pack
from dlas.store.artifacts import ArtifactStore
from dlas.store.remote import Remote
from dlas.store.shared_store import SharedStore
from table_rows import SENTINEL, SESSION, cell_row, fact, fill, round_row, stack

pytest.importorskip("fsspec", reason="pip install 'dlas[cluster]'")

DOCS = Path(__file__).parents[2] / "docs" / "together.md"
UP = "../" * 6 + "up"
SECRET = "s3cr3t-of-the-lab"


@dataclass(frozen=True)
class Bait:
    """Where a case may build, and what a program that comes along would make."""

    folder: Path
    canary: Path

    def pickle(self) -> bytes:
        """Return a pickle that makes a folder when it is read as one."""
        return pickle.dumps(_Trap(str(self.canary)))

    # ------------------------------------------------------------ what honest people have

    def store(self) -> tuple[ArtifactStore, str]:
        """Return a folder of artefacts with one step, ``k``, and the hash of what it yielded."""
        made = ArtifactStore(self.folder / "cache")
        return made, _committed(made)

    def shared(self) -> tuple[SharedStore, Remote, str]:
        """Return the store of another machine with one step, and the hash of what it yielded."""
        url = f"memory://{uuid.uuid4().hex}/store"
        content = _committed(SharedStore(url, self.folder / "theirs"))
        return SharedStore(url, self.folder / "cache"), Remote(url), content

    def results(self) -> Path:
        """Return a folder with rows and a study."""
        made = stack()
        rounds = [round_row(made.cell, n, [1.0 + n, 2.0]) for n in range(3)]
        rows = (SESSION, SENTINEL, cell_row(made), fact(made.cell, "build", {}), *rounds)
        filled = fill(self.folder / "rows", *rows)
        (filled / "study.yaml").write_text("dlas: 1\nname: st\n")
        return filled

    def packed(self) -> Path:
        """Return those as a bundle."""
        return pack(self.results())[0]

    def study(self, **changed: Any) -> Path:
        layers = {"dataset": ["digits"], "model": ["resnet-8"], "software": ["pytorch"]}
        path = self.folder / "study.yaml"
        path.write_text(yaml.safe_dump({"dlas": 1, "name": "s", "layers": layers, **changed}))
        return path


class _Trap:
    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.canary,)


def _committed(store: ArtifactStore) -> str:
    folder = store.scratch()
    (folder / "a").write_text("one")
    content = store.commit("k", "build", folder, {}, 0).content
    assert content is not None
    return content


Act = list[str] | Callable[[], object]
"""A command, or a call."""
CASES: dict[str, Callable[[Bait], Act]] = {}


def case(name: str) -> Callable[[Callable[[Bait], Act]], Callable[[Bait], Act]]:
    def add(made: Callable[[Bait], Act]) -> Callable[[Bait], Act]:
        assert name not in CASES
        CASES[name] = made
        return made

    return add


# ---------------------------------------------------------------- artefacts and records


def _named(bait: Bait, files: Any) -> Act:
    here, remote, content = bait.shared()
    remote.write(f"objects/{content}/manifest.json", json.dumps({"files": files}).encode())
    return lambda: here.path(content)


@case("an artefact with `../` in a name")
def _(bait: Bait) -> Act:
    return _named(bait, {UP: "0" * 64})


@case("an artefact with an absolute path")
def _(bait: Bait) -> Act:
    return _named(bait, {str(bait.canary): "0" * 64})


@case("an artefact whose manifest lists no files")
def _(bait: Bait) -> Act:
    return _named(bait, 3)


@case("an artefact whose manifest names other files than there are")
def _(bait: Bait) -> Act:
    return _named(bait, {"b": "0" * 64})


@case("an artefact with other bytes than its hash says")
def _(bait: Bait) -> Act:
    here, remote, content = bait.shared()
    remote.write(f"objects/{content}/files/a", b"two")
    return lambda: here.path(content)


@case("an artefact that would fill the disk")
def _(bait: Bait) -> Act:
    here, _, content = bait.shared()
    here.remote.size = lambda name: 10**15  # type: ignore[method-assign]
    return lambda: here.path(content)


def _instead(bait: Bait, put: Callable[[Path], object]) -> Act:
    """Put something in place of a file of an artefact."""
    store, content = bait.store()
    file = store.path(content) / "a"
    file.unlink()
    put(file)
    return lambda: ArtifactStore(store.root).path(content)


@case("a link in an artefact")
def _(bait: Bait) -> Act:
    same = bait.folder / "same"
    same.write_text("one")  # the very same bytes, for now
    return _instead(bait, lambda file: file.symlink_to(same))


@case("a hard link in an artefact, to a file of somebody's")
def _(bait: Bait) -> Act:
    return _instead(bait, lambda file: file.hardlink_to(bait.canary.with_name("kept")))


@case("a device, socket or pipe in an artefact")
def _(bait: Bait) -> Act:
    return _instead(bait, os.mkfifo)


@case("a record of another step")
def _(bait: Bait) -> Act:
    here, remote, _ = bait.shared()
    remote.write("steps/other.json", remote.read("steps/k.json") or b"")
    return lambda: here.get("other")


@case("a record whose artefact is a path")
def _(bait: Bait) -> Act:
    store, _ = bait.store()
    file = store.root / "steps" / "k.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "content": UP}))
    return lambda: store.get("k")


@case("a pickle in place of a record")
def _(bait: Bait) -> Act:
    here, remote, _ = bait.shared()
    here.fail("p", "build", Outcome(Status.FAILED, reason="no"), 1)
    remote.write("steps/p.json", bait.pickle())
    return lambda: here.get("p")


@case("a store of an unknown format")
def _(bait: Bait) -> Act:
    url = f"memory://{uuid.uuid4().hex}/store"
    Remote(url).write("dlas-artifacts.json", b'{"format": 99}')
    return lambda: SharedStore(url, bait.folder / "cache")


# ---------------------------------------------------------------- bundles


def _repacked(
    bait: Bait, more: Mapping[str, bytes], kinds: dict[str, int] | None = None
) -> list[str]:
    packed = bait.packed()
    return ["table", str(written(packed, {**contents(packed), **more}, kinds))]


def _told(bait: Bait, change: Callable[[dict[str, Any]], object]) -> list[str]:
    packed = bait.packed()
    return ["table", str(written(packed, manifest(contents(packed), change)))]


@case("a bundle with a path outside")
def _(bait: Bait) -> Act:
    return _repacked(bait, {UP: b"x"})


@case("a bundle with a link in it")
def _(bait: Bait) -> Act:
    return _repacked(bait, {"study.yaml": b"/etc/passwd"}, {"study.yaml": stat.S_IFLNK})


@case("a bundle with a device in it")
def _(bait: Bait) -> Act:
    return _repacked(bait, {}, {"study.yaml": stat.S_IFCHR})


@case("a bundle that is a bomb")
def _(bait: Bait) -> Act:
    return _repacked(bait, {"results.sqlite": b"\0" * 50_000_000})


@case("a bundle with a file larger than it says")
def _(bait: Bait) -> Act:
    packed = bait.packed()
    data = bytearray(packed.read_bytes())
    at = data.rindex(b"results.sqlite") - 46  # its entry in the list at the end
    assert data[at : at + 4] == b"PK\1\2"
    data[at + 24 : at + 28] = (100).to_bytes(4, "little")
    packed.write_bytes(data)
    return ["table", str(packed)]


@case("a bundle with a file twice")
def _(bait: Bait) -> Act:
    packed = bait.packed()
    with zipfile.ZipFile(packed, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("study.yaml", "other")
    return ["table", str(packed)]


@case("a bundle whose manifest lies about rows")
def _(bait: Bait) -> Act:
    return _told(bait, lambda m: m["rows"].update(rounds=4))


@case("a bundle whose manifest lies about a checksum")
def _(bait: Bait) -> Act:
    return _told(bait, lambda m: m["files"]["results.sqlite"].update(sha256="0" * 64))


@case("a bundle of an unknown version")
def _(bait: Bait) -> Act:
    return _told(bait, lambda m: m.update(bundle=99))


@case("a pickle in place of a bundle's manifest")
def _(bait: Bait) -> Act:
    return _repacked(bait, {"manifest.json": bait.pickle()})


# ---------------------------------------------------------------- rows


@case("rows of a newer schema")
def _(bait: Bait) -> Act:
    hostile = with_database(bait.packed(), bait.folder, "UPDATE meta SET schema_version = 99")
    return ["table", str(hostile)]


@case("rows with a program in them")
def _(bait: Bait) -> Act:
    trigger = "CREATE TRIGGER t AFTER INSERT ON cells BEGIN DELETE FROM rounds; END"
    return ["table", str(with_database(bait.packed(), bait.folder, trigger))]


def foreign_database(bait: Bait, table: str) -> Path:
    """Return a folder of results whose database holds one table, that of somebody else."""
    folder = bait.folder / "rows"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "results.sqlite")) as connection:
        connection.execute(f'CREATE TABLE "{table}" (x)')
    return folder


@case("a SQLite file that is no database of ours")
def _(bait: Bait) -> Act:
    return ["table", str(foreign_database(bait, "accounts"))]


@case("names that would drive the terminal")
def _(bait: Bait) -> Act:
    return ["table", str(foreign_database(bait, "\x1b]0;title\x07"))]


@case("a row under another cell's name")
def _(bait: Bait) -> Act:
    lie = fill(
        bait.folder / "lie", SESSION, replace(cell_row(stack(sparsity=0.5)), cell=stack().cell)
    )
    return ["merge", str(bait.results()), str(lie), "--into", str(bait.folder / "both")]


@case("a pickle in place of a folder's address")
def _(bait: Bait) -> Act:
    folder = bait.folder / "rows"
    folder.mkdir()
    (folder / "results.json").write_bytes(bait.pickle())
    return ["table", str(folder)]


# ---------------------------------------------------------------- what is typed, and studies


def _run(bait: Bait, *more: str) -> list[str]:
    return ["run", str(bait.study()), "--out", str(bait.folder / "out"), *more]


WORKERS = ["workers", "--scheduler", "dask://127.0.0.1"]


@case("a label with shell characters")
def _(bait: Bait) -> Act:
    return [*WORKERS, "--labels", f"big;mkdir {bait.canary}"]


@case("a label with a newline")
def _(bait: Bait) -> Act:
    return [*WORKERS, "--labels", "big\nadmin"]


@case("a label with NUL in a study")
def _(bait: Bait) -> Act:
    layers = {"dataset": ["digits"], "model": ["resnet-8"], "software": ["pytorch"],
              "hardware": [{"cpu": {"on": "big\0"}}]}  # fmt: skip
    study = bait.study(layers=layers)
    return ["run", str(study), "--out", str(bait.folder / "out")]


@case("a machine's name with path parts")
def _(bait: Bait) -> Act:
    return [*WORKERS, "--name", UP]


@case("a study's name with path parts")
def _(bait: Bait) -> Act:
    return ["run", str(bait.study(name=UP)), "--out", str(bait.folder / "out")]


@case("a study with a program in it")
def _(bait: Bait) -> Act:
    path = bait.study()
    with path.open("a") as file:
        file.write(f"folder: !!python/object/apply:os.mkdir [{bait.canary}]\n")
    return ["run", str(path), "--out", str(bait.folder / "out")]


@case("a scheduler's address of another scheme")
def _(bait: Bait) -> Act:
    return _run(bait, "--engine", "ssh://127.0.0.1:22")


@case("a scheduler that others reach, without TLS")
def _(bait: Bait) -> Act:
    return ["scheduler", "--host", "0.0.0.0"]


@case("a password in a scheduler's address")
def _(bait: Bait) -> Act:
    return _run(bait, "--engine", f"dask://lab:{SECRET}@127.0.0.1:8786")


@case("a password in a database's address")
def _(bait: Bait) -> Act:
    return _run(bait, "--results", f"postgresql://lab:{SECRET}@db/study")


@case("a password in disguise in a database's address")
def _(bait: Bait) -> Act:
    return _run(bait, "--results", f"postgresql://db/study?user=lab&p%61ssword={SECRET}")


@case("a password in a store's address")
def _(bait: Bait) -> Act:
    return _run(bait, "--store", f"s3://key:{SECRET}@bucket/lab")


# ---------------------------------------------------------------- the checks


def listed_in_docs() -> dict[str, str]:
    """Return what the docs list, and the sentence for each; `...` stands for anything."""
    lines = DOCS.read_text(encoding="utf-8").partition("| what comes | what is said |")[2]
    rows = [line.strip("| ").split(" | ") for line in lines.partition("\n\n")[0].splitlines()[2:]]
    return {name: said.strip("`") for name, said in rows}


def test_the_docs_list_what_is_tried() -> None:
    assert [*listed_in_docs()] == [*CASES]
    assert len(CASES) >= 20


@pytest.fixture
def bait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bait:
    monkeypatch.setattr(wire, "find_spec", lambda name: object())
    folder = tmp_path / "ours"
    for each in (folder, folder / "scratch", tmp_path / "theirs"):
        each.mkdir()
    (tmp_path / "theirs" / "kept").write_text("as it was")
    monkeypatch.setattr("tempfile.tempdir", str(folder / "scratch"))
    return Bait(folder, tmp_path / "theirs" / "canary")


def said_to(act: Act, capfd: pytest.CaptureFixture[str]) -> str:
    """Return the sentence that a command ends with, or a call raises."""
    capfd.readouterr()
    if isinstance(act, list):
        assert main(act) == 2
        shown = capfd.readouterr()
        assert SECRET not in shown.out
        return shown.err.strip()
    with pytest.raises(DlasError) as caught:
        act()
    return str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_a_sentence(
    bait: Bait, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    act = CASES[name](bait)
    said = said_to(act, capfd)
    assert said.isprintable()
    assert SECRET not in said
    parts = listed_in_docs()[name].split("...")
    at = 0
    for part in parts:  # in this order
        assert part in said[at:], said
        at = said.index(part, at) + len(part)
    theirs = bait.canary.parent
    assert {p.name: p.read_text() for p in theirs.iterdir()} == {"kept": "as it was"}
    assert {p.name for p in theirs.parent.iterdir()} == {"ours", "theirs"}
    assert [*theirs.parent.rglob("up")] == []
    for file in bait.folder.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
