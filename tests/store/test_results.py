from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlas.core.errors import StorageError, UserError
from dlas.core.records import SCHEMA_VERSION, Status
from dlas.store.results import (
    CeilingRow,
    CellRow,
    FactRow,
    HostRow,
    ResultStore,
    RoundRow,
    SentinelRow,
    SessionRow,
)

ROUND = RoundRow(
    cell="c1", host="h", control=0, round=1, key="k", content="x", status=Status.COMPLETE,
    stage="measure", value={"steady": True, "cpus": [1]}, samples=(0.1, 1 / 3, 1e-300),
    session="s", position=4, created_at="2026-01-01T00:00:00+00:00", overhead_s=0.25, attempts=2,
)  # fmt: skip
FACT = FactRow("c1", "h", "build", "k", None, Status.FAILED, "build", "no é", "log", {"a": [1]})
CELL = CellRow("st", "c1", 0, {"a": 1}, "d", "m", "o", "a", "s", "hw")
EXAMPLES = [
    HostRow("h", {"cpu": "x", "cores": 2, "nothing": None}),
    SessionRow("s", "st", "h", "2026-01-01", None, "dlas run", "0.1.0", {"rounds": 3}, {"t": "2"}),
    CELL,
    FACT,
    ROUND,
    SentinelRow("s", 1, 10, 0.0123, "2026-01-01T00:00:01+00:00"),
    CeilingRow("s", "h", "memory", "cpu", "", "", "start", 1, "native", 9.5, "", "add", {"mb": 1}),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "results.db"


@pytest.mark.parametrize("row", EXAMPLES, ids=lambda r: type(r).__name__)
def test_a_row_comes_back_as_it_was(path: Path, row: Any) -> None:
    with ResultStore(path) as store:
        store.put(row)
    with ResultStore(path, read_only=True) as store:
        assert store.rows(type(row)) == [row]


def test_rows_of_one_key_replace_each_other(path: Path) -> None:
    with ResultStore(path) as store:
        store.put(*EXAMPLES)
        store.put(replace(ROUND, samples=(1.0,)), replace(ROUND, samples=(2.0,), overhead_s=None))
        store.put(replace(ROUND, round=2), replace(ROUND, control=1), replace(ROUND, host="g"))
        store.put()
        found = store.rows(RoundRow)
    assert [(r.host, r.control, r.round) for r in found] == [
        ("g", 0, 1), ("h", 0, 1), ("h", 0, 2), ("h", 1, 1),
    ]  # fmt: skip
    assert found[1].samples == (2.0,)
    assert found[1].overhead_s is None


def test_of_two_that_insert_the_same_round_the_first_counts(path: Path) -> None:
    fact = replace(FACT, kind="observe", session="s")
    late = replace(ROUND, session="other", samples=(9.0,))
    with ResultStore(path) as store, ResultStore(path) as woken:
        assert store.insert(ROUND, fact)
        assert not woken.insert(late, replace(fact, session="other"))
        assert store.rows(RoundRow) == [ROUND]
        assert store.rows(FactRow) == [fact]
        # ours, told twice: a connection broke after the commit
        assert store.insert(replace(ROUND, value={"steady": True, "cpus": (1,)}))
        assert not woken.amend(late)
        assert store.rows(RoundRow) == [ROUND]


def test_a_session_amends_its_own_round(path: Path) -> None:
    with ResultStore(path) as store:
        assert not store.amend(ROUND)  # it is not there
        store.insert(replace(ROUND, overhead_s=None))
        assert store.amend(ROUND, FACT)
        assert store.rows(RoundRow) == [ROUND]
        assert store.rows(FactRow) == [FACT]


def test_rows_are_chosen_by_their_fields(path: Path) -> None:
    with ResultStore(path) as store:
        store.put(*[replace(FACT, kind=k, cell=c) for k in "ab" for c in ("1", "2", "3")])
        assert len(store.rows(FactRow, kind="a")) == 3
        assert [r.kind for r in store.rows(FactRow, cell=("1", "3"))] == ["a", "b", "a", "b"]
        assert store.rows(FactRow, kind="a", cell="2") == [replace(FACT, kind="a", cell="2")]
        assert store.rows(FactRow, status=Status.COMPLETE) == []
        assert len(store.rows(FactRow, status=Status.FAILED)) == 6
        assert store.rows(FactRow, cell=[]) == []
        with pytest.raises(TypeError, match=r"no field 'cel'.*Did you mean 'cell'"):
            store.rows(FactRow, cel="1")


def test_delete_says_how_many(path: Path) -> None:
    with ResultStore(path) as store:
        store.put(*[replace(ROUND, round=n) for n in range(5)])
        assert store.delete(RoundRow, round=[1, 2, 9]) == 2
        assert store.delete(RoundRow, round=1) == 0
        assert [r.round for r in store.rows(RoundRow)] == [0, 3, 4]
        with pytest.raises(ValueError, match="say which rounds"):
            store.delete(RoundRow)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (replace(FACT, value={"a": {"b": [1.0, math.nan]}}), r"FactRow\.value: "),
        (replace(FACT, value={"a": math.inf}), r"FactRow\.value: "),
        (replace(ROUND, samples=(1.0, math.nan)), r"RoundRow\.samples"),
        (replace(ROUND, overhead_s=math.inf), r"RoundRow\.overhead_s"),
        (replace(EXAMPLES[5], seconds=math.nan), r"SentinelRow\.seconds"),
    ],
)
def test_what_is_not_finite_is_refused_and_nothing_written(
    path: Path, row: Any, said: str
) -> None:
    with ResultStore(path) as store:
        with pytest.raises(ValueError, match=said):
            store.put(CELL, row)
        assert store.rows(CellRow) == []


