"""Results in PostgreSQL: the same rows, the same tables, whatever happens to the server."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlas.cli.app import main
from dlas.core.errors import StorageError, UserError
from dlas.core.records import SCHEMA_VERSION, Status
from dlas.run.merge import merge
from dlas.run.send import pack
from dlas.store.address import point
from dlas.store.postgres import Postgres as Database
from dlas.store.results import (
    CeilingRow,
    CellRow,
    FactRow,
    HostRow,
    ResultStore,
    RoundRow,
    Row,
)
from place import place as made_place
from table_rows import HOST, SENTINEL, SESSION, cell_row, fact, fill, round_row, stack

ODD = [
    "NUL \0 in it", "\0", "\\0", "\uf8ff0\uf8ff1", "é 漢字 \U0001f600", "'; DROP TABLE cells; --",
    "", " ", "line\nline\r\n\ttab", "%s %(x)s :name", "{}",
]  # fmt: skip
STACKS = [stack(), stack(0.5), stack(threads=2), stack(0.25, software="onnxruntime")]


def study_rows() -> list[Row]:
    """Return rows of a study, its texts such that locales would sort them in other ways."""
    host = HostRow(HOST, {"cpu": "x", "odd": ODD})
    ceiling = CeilingRow("s1", HOST, "memory", "cpu", "", "", "start", 1, "native", 9.5)
    rows: list[Row] = [host, replace(SESSION, ended_at="2026", note=ODD[0]), SENTINEL, ceiling]
    names = ["study B", "Study a", "étude", "_x"]
    for at, (each, name) in enumerate(zip(STACKS, names, strict=True)):
        rows.append(cell_row(each, at, reason=ODD[at], log="end\0of the log"))
        rows.append(cell_row(each, at, study=name))
        value = {"params": 2**40 + at, "a": -0.0, "b": 1e-300, "c": 0.1 + 0.2, "odd": ODD}
        rows.append(fact(each.cell, "build", value, reason="\0"))
        for n, jitter in enumerate((0.0, 0.013, 0.007)):
            took = 1 / 3 + at + (1 + at) * jitter
            rows.append(round_row(each.cell, n, [took, took + 0.001]))
            rows.append(round_row(each.cell, n, [took * 1.004], control=1))
    return rows


def test_rows_come_back_as_from_sqlite(database: str, tmp_path: Path) -> None:
    rows = study_rows()
    fill(tmp_path, *rows)
    random.Random(1).shuffle(rows)
    with ResultStore(database) as store:
        store.put(*rows)
    with (
        ResultStore(database, read_only=True) as there,
        ResultStore(tmp_path / "results.sqlite") as here,
    ):
        assert there.snapshot() == here.snapshot()
        assert sum(map(len, there.snapshot().values())) == len(rows)


@pytest.mark.parametrize("number", [2**31, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_integers_have_64_bits(database: str, number: int) -> None:
    with ResultStore(database) as store:
        store.put(replace(cell_row(STACKS[0]), position=number))
        assert store.rows(CellRow, position=number)[0].position == number


@pytest.mark.parametrize("text", ODD)
def test_any_text_is_kept_and_found(database: str, text: str) -> None:
    row = replace(fact("c", "build", {"t": text}), log=text, reason=text, kind=text)
    with ResultStore(database) as store:
        store.put(row)
        assert store.rows(FactRow, kind=text) == [row]
        assert store.delete(FactRow, reason=text) == 1


def test_the_same_rows_give_the_same_tables_byte_for_byte(
    database: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    rows = study_rows()
    fill(tmp_path / "a" / "out", *rows)
    there = tmp_path / "b" / "out"
    there.mkdir(parents=True)
    random.Random(2).shuffle(rows)
    point(there, database)
    with ResultStore(database) as store:
        store.put(*rows)
    shown: dict[str, list[bytes]] = {}
    for place in ("a", "b"):
        folder = str(tmp_path / place / "out")
        for more in ([], ["--rounds"], ["--controls"], ["--columns", "all"]):
            for form in ("csv", "json", "text"):
                capfdbinary.readouterr()
                assert main(["table", folder, *more, "--format", form]) == 0
                said = capfdbinary.readouterr().out.replace(folder.encode(), b"DIR")
                shown.setdefault(f"{more} {form}", []).append(said)
        assert main(["table", folder, "--format", "parquet", "-o", f"{folder}.parquet"]) == 0
        assert main(["analyze", folder, "--format", "json", "-o", f"{folder}.json"]) == 0
    assert all(one == two and one for one, two in shown.values())
    for suffix in ("parquet", "json"):
        one, two = ((tmp_path / p / f"out.{suffix}").read_bytes() for p in ("a", "b"))
        assert one.replace(b"/a/", b"/b/") == two


def test_a_snapshot_is_of_one_moment(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ResultStore(database) as reader, ResultStore(database) as writer:
        writer.put(cell_row(STACKS[0]))
        select = reader._select

        def meddled(connection: Any, kind: type[Row], equal: Any) -> Any:
            found = select(connection, kind, equal)
            if kind is CellRow:  # the first tables are read, the others are not
                writer.put(cell_row(STACKS[1]), fact(STACKS[1].cell, "build", {}))
            return found

        monkeypatch.setattr(reader, "_select", meddled)
        seen = reader.snapshot()
        assert (len(seen[CellRow]), seen[FactRow]) == (1, [])
        monkeypatch.undo()
        assert len(reader.snapshot()[FactRow]) == 1


def test_several_who_come_at_once_make_the_tables_once(database: str) -> None:
    def open_and_write(number: int) -> None:
        with ResultStore(database) as store:
            store.put(replace(cell_row(STACKS[0]), study=str(number)))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(open_and_write, range(8)))
    with ResultStore(database, read_only=True) as store:
        assert len(store.rows(CellRow)) == 8
        versions = store._run(
            "read", lambda c: c.exec_driver_sql("SELECT * FROM meta").scalars().all(), write=False
        )
    assert versions == [SCHEMA_VERSION]


def test_of_two_machines_that_measure_a_round_the_first_counts(database: str) -> None:
    row = round_row("c", 0, [1.0])
    with ResultStore(database) as one, ResultStore(database) as two:
        seen = fact("c", "observe", {"precision": "float32"})
        assert one.insert(row, seen)
        late = replace(seen, session="other", value={"precision": "int8"})
        assert not two.insert(replace(row, session="other", samples=(9.0,)), late)
        assert two.rows(FactRow) == [seen]
        assert not two.amend(replace(row, session="other"))
        assert one.amend(replace(row, overhead_s=2.0))
        assert [r.overhead_s for r in two.rows(RoundRow)] == [2.0]


WRITER = """
import sys
from dataclasses import replace
from dlas.store.results import ResultStore
sys.path.insert(0, sys.argv[2])
from table_rows import round_row
with ResultStore(sys.argv[1]) as store:
    for n in range(10**6):
        assert store.insert(round_row("c", n, [1.0]))
        print(n, flush=True)
