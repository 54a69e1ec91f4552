"""The results of studies: rows in one SQLite file, safe against kills and second processes.

The database is in WAL mode with ``synchronous=FULL``: a transaction is on the disk when ``put``
returns, so neither ``kill -9`` nor a power cut loses it. WAL needs memory shared by all who have
the file open, which a network file system does not give: writing on one is refused.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dlas.core.errors import StorageError, UserError, near
from dlas.store.disk import network_filesystem, storage
from dlas.store.rows import (
    ROWS,
    CeilingRow,
    CellRow,
    FactRow,
    HostRow,
    RoundRow,
    Row,
    SentinelRow,
    SessionRow,
    Stored,
    decode,
    encode,
    types,
)

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection, Engine
    from sqlalchemy.dialects.sqlite import Insert
    from sqlalchemy.sql import ColumnElement

__all__ = [
    "FILE_NAME", "CeilingRow", "CellRow", "FactRow", "HostRow", "ResultStore", "RoundRow", "Row",
    "SentinelRow", "SessionRow",
]  # fmt: skip

FILE_NAME = "results.sqlite"
"""What the file of an output folder is called."""

BUSY_TIMEOUT_S = 60.0
"""How long a write waits for another process's write."""

R = TypeVar("R", bound=Row)

_REFUSALS = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space, then run the same command again",
    sqlite3.SQLITE_READONLY: "it is read-only; choose a folder that you may write to",
    sqlite3.SQLITE_PERM: "permission denied; choose a folder that you may write to",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that the folder exists and is yours",
    sqlite3.SQLITE_IOERR: "the disk refuses (full, over its quota, or broken); free some space or "
    "check the disk, then run the same command again",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy, or move it away and run "
    "again: artefacts are kept, measurements are repeated",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database; move it away or give another folder",
    sqlite3.SQLITE_BUSY: f"another process has been writing for more than {BUSY_TIMEOUT_S:.0f} s; "
    "wait until it ends, or end it",
}


class ResultStore:
    """All that was seen, in one SQLite file.

    Opening creates file and folder and brings an older schema up to date. ``read_only`` changes
    no byte of the file: it reads through a private copy where SQLite itself would have to write
    (a read-only folder, a network file system, an older schema).

    Raises:
        UserError: the schema is newer than this dlas; nothing is there to read; or writing was
            asked for on a network file system.
        StorageError: the disk refuses, or the file is damaged.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._cleanup = ExitStack()
        self._pid = os.getpid()
        if read_only:
            self._engine = self._open_to_read()
        else:
            self._check_folder()
            self._engine = self._open_to_write(path)

    def close(self) -> None:
        """Close the file; the last to close it folds the write-ahead log into it."""
        self._engine.dispose(close=self._pid == os.getpid())
        self._cleanup.close()

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ rows

    def put(self, *rows: Row) -> None:
        """Write rows, replacing those of the same primary key: all of them or none.

        They are on the disk when this returns.

        Raises:
            StorageError: the disk refuses, or another process writes for too long.
            ValueError: a number is not finite.
            TypeError: a field is not of its type.
        """
        encoded: dict[type[Row], list[dict[str, Stored]]] = {}
        for row in rows:  # all before anything is written: one may be refused
            encoded.setdefault(type(row), []).append(encode(row))
        if not encoded:
            return
        with self._transaction("write", write=True) as connection:
            for kind, values in encoded.items():
                connection.execute(_upsert(kind), values)

    def rows(self, kind: type[R], /, **equal: object) -> list[R]:
        """Return the rows whose fields equal the given values, in the order of the primary key.

        A list, tuple or set stands for any of its values.

        Raises:
            TypeError: the rows have no such field.
        """
        with self._transaction("read", write=False) as connection:
            return self._select(connection, kind, equal)

    def snapshot(self) -> dict[type[Row], list[Row]]:
        """Return all rows of every table as they were at one moment."""
        with self._transaction("read", write=False) as connection:
            return {kind: self._select(connection, kind, {}) for kind in ROWS}

    def delete(self, kind: type[Row], /, **equal: object) -> int:
        """Remove the rows whose fields equal the given values; return how many there were.

        Raises:
            ValueError: no field is given: that would remove everything.
            TypeError: the rows have no such field.
            StorageError: the disk refuses.
        """
        if not equal:
            raise ValueError(f"say which {kind.TABLE} to delete")
        from sqlalchemy import delete

        from dlas.store.schema import TABLES

        query = delete(TABLES[kind]).where(*_conditions(kind, equal))
        with self._transaction("write", write=True) as connection:
            return int(connection.execute(query).rowcount)

    def frames(self) -> dict[str, pd.DataFrame]:
        """Return every table as a data frame, JSON columns as Python values."""
        import pandas as pd

        frames = {}
        for kind, rows in self.snapshot().items():
            columns = list(types(kind))
            records = [[getattr(row, c) for c in columns] for row in rows]
            frames[kind.TABLE] = pd.DataFrame(records, columns=columns)
        return frames

    # ------------------------------------------------------------ inside

    def _select(
        self, connection: Connection, kind: type[R], equal: Mapping[str, object]
    ) -> list[R]:
        from sqlalchemy import select

        from dlas.store.schema import TABLES

        table = TABLES[kind]
        query = select(table).where(*_conditions(kind, equal)).order_by(*table.primary_key)
        found = [dict(row) for row in connection.execute(query).mappings()]
        return [self._decoded(kind, row) for row in found]

    def _decoded(self, kind: type[R], stored: Mapping[str, object]) -> R:
        try:
            return decode(kind, stored)
        except (ValueError, TypeError) as error:
            raise StorageError(
                f"{self.path}: a row of {kind.TABLE} is damaged ({error}): restore the file from "
                "a copy, or move it away and run again."
            ) from error

    def _check_folder(self) -> None:
        with storage("create the results in", self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if network := network_filesystem(self.path.parent):
                raise UserError(
                    f"{self.path} is on a network file system ({network}), where SQLite can lose "
                    "or damage results: give an output folder on a local disk."
                )
            for needed in (self.path.parent, self.path):
                if needed.exists() and not os.access(needed, os.W_OK):
                    raise PermissionError(errno.EACCES, "Permission denied", str(needed))

    def _open_to_write(self, file: Path) -> Engine:
        from dlas.store.schema import upgrade

        engine = _engine(file, write=True)
        try:
            with self._refusals("open"), _begin(engine, write=True) as connection:
                upgrade(connection, self.path)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _open_to_read(self) -> Engine:
        if not self.path.is_file():
            raise UserError(f"there are no results in {self.path.parent} (no {self.path.name}).")
        writable = os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
        if not writable or network_filesystem(self.path.parent):
            return self._open_to_write(self._copy_files())
        from dlas.store.schema import is_current

        engine = _engine(self.path, write=False)
        try:
            with self._refusals("read"), _begin(engine, write=False) as connection:
                current = is_current(connection, self.path)
        except BaseException:
            engine.dispose()
            raise
        if current:
            return engine
        engine.dispose()
        return self._open_to_write(self._copy_database())

    def _private_folder(self) -> Path:
        made = tempfile.TemporaryDirectory(prefix="dlas-", ignore_cleanup_errors=True)
        return Path(self._cleanup.enter_context(made))

    def _copy_files(self) -> Path:
        """Copy the file and the log that a killed run left: SQLite cannot open them in place."""
        with storage("copy the results out of", self.path.parent):
            folder = self._private_folder()
            for name in (self.path.name, f"{self.path.name}-wal"):
                source = self.path.with_name(name)
                if source.is_file():
                    shutil.copyfile(source, folder / name)
        return folder / self.path.name

    def _copy_database(self) -> Path:
        """Copy an older database, consistently even while somebody writes to it."""
        with storage("copy the results out of", self.path.parent):
            copy = self._private_folder() / self.path.name
        with (
            self._refusals("copy"),
            closing(sqlite3.connect(_uri(self.path, write=False), uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        return copy

    @contextmanager
    def _transaction(self, doing: str, *, write: bool) -> Iterator[Connection]:
        if write and self.read_only:
            raise StorageError(f"{self.path} was opened for reading only.")
        if self._pid != os.getpid():  # a fork: SQLite connections must not be shared
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        with self._refusals(doing), _begin(self._engine, write=write) as connection:
            yield connection

    @contextmanager
    def _refusals(self, doing: str) -> Iterator[None]:
        """Turn what SQLite refuses for the disk's sake into a StorageError."""
        from sqlalchemy.exc import DBAPIError

        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            code = getattr(cause, "sqlite_errorcode", None)
            why = _REFUSALS.get(code & 0xFF) if isinstance(code, int) else None
            if why is None:
                raise
            raise StorageError(f"cannot {doing} the results in {self.path}: {why}.") from error


