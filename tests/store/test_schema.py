from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from dlas.core.errors import UserError
from dlas.core.records import SCHEMA_VERSION
from dlas.store import schema
from dlas.store.results import CeilingRow, CellRow, FactRow, ResultStore

# What a database would look like whose facts still kept their reason and their log in one column.
BEFORE = """
ALTER TABLE facts RENAME TO facts_now;
CREATE TABLE facts (cell TEXT NOT NULL, host TEXT NOT NULL, kind TEXT NOT NULL, said TEXT,
                    PRIMARY KEY (cell, host, kind));
DROP TABLE facts_now;
INSERT INTO facts VALUES ('c', 'h', 'build', 'reason: and the log');
UPDATE meta SET schema_version = {old};
"""


def split_said(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE facts RENAME TO old"))
    schema.TABLES[FactRow].create(connection)
    connection.execute(
        text(
            "INSERT INTO facts SELECT cell, host, kind, '', NULL, 'failed', '',"
            " substr(said, 1, instr(said, ':') - 1), substr(said, instr(said, ':') + 2),"
            " '{}', '', '', 1 FROM old"
        )
    )
    connection.execute(text("DROP TABLE old"))


def nothing(connection: Connection) -> None:
    """A version that changed no table."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "results.db"
    ResultStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(BEFORE.format(old=SCHEMA_VERSION - 2))
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute("SELECT schema_version FROM meta").fetchone()[0]
    return found


def test_an_older_database_is_brought_up_to_date(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {SCHEMA_VERSION - 2: split_said, SCHEMA_VERSION - 1: nothing}
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    with ResultStore(old) as store:
        [row] = store.rows(FactRow)
    assert (row.reason, row.log) == ("reason", "and the log")
    assert version(old) == SCHEMA_VERSION


def test_reading_migrates_a_private_copy(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {SCHEMA_VERSION - 2: split_said, SCHEMA_VERSION - 1: nothing}
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    before = old.read_bytes()
    with ResultStore(old, read_only=True) as store:
        assert [r.reason for r in store.rows(FactRow)] == ["reason"]
    assert old.read_bytes() == before
    assert version(old) == SCHEMA_VERSION - 2


def test_a_migration_that_fails_changes_nothing(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(connection: Connection) -> None:
        connection.execute(text("DROP TABLE cells"))
        raise RuntimeError("no")

    steps = {SCHEMA_VERSION - 2: split_said, SCHEMA_VERSION - 1: fails}
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    with pytest.raises(RuntimeError, match="no"):
        ResultStore(old)
    assert version(old) == SCHEMA_VERSION - 2
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT said FROM facts").fetchall() == [
            ("reason: and the log",)
        ]
        assert connection.execute("SELECT count(*) FROM cells").fetchone() == (0,)


def test_a_version_with_no_way_up_is_refused(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", {SCHEMA_VERSION - 1: nothing})
    with pytest.raises(UserError, match=r"no way from version.*the dlas that wrote it"):
        ResultStore(old)
    assert version(old) == SCHEMA_VERSION - 2


def test_every_known_version_has_a_way_up() -> None:
    assert set(schema.MIGRATIONS) == set(range(1, SCHEMA_VERSION))


def test_every_row_has_its_table_and_primary_key() -> None:
    for kind, table in schema.TABLES.items():
        assert tuple(c.name for c in table.primary_key) == kind.PRIMARY
    assert schema.TABLES[CellRow].name == "cells"


def test_results_of_the_first_version_get_a_table_of_ceilings(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    ResultStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        [now] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'ceilings'")
        connection.executescript(
            "DROP TABLE ceilings; ALTER TABLE cells DROP COLUMN dropped;"
            "UPDATE meta SET schema_version = 1;"
        )
    row = CeilingRow("s", "h", "memory", "cpu", "", "", "start", 1, "native", 9.5)
    with ResultStore(path) as store:
        store.put(row)
        assert store.rows(CeilingRow) == [row]
    with closing(sqlite3.connect(path)) as connection:
        [made] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'ceilings'")
    assert "".join(made[0].split()) == "".join(now[0].split())


def test_results_of_the_second_version_have_no_cell_that_was_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    row = CellRow("st", "c", 0, {}, "d", "m", "o", "a", "s", "h")
    with ResultStore(path) as store:
        store.put(row)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "ALTER TABLE cells DROP COLUMN dropped; UPDATE meta SET schema_version = 2;"
        )
    with ResultStore(path, read_only=True) as store:
        assert store.rows(CellRow) == [row]
    assert version(path) == 2
    with ResultStore(path) as store:
        assert store.rows(CellRow) == [row]
