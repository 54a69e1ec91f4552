"""The rows of an output folder in one SQLite file.

The database is in WAL mode with ``synchronous=FULL``: a transaction is on the disk when it ends,
so neither ``kill -9`` nor a power cut loses it. WAL needs memory shared by all who have the file
open, which a network file system does not give: writing on one is refused.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dlas.core.errors import StorageError, UserError
from dlas.store.disk import network_filesystem, storage

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table
    from sqlalchemy.dialects.sqlite import Insert

T = TypeVar("T")

FILE_NAME = "results.sqlite"
"""What the file of an output folder is called."""
BUSY_TIMEOUT_S = 60.0
"""How long a write waits for another process's write."""

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


class SqliteFile:
    """A database that is one file, open to read or to write.

    ``read_only`` changes no byte of it: it is read through a private copy where SQLite itself
    would have to write (a read-only folder, a network file system, an older schema). ``called``:
    what messages are to call it.

    Raises:
        UserError: the schema is newer than this dlas; nothing is there to read; or writing was
            asked for on a network file system.
        StorageError: the disk refuses, or the file is damaged.
    """

    def __init__(self, path: Path, *, read_only: bool = False, called: Path | None = None) -> None:
        self.path = path
        self.called = called or path
        self._cleanup = ExitStack()
        self._pid = os.getpid()
        if read_only:
            self._engine = self._open_to_read()
        else:
            self._check_folder()
            self._engine = self._open_to_write(path)

    @property
    def place(self) -> str:
        """What messages call it."""
        return str(self.called)

    def close(self) -> None:
        """Close the file; the last to close it folds the write-ahead log into it."""
        self._engine.dispose(close=self._pid == os.getpid())
        self._cleanup.close()

    def run(self, doing: str, work: Callable[[Connection], T], *, write: bool) -> T:
        """Return what a piece of work says that is done in one transaction."""
        if self._pid != os.getpid():  # a fork: SQLite connections must not be shared
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        with self._refusals(doing), _begin(self._engine, write=write) as connection:
            return work(connection)

    def insert(self, table: Table) -> Insert:
        """Return an insert that can be told what to do where the row is there."""
        from sqlalchemy.dialects.sqlite import insert

        return insert(table)

    # ------------------------------------------------------------ opening

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
                self._require_tables(connection)
                upgrade(connection, self.called)
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
        from dlas.store.schema import is_current, version_of

        engine = _engine(self.path, write=False)
        try:
            with self._refusals("read"), _begin(engine, write=False) as connection:
                self._require_tables(connection)
                current = is_current(version_of(connection, self.called), self.called)
        except BaseException:
            engine.dispose()
            raise
        if current:
            return engine
        engine.dispose()
        return self._open_to_write(self._copy_database())

    def _require_tables(self, connection: Connection) -> None:
        """Refuse a file with programs in it: they would run when rows are read or written.

        Raises:
            StorageError: names one.
        """
        query = "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view') LIMIT 1"
        for kind, name in connection.exec_driver_sql(query):
            raise StorageError(
                f"{self.called} is no dlas result store (it holds the {kind} {name!r}): "
                "give another folder."
            )

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
            raise StorageError(f"cannot {doing} the results in {self.called}: {why}.") from error


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
        connection.execute("PRAGMA trusted_schema=OFF")
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