def _uri(file: Path, *, write: bool) -> str:
    return f"{file.absolute().as_uri()}?mode={'rwc' if write else 'ro'}"


def _engine(file: Path, *, write: bool) -> Engine:
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import QueuePool

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            _uri(file, write=write),
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,  # transactions begin where we say so, see below
            check_same_thread=False,
        )
        if write:
            _use_wal(connection)
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: waiting for it later could be refused
        writes = connection.get_execution_options().get("dlas_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _begin(engine: Engine, *, write: bool) -> Iterator[Connection]:
    with (
        engine.connect().execution_options(dlas_write=write) as connection,
        connection.begin(),
    ):
        yield connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Set the journal; while another process is doing the same, SQLite refuses without waiting."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    mode = ""
    while not mode:
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StorageError(
            f"this file system cannot hold SQLite's write-ahead log (it offers {mode!r}): "
            "give an output folder on a local disk."
        )
    connection.execute("PRAGMA synchronous=FULL")


def _conditions(kind: type[Row], equal: Mapping[str, object]) -> list[ColumnElement[bool]]:
    from dlas.store.schema import TABLES

    columns = TABLES[kind].columns
    made: list[ColumnElement[bool]] = []
    for name, value in equal.items():
        if name not in columns:
            raise TypeError(f"{kind.__name__} has no field {name!r}.{near(name, columns.keys())}")
        if isinstance(value, (list, tuple, set, frozenset)):
            made.append(columns[name].in_(list(value)))
        else:
            made.append(columns[name] == value)
    return made


_UPSERTS: dict[type[Row], Insert] = {}


def _upsert(kind: type[Row]) -> Insert:
    if kind not in _UPSERTS:  # making one takes longer than running it
        from sqlalchemy.dialects.sqlite import insert

        from dlas.store.schema import TABLES

        statement = insert(TABLES[kind])
        changed = {n: statement.excluded[n] for n in types(kind) if n not in kind.PRIMARY}
        _UPSERTS[kind] = statement.on_conflict_do_update(
            index_elements=list(kind.PRIMARY), set_=changed
        )
    return _UPSERTS[kind]