@pytest.mark.parametrize(
    "row",
    [
        replace(FACT, value={"a": object()}),
        replace(FACT, value=[1]),
        replace(FACT, cell=3),
        replace(FACT, attempts=1.5),
        replace(CELL, log=None),
    ],
)
def test_what_is_of_another_type_is_refused(path: Path, row: Any) -> None:
    with ResultStore(path) as store:
        with pytest.raises(TypeError, match=type(row).__name__):
            store.put(CELL, row)
        assert store.rows(CellRow) == []


def test_frames_hold_every_table(path: Path) -> None:
    with ResultStore(path) as store:
        store.put(*EXAMPLES, replace(ROUND, round=2, overhead_s=None))
        frames = store.frames()
    assert list(frames) == [
        "hosts", "sessions", "cells", "facts", "rounds", "sentinels", "ceilings",
    ]  # fmt: skip
    assert [len(f) for f in frames.values()] == [1, 1, 1, 1, 2, 1, 1]
    rounds = frames["rounds"]
    assert list(rounds["samples"]) == [ROUND.samples] * 2
    assert rounds["value"][0] == ROUND.value
    assert rounds["overhead_s"][0] == 0.25
    assert math.isnan(rounds["overhead_s"][1])
    assert frames["facts"]["status"][0] == "failed"


