"""The rows of output folders in a PostgreSQL database, for several machines and people.

Each transaction that reads sees the database as it was at one moment (REPEATABLE READ). A write
whose connection broke is done again for some minutes: a server that is started anew costs time and
no row. Passwords are libpq's affair (``PGPASSWORD``, ``~/.pgpass``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from dlas.core.errors import StorageError, UserError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table
    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

PATIENCE_S = 300.0
"""How long a server that does not answer is waited for."""
_PAUSE_S = 0.5
_UPGRADING = 0x646C6173
"""The advisory lock that whoever brings the tables up to date holds: "dlas" in ASCII."""
_CONNECT_S = 10


class Postgres:
    """A database of a PostgreSQL server.

    Raises:
        UserError: the driver is not installed, the address is none, the schema is newer than this
            dlas, or nothing is there to read.
        StorageError: the server refuses, or does not answer.
    """

    def __init__(
        self, url: str, *, read_only: bool = False, patience_s: float = PATIENCE_S
    ) -> None:
        if find_spec("psycopg") is None:
            raise UserError(
                f"{url}: results in PostgreSQL need psycopg; `pip install 'dlas[cluster]'`"
            )
        self.place = url
        self.patience_s = patience_s
        self._pid = os.getpid()
        self._reached = False
        self._engine = _engine(url)
        try:
            self._open(read_only)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connections; those of a process that forked us are left to it."""
        self._engine.dispose(close=self._pid == os.getpid())

    def run(self, doing: str, work: Callable[[Connection], T], *, write: bool) -> T:
        """Return what a piece of work says that is done in one transaction.

        It is done again where the server went away meanwhile.
        """
        from sqlalchemy.exc import DBAPIError

        if self._pid != os.getpid():  # a fork: connections must not be shared
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        until = time.monotonic() + self.patience_s
        level = "READ COMMITTED" if write else "REPEATABLE READ"
        while True:
            try:
                with self._engine.connect() as connection:
                    connection.execution_options(isolation_level=level)
                    self._reached = True
                    with connection.begin():
                        return work(connection)
            except DBAPIError as error:
                if not _passes(error, self._reached) or time.monotonic() > until:
                    raise self._refused(doing, error) from error
            self._engine.dispose()
            time.sleep(_PAUSE_S)

    def insert(self, table: Table) -> Insert:
        """Return an insert that can be told what to do where the row is there."""
        from sqlalchemy.dialects.postgresql import insert

        return insert(table)

    # ------------------------------------------------------------ inside

    def _open(self, read_only: bool) -> None:
        from sqlalchemy import text

        from dlas.store.schema import is_current, upgrade, version_of

        def look(connection: Connection) -> bool:
            found = version_of(connection, self.place)
            if found is None and read_only:
                raise UserError(f"there are no results in {self.place}.")
            return is_current(found, self.place)

        def bring_up_to_date(connection: Connection) -> None:
            # of several who come at once, one does it and the others find it done
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADING})
            upgrade(connection, self.place)

        if self.run("open", look, write=False):
            return
        if read_only:
            raise UserError(
                f"{self.place} was written by an older dlas; `dlas run` with this one brings it "
                "up to date."
            )
        self.run("bring up to date", bring_up_to_date, write=True)

    def _refused(self, doing: str, error: DBAPIError) -> StorageError:
        """Return what the server refused as a sentence."""
        said = str(error.orig).strip().splitlines()
        return StorageError(
            f"cannot {doing} the results in {self.place}: {said[0] if said else error}. See to "
            "the server, then run the same command again."
        )


def _engine(url: str) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError

    driver = "postgresql+psycopg" + url.removeprefix("postgresql")
    try:
        return create_engine(
            driver,
            pool_pre_ping=True,
            connect_args={"connect_timeout": _CONNECT_S, "application_name": "dlas"},
        )
    except (ArgumentError, ValueError) as error:  # the latter: a port that is no number
        raise UserError(
            f"--results {url}: must be postgresql://USER@HOST:PORT/DATABASE ({error})"
        ) from error


_FINAL = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf")
_UNKNOWN = ("Name or service not known", "nodename nor servname", "No address associated")
"""Of a name that was mistyped; one that was known may be known again."""


def _passes(error: DBAPIError, reached: bool) -> bool:
    """Whether a refusal may pass: nobody answers (yet), or two were in each other's way."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(("08", "57P", "40"))
    # libpq could not connect, or lost the connection: of what it says only the words are known
    lost = type(error).__name__ == "OperationalError" or error.connection_invalidated
    final = _FINAL if reached else (*_FINAL, *_UNKNOWN)
    return lost and not any(words in str(error.orig) for words in final)
