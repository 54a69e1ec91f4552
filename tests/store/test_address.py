"""Where an output folder's rows are, and that no password gets into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlas.cli.app import main
from dlas.core.errors import StorageError, UserError
from dlas.store.address import address_of, checked_url, holds_rows, place_of, point
from dlas.store.results import ResultStore

URL = "postgresql://lab@db.example/study"


def test_a_folder_keeps_its_rows_in_a_file(tmp_path: Path) -> None:
    file = place_of(tmp_path, None)
    assert file == tmp_path / "results.sqlite"
    point(tmp_path, file)
    assert [*tmp_path.iterdir()] == []
    assert not holds_rows(tmp_path)
    ResultStore(tmp_path / "results.sqlite").close()
    assert holds_rows(tmp_path)
    assert address_of(tmp_path / "results.sqlite") == tmp_path / "results.sqlite"
    with pytest.raises(UserError, match=r"holds results already"):
        place_of(tmp_path, URL)


def test_a_folder_remembers_its_database(tmp_path: Path) -> None:
    wanted = place_of(tmp_path, URL.replace("postgresql", "postgres"))
    assert wanted == URL
    assert not holds_rows(tmp_path)  # it may be mistyped
    point(tmp_path, wanted)
    assert json.loads((tmp_path / "results.json").read_text()) == {"results": URL}
    assert place_of(tmp_path, None) == place_of(tmp_path, URL) == address_of(tmp_path) == URL
    assert holds_rows(tmp_path)
    with pytest.raises(UserError, match=r"are in postgresql://lab@db.example/study"):
        place_of(tmp_path, URL + "2")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://lab:secret@db/study",
        "postgresql://:secret@db/study",
        "postgresql://lab@db/study?password=secret",
        "postgresql://db/study?user=lab&PASSWORD=secret&x=1",
        "postgresql://db/study?%70assword=secret",
        "postgresql://lab:s/e?secret@db/study",
    ],
)
def test_a_password_is_refused_and_not_repeated(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"holds a password.*pgpass") as caught:
        checked_url(url)
    assert "secret" not in str(caught.value)
    (tmp_path / "results.json").write_text(json.dumps({"results": url}))
    assert main(["table", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "secret" not in said.out + said.err


@pytest.mark.parametrize(
    "url", [URL, "postgresql://lab@[::1]:5432/study?sslmode=verify-full&passfile=/x", URL + "?a"]
)
def test_an_address_without_a_password_is_taken_as_it_is(url: str) -> None:
    assert checked_url(url) == url


@pytest.mark.parametrize("url", ["mysql://x/y", "results", "postgresql:/x", "http://a:secret@b"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"must be postgresql://USER@HOST:PORT/DATABASE") as caught:
        checked_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"results": 3}', '{"results": "x"}', "[" * 9999])
def test_a_damaged_note_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(StorageError, match=r"results\.json does not say where the results are"):
        address_of(tmp_path)


def test_without_the_driver_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlas.store.postgres.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"need psycopg; `pip install 'dlas\[cluster\]'`"):
        ResultStore(URL)
