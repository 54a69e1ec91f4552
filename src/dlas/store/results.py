"""The results of studies: rows, safe against kills and second processes.

They are in one SQLite file in the output folder (sqlite.py), or, for several machines and people,
in a PostgreSQL database (postgres.py) that the folder names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dlas.core.errors import StorageError, near
from dlas.store.address import opened
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
from dlas.store.sqlite import FILE_NAME

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection, Table
    from sqlalchemy.sql import ColumnElement

__all__ = [
    "FILE_NAME", "CeilingRow", "CellRow", "FactRow", "HostRow", "ResultStore", "RoundRow", "Row",
    "SentinelRow", "SessionRow",
]  # fmt: skip

R = TypeVar("R", bound=Row)
T = TypeVar("T")


class Database(Protocol):
    """What keeps the rows."""

    @property
    def place(self) -> str:
        """What messages call it."""

    def run(self, doing: str, work: Callable[[Connection], T], *, write: bool) -> T:
        """Return what a piece of work says that is done in one transaction: wholly or not at all.

        It may be done again where a connection breaks.
        """

    def insert(self, table: Table) -> Any:
        """Return an insert that can be told what to do where the row is there."""

    def close(self) -> None:
        """End all connections."""


class ResultStore:
    """All that was seen, in one database.

    Opening creates a file and its folder and brings an older schema up to date. ``read_only``
    changes nothing, neither in a file nor in a database.

    Raises:
        UserError: the schema is newer than this dlas; nothing is there to read; or writing was
            asked for on a network file system.
        StorageError: the disk refuses, the file is damaged, or the database does not answer.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._database: Database = opened(path, read_only=read_only)
        self._upserts: dict[type[Row], Any] = {}

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ writing

    def put(self, *rows: Row) -> None:
        """Write rows, replacing those of the same primary key: all of them or none.

        They are on the disk when this returns.

        Raises:
            StorageError: the disk refuses, or another process writes for too long.
            ValueError: a number is not finite.
            TypeError: a field is not of its type.
        """
        encoded = _encoded(rows)
        if not encoded:
            return
        self._run("write", lambda connection: self._put(connection, encoded), write=True)

    def insert(self, row: Row, *beside: Row) -> bool:
        """Write a row that nobody has written yet, and those beside it; return whether it was.

        False: there is one of the same primary key, and nothing was written. So of two who
        measured the same round the first counts, however long the other was stopped.

        Raises:
            StorageError, ValueError, TypeError: as :meth:`put`.
        """
        from dlas.store.schema import TABLES

        kind, encoded = type(row), _encoded(beside)
        values = encode(row)
        # Not every driver counts the rows of an insert unless it is asked to: -1, silently.
        statement = self._database.insert(TABLES[kind]).on_conflict_do_nothing()
        statement = statement.execution_options(preserve_rowcount=True)

        def work(connection: Connection) -> bool:
            if connection.execute(statement, values).rowcount != 1:
                return self._mine(connection, row)
            self._put(connection, encoded)
            return True

        return self._run("write", work, write=True)

    def amend(self, row: RoundRow, *beside: Row) -> bool:
        """Replace a row by a later one of the same session, with those beside it.

        Return whether that was done: False where the row is another session's, or gone.

        Raises:
            StorageError, ValueError, TypeError: as :meth:`put`.
        """
        from sqlalchemy import update

        from dlas.store.schema import TABLES

        kind, encoded = type(row), _encoded(beside)
        equal = {name: getattr(row, name) for name in (*kind.PRIMARY, "session")}
        statement = update(TABLES[kind]).where(*_conditions(kind, equal)).values(**encode(row))

        def work(connection: Connection) -> bool:
            if connection.execute(statement).rowcount != 1:
                return False
            self._put(connection, encoded)
            return True

        return self._run("write", work, write=True)

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
        return self._run("write", lambda c: int(c.execute(query).rowcount), write=True)

    # ------------------------------------------------------------ reading

    def rows(self, kind: type[R], /, **equal: object) -> list[R]:
        """Return the rows whose fields equal the given values, in the order of the primary key.

        A list, tuple or set stands for any of its values.

        Raises:
            TypeError: the rows have no such field.
        """
        return self._run("read", lambda c: self._select(c, kind, equal), write=False)

    def snapshot(self) -> dict[type[Row], list[Row]]:
        """Return all rows of every table as they were at one moment."""

        def work(connection: Connection) -> dict[type[Row], list[Row]]:
            return {kind: self._select(connection, kind, {}) for kind in ROWS}

        return self._run("read", work, write=False)

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

    def _put(self, connection: Connection, encoded: Mapping[type[Row], list[Values]]) -> None:
        for kind, values in encoded.items():
            connection.execute(self._upsert(kind), values)

    def _mine(self, connection: Connection, row: Row) -> bool:
        """Return whether a row is there already, word for word.

        It is where a connection broke between the transaction and the news of its end.
        """
        equal = {name: getattr(row, name) for name in type(row).PRIMARY}
        found = self._select(connection, type(row), equal)
        return [encode(each) for each in found] == [encode(row)]

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
        except (ValueError, TypeError, KeyError, RecursionError, struct.error) as error:
            raise StorageError(
                f"{self._database.place}: a row of {kind.TABLE} is damaged ({error}): restore the "
                "file from a copy, or move it away and run again."
            ) from error

    def _run(self, doing: str, work: Callable[[Connection], T], *, write: bool) -> T:
        if write and self.read_only:
            raise StorageError(f"{self._database.place} was opened for reading only.")
        return self._database.run(doing, work, write=write)

    def _upsert(self, kind: type[Row]) -> Any:
        if kind not in self._upserts:  # making one takes longer than running it
            from dlas.store.schema import TABLES

            statement = self._database.insert(TABLES[kind])
            changed = {n: statement.excluded[n] for n in types(kind) if n not in kind.PRIMARY}
            self._upserts[kind] = statement.on_conflict_do_update(
                index_elements=list(kind.PRIMARY), set_=changed
            )
        return self._upserts[kind]


Values = dict[str, Stored]
"""A row as the database holds it."""


def _encoded(rows: tuple[Row, ...]) -> dict[type[Row], list[Values]]:
    """Return rows by their tables, all before anything is written: one may be refused."""
    encoded: dict[type[Row], list[Values]] = {}
    for row in rows:
        encoded.setdefault(type(row), []).append(encode(row))
    return encoded


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