"""


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_server_that_is_started_anew_costs_time_and_no_row(
    postgres: Any, database: str, how: str
) -> None:
    fakes = str(Path(__file__).parent.parent / "fakes")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, database, fakes],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert writer.stdout is not None
        read = writer.stdout.readline
        while int(read()) < 20:
            pass
        postgres.stop(how)
        time.sleep(1)
        postgres.start()
        at = int(read())
        while int(read()) < at + 40:
            pass
    finally:
        writer.kill()
        said, wrong = writer.communicate()
    assert wrong == ""
    last = max(
        [at, *(int(line) for line in said.splitlines(keepends=True) if line.endswith("\n"))]
    )
    with ResultStore(database, read_only=True) as store:
        there = [row.round for row in store.rows(RoundRow)]
    assert there[: last + 1] == list(range(last + 1))


def test_a_server_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"cannot open the results in postgresql://x@127.*again"
    ):
        Database("postgresql://x@127.0.0.1:9/none", patience_s=0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("lab@", "nobody-such@"), 'role "nobody-such" does not exist'),
        (lambda url: url + "x", "does not exist"),
    ],
)
def test_what_waiting_does_not_mend_is_said_at_once(
    database: str, change: Callable[[str], str], said: str
) -> None:
    with pytest.raises(StorageError, match=said):
        Database(change(database), patience_s=3600)


def test_an_address_that_is_wrong_is_not_remembered(
    database: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = str(made_place(tmp_path).study())
    for url in (database + "x", "postgresql://lab@127.0.0.1:abc/study"):
        assert main(["run", study, "--out", str(tmp_path / "out"), "--results", url]) == 2
        assert url in capfd.readouterr().err
        assert not (tmp_path / "out" / "results.json").exists()


def test_what_is_no_database_of_ours_is_refused(database: str) -> None:
    with pytest.raises(UserError, match=r"there are no results in postgresql"):
        ResultStore(database, read_only=True)
    ResultStore(database).close()
    with ResultStore(database) as store:
        store._run(
            "write", lambda c: c.exec_driver_sql("UPDATE meta SET schema_version = 99"), write=True
        )
    for read_only in (False, True):
        with pytest.raises(UserError, match=r"newer dlas: schema version 99"):
            ResultStore(database, read_only=read_only)


def test_a_database_of_others_is_left_alone(database: str) -> None:
    import psycopg

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE accounts (x int)")
    for read_only in (False, True):
        with pytest.raises(StorageError, match=r"no dlas result store.*accounts"):
            ResultStore(database, read_only=read_only)


def test_merge_and_pack_read_a_database(database: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    rows = [row for row in study_rows() if not isinstance(row, CellRow) or row.study == "st"]
    point(one, database)
    with ResultStore(database) as store:
        store.put(*rows)
        there = store.snapshot()
    with ResultStore(pack(one)[0], read_only=True) as store:
        assert store.snapshot() == there
    fill(two, cell_row(STACKS[0], status=Status.PENDING))
    merge([one, two], tmp_path / "both")
    with ResultStore(tmp_path / "both" / "results.sqlite") as store:
        assert store.snapshot() == there


def test_claims_are_after_the_rounds_that_a_database_holds(database, tmp_path):
    """A new folder that keeps its rows in a filled database registers nothing beforehand."""
    from dlas.study.study import Study
    from dlas.tables.claims_file import read_claims
    from dlas.tables.for_claims import register_claims

    path = tmp_path / "claims.yaml"
    path.write_text(
        "dlas-claims: 1\nname: n\nclaims:\n"
        "  - {id: a, claim: c, test: 'changes_winner(model, by=software) in every dataset'}\n"
    )
    study = Study.load(Path(__file__).parents[2] / "studies" / "algorithms.yaml")
    (told,) = register_claims(study, tmp_path / "a", [read_claims(path)], database)
    assert "before anything was measured" in told
    with ResultStore(database) as store:
        store.put(round_row("cell", 0, (1.0, 1.1)))
    (told,) = register_claims(study, tmp_path / "b", [read_claims(path)], database)
    assert "WRITTEN AFTERWARDS" in told and "when 1 rounds had been measured" in told
