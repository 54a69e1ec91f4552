"""Bundles: what is sent arrives, and what somebody made up is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles import contents, manifest, with_database, written
from dlas.cli.app import main
from dlas.core.errors import DlasError, StorageError, UserError
from dlas.run.send import pack
from dlas.store import bundle
from dlas.store.results import FILE_NAME, ResultStore
from dlas.tables.read import read
from table_rows import SENTINEL, SESSION, cell_row, fact, fill, round_row, stack

STUDY = "dlas: 1\nname: st\ngoals: {minimize: [latency_ms]}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = stack()
    rounds = [round_row(made.cell, n, [1.0 + n, 2.0]) for n in range(3)]
    filled = fill(
        tmp_path / "out", SESSION, SENTINEL, cell_row(made), fact(made.cell, "build", {}), *rounds
    )
    (filled / "study.yaml").write_text(STUDY)
    (filled / "store").mkdir()
    (filled / "store" / "large").write_bytes(b"x" * 3_000_000)
    return filled


@pytest.fixture
def packed(folder: Path) -> Path:
    return pack(folder)[0]


def test_the_rows_arrive_and_the_artefacts_stay(folder: Path, packed: Path) -> None:
    assert packed == folder.with_name("out.dlas.zip")
    assert packed.stat().st_size < 100_000
    with ResultStore(packed, read_only=True) as there, ResultStore(folder / FILE_NAME) as here:
        assert there.snapshot() == here.snapshot()
    assert bundle.study_text(packed) == STUDY
    said = bundle.manifest_of(packed)
    assert said["rows"]["rounds"] == 3
    assert said["studies"] == ["st"]
    assert len(said["checksum"]) == 64
    (results,) = read([packed])
    assert results.folder == packed


@pytest.mark.parametrize("command", ["table", "analyze", "report", "compare"])
def test_commands_read_a_bundle_as_they_read_a_folder(
    folder: Path, packed: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [str(packed), str(folder)] if command == "compare" else [str(packed)]
    assert main([command, *both]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    if command == "table":
        assert main([command, str(folder)]) == 0
        assert capsys.readouterr().out == said
    if command in ("analyze", "report"):
        name = {"analyze": "out.findings.json", "report": "out.report.html"}[command]
        assert packed.with_name(name).is_file()


def test_nobody_writes_into_a_bundle(packed: Path) -> None:
    with pytest.raises(UserError, match="results bundle, which is only read"):
        ResultStore(packed)
    with pytest.raises(UserError, match="is a results bundle already"):
        pack(packed)


def test_nothing_is_left_behind(packed: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    with ResultStore(packed, read_only=True) as store:
        assert store.snapshot()
        assert any((tmp_path / "scratch").iterdir())
    assert not any((tmp_path / "scratch").iterdir())


# ------------------------------------------------------------ hostile ones, as test_hostile.py


def refused(path: Path, said: str, kind: type[DlasError] = StorageError) -> None:
    with pytest.raises(kind, match=said) as caught, ResultStore(path, read_only=True) as store:
        store.snapshot()
    assert "\n" not in str(caught.value)
    assert main(["table", str(path)]) == 2


@pytest.mark.parametrize("name", ["/etc/passwd", "a\\..\\b", "store/objects/x", "x/"])
def test_a_file_of_another_name_is_refused(packed: Path, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    hostile = written(packed, {**contents(packed), name: b"x"})
    refused(hostile, "none of the files that a bundle holds")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, hostile])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["files"]["results.sqlite"].update(bytes=1), "manifest lies"),
        (lambda m: m["rows"].pop("cells"), "manifest lies: there are 1 cells for 0"),
        (lambda m: m["files"].update(more={}), "manifest lies: 'more'"),
        (lambda m: m["files"].pop("study.yaml"), "manifest lies: 'study.yaml'"),
        (lambda m: m.update(files=None), "no results bundle, or a damaged one"),
        (lambda m: m.update(rows=[1]), "no results bundle, or a damaged one"),
        (lambda m: m.clear(), "no results bundle, or a damaged one"),
    ],
)
def test_a_manifest_that_lies_is_refused(packed: Path, change, said: str) -> None:
    refused(written(packed, manifest(contents(packed), change)), said)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE VIEW v AS SELECT * FROM cells", "view 'v'"),
        ("UPDATE cells SET status = 'excellent'", "a row of cells is damaged"),
        ("UPDATE cells SET stack = '{'", "a row of cells is damaged"),
        ("UPDATE rounds SET samples = x'00'", "a row of rounds is damaged"),
        ("DROP TABLE rounds", "rounds"),
    ],
)
def test_rows_that_no_dlas_wrote_are_refused(
    packed: Path, tmp_path: Path, statement: str, said: str
) -> None:
    refused(with_database(packed, tmp_path, statement), said)


@pytest.mark.parametrize("data", [b"PK\3\4", b"PK\3\4" + b"x" * 5000])
def test_what_only_begins_like_one_is_refused(packed: Path, data: bytes) -> None:
    packed.write_bytes(data)
    refused(packed, "no results bundle, or a damaged one")


def test_half_of_one_is_refused(packed: Path) -> None:
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    refused(packed, "no results bundle, or a damaged one")