def test_the_import_needs_no_sqlalchemy_and_no_pandas() -> None:
    code = (
        "import sys, dlas.store.results, dlas.store.artifacts;"
        "print({'sqlalchemy', 'pandas', 'numpy', 'torch'} & set(sys.modules))"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said.strip() == "set()"


# ------------------------------------------------------------ opening


def test_a_newer_schema_is_refused(path: Path) -> None:
    ResultStore(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE meta SET schema_version = 99")
    for read_only in (False, True):
        with pytest.raises(UserError, match=r"schema version 99.*Upgrade dlas"):
            ResultStore(path, read_only=read_only)


def test_another_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE accounts (x)")
    for read_only in (False, True):
        with pytest.raises(StorageError, match=r"no dlas result store.*accounts"):
            ResultStore(path, read_only=read_only)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("accounts",)]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON cells BEGIN DELETE FROM rounds; END", "trigger 't'"),
        ("CREATE VIEW v AS SELECT * FROM cells", "view 'v'"),
    ],
)
def test_a_file_with_programs_in_it_is_refused(path: Path, statement: str, said: str) -> None:
    ResultStore(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    for read_only in (False, True):
        with pytest.raises(StorageError, match=f"no dlas result store.*{said}"):
            ResultStore(path, read_only=read_only)


def test_what_is_no_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("not a database at all " * 100)
    for read_only in (False, True):
        with pytest.raises(StorageError, match=r"results\.db: the file is no SQLite database"):
            ResultStore(path, read_only=read_only)


def test_a_damaged_file_is_named(path: Path) -> None:
    with ResultStore(path) as store:
        store.put(*[replace(ROUND, round=n, samples=(1.0,) * 500) for n in range(50)])
    data = bytearray(path.read_bytes())
    data[4096 * 2 :] = b"\xff" * (len(data) - 4096 * 2)
    path.write_bytes(data)
    with (
        pytest.raises(StorageError, match=r"results\.db: the file is damaged"),
        ResultStore(path) as store,
    ):
        store.rows(RoundRow)


def test_there_must_be_something_to_read(path: Path) -> None:
    with pytest.raises(UserError, match="there are no results"):
        ResultStore(path, read_only=True)
    assert not path.parent.exists()


def test_reading_only_writes_nothing(path: Path) -> None:
    with ResultStore(path) as store:
        store.put(CELL)
    with ResultStore(path, read_only=True) as store:
        assert store.rows(CellRow) == [CELL]
        with pytest.raises(StorageError, match="reading only"):
            store.put(CELL)
        with pytest.raises(StorageError, match="reading only"):
            store.delete(CellRow, cell="c1")


def test_readers_see_what_a_writer_put(path: Path) -> None:
    with ResultStore(path) as writer, ResultStore(path, read_only=True) as reader:
        for number in range(5):
            writer.put(replace(ROUND, round=number))
            assert len(reader.rows(RoundRow)) == number + 1


def test_it_is_in_wal_mode_and_fully_synchronous(path: Path) -> None:
    asked = ["PRAGMA journal_mode", "PRAGMA synchronous", "SELECT schema_version FROM meta"]
    with ResultStore(path) as store:
        said = store._run(
            "read", lambda c: [c.exec_driver_sql(each).scalar() for each in asked], write=False
        )
    assert said == ["wal", 2, SCHEMA_VERSION]


def test_a_fork_may_go_on_using_it(path: Path) -> None:
    with ResultStore(path) as store:
        store.put(CELL)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                store.put(ROUND)
                store.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        store.put(FACT)
        assert (len(store.rows(CellRow)), len(store.rows(RoundRow))) == (1, 1)


# ------------------------------------------------------------ processes and kills

WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from dlas.records import Status
from dlas.store.results import FactRow, ResultStore, RoundRow
first, cell, stop = int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
with ResultStore(Path(sys.argv[1])) as store:
    for n in range(first, stop):
        row = RoundRow(cell, "h", 0, n, f"k{n}", None, Status.COMPLETE, samples=(float(n),) * 300)
        fact = FactRow(cell, "h", f"fact-{n}", "k", None, Status.COMPLETE, value={"n": n})
        store.put(row, fact)
        print(n, flush=True)
"""


def writer(path: Path, first: int, cell: str, stop: int = 10**9) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first), cell, str(stop)],
        stdout=subprocess.PIPE,
        text=True,
    )


def intact(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_kills_at_any_moment_lose_and_damage_nothing(path: Path) -> None:
    done = -1
    for turn in range(10):
        process = writer(path, done + 1, "c")
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.007 * turn)
        process.send_signal(signal.SIGKILL)
        lines = (first + process.stdout.read()).splitlines(keepends=True)
        process.wait()
        done = max([done, *(int(line) for line in lines if line.endswith("\n"))])
        with ResultStore(path) as store:
            rounds = store.rows(RoundRow)
            assert [r.round for r in rounds][: done + 1] == list(range(done + 1))
            assert all(r.samples == (float(r.round),) * 300 for r in rounds)
            # a put is one transaction: never a round without its fact
            assert {f.value["n"] for f in store.rows(FactRow)} == {r.round for r in rounds}
            done = rounds[-1].round
        intact(path)
    assert done >= 10


def test_kills_while_opening_leave_a_usable_file(path: Path) -> None:
    for turn in range(8):
        process = writer(path, turn, "c", turn + 1)
        time.sleep(0.25 + 0.03 * turn)
        process.kill()
        process.communicate()
    with ResultStore(path) as store:
        store.put(CELL)
        assert store.rows(CellRow) == [CELL]
    intact(path)


def test_two_processes_write_at_once(path: Path) -> None:
    processes = [writer(path, 0, f"c{n}", 40) for n in range(3)]
    said = [p.communicate()[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0, 0]
    assert [len(s.split()) for s in said] == [40, 40, 40]
    with ResultStore(path, read_only=True) as store:
        assert len(store.rows(RoundRow)) == 120
    intact(path)
