"""The tables of the results, and how an older database becomes a current one.

``MIGRATIONS[n]`` turns version ``n`` into ``n + 1``, inside one transaction. Raise
``records.SCHEMA_VERSION`` together with adding a function here whenever a table changes; the
functions are written in plain SQL and never use ``TABLES``, which describes the newest version.
PostgreSQL holds what SQLite holds: 64 bits of integers, texts in the order of their bytes and with
NUL in them. Its tables began with version 3, so that no older migration meets them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    inspect,
    text,
)

from dlas.core.errors import StorageError, UserError, listed
from dlas.core.records import SCHEMA_VERSION, Status
from dlas.store.rows import ROWS, JsonObject, Row, types

Migration = Callable[[Connection], None]


def _ceilings(connection: Connection) -> None:
    """Version 2 keeps what the machine can do at most; older studies have no such reading."""
    connection.execute(
        text(
            "CREATE TABLE ceilings (session TEXT NOT NULL, host TEXT NOT NULL,"
            " kind TEXT NOT NULL, hardware TEXT NOT NULL, software TEXT NOT NULL,"
            " dataset TEXT NOT NULL, moment TEXT NOT NULL, threads INTEGER NOT NULL,"
            " isa TEXT NOT NULL, value FLOAT, reason TEXT NOT NULL, method TEXT NOT NULL,"
            " detail TEXT NOT NULL, created_at TEXT NOT NULL,"
            " PRIMARY KEY (session, kind, hardware, software, dataset, moment))"
        )
    )


def _dropped(connection: Connection) -> None:
    """Version 3 marks cells that were taken out of their study; of older ones nobody knows."""
    connection.execute(text("ALTER TABLE cells ADD COLUMN dropped TEXT NOT NULL DEFAULT ''"))


MIGRATIONS: Mapping[int, Migration] = {1: _ceilings, 2: _dropped}

METADATA = MetaData()
META = Table("meta", METADATA, Column("schema_version", Integer, nullable=False))

_ESCAPE = "\uf8ff"
"""A character of private use; stands before what PostgreSQL does not take, and before itself."""


class Words(TypeDecorator[str]):
    """Text in PostgreSQL, which knows no NUL and would sort by the customs of a country."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Text:
        """Return text that is compared byte by byte."""
        return Text(collation="C")

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return a text as the database can hold it."""
        if value is None or ("\0" not in value and _ESCAPE not in value):
            return value
        return value.replace(_ESCAPE, _ESCAPE + "1").replace("\0", _ESCAPE + "0")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Return a text as it was."""
        if value is None or _ESCAPE not in value:
            return value
        return value.replace(_ESCAPE + "0", "\0").replace(_ESCAPE + "1", _ESCAPE)


_TEXT = Text().with_variant(Words(), "postgresql")
_WHOLE = Integer().with_variant(BigInteger(), "postgresql")
_COLUMN_TYPES: dict[object, tuple[Text | Integer | Float[float] | LargeBinary, bool]] = {
    str: (_TEXT, False),
    str | None: (_TEXT, True),
    int: (_WHOLE, False),
    float: (Float(), False),
    float | None: (Float(), True),
    JsonObject: (_TEXT, False),
    tuple[float, ...]: (LargeBinary(), False),
    Status: (_TEXT, False),
}


def _table(kind: type[Row]) -> Table:
    columns = []
    for name, hint in types(kind).items():
        column, optional = _COLUMN_TYPES[hint]
        columns.append(Column(name, column, primary_key=name in kind.PRIMARY, nullable=optional))
    return Table(kind.TABLE, METADATA, *columns)


TABLES: Mapping[type[Row], Table] = {kind: _table(kind) for kind in ROWS}

Index("rounds_by_key", METADATA.tables["rounds"].c.key)
Index("facts_by_key", METADATA.tables["facts"].c.key)


def version_of(connection: Connection, place: Path | str) -> int | None:
    """Return the schema version of a database, None where it is empty.

    Raises:
        StorageError: it is a database of something else, or damaged.
    """
    names = inspect(connection).get_table_names()
    if not names:
        return None
    if "meta" in names:
        found = connection.execute(text("SELECT schema_version FROM meta")).scalars().all()
        absent = sorted(METADATA.tables.keys() - set(names))
        if found == [SCHEMA_VERSION] and absent:
            raise StorageError(
                f"{place} is damaged: it has lost the table {absent[0]}; restore it from a copy."
            )
        if len(found) == 1 and isinstance(found[0], int):
            return found[0]
    raise StorageError(
        f"{place} is no dlas result store (its tables: {listed(names)}): give another folder."
    )


def upgrade(connection: Connection, place: Path | str) -> None:
    """Create the tables of an empty database, or bring an older one to the newest version.

    The caller holds a write transaction, so that either all of it happens or nothing.

    Raises:
        UserError: the database is of a newer version than this dlas knows, or of one that it no
            longer knows.
    """
    found, newest = version_of(connection, place), SCHEMA_VERSION
    if found is None:
        METADATA.create_all(connection)
        connection.execute(META.insert().values(schema_version=newest))
        return
    _check_known(found, place)
    for old in range(found, newest):
        if old not in MIGRATIONS:
            raise UserError(
                f"{place} has schema version {found}; this dlas knows no way from version {old} "
                f"to {old + 1}: read it with the dlas that wrote it."
            )
        MIGRATIONS[old](connection)
        connection.execute(META.update().values(schema_version=old + 1))


def is_current(found: int | None, place: Path | str) -> bool:
    """Return whether a database's version is the newest; False asks for :func:`upgrade`.

    Raises:
        UserError: the database is of a newer version than this dlas knows.
    """
    _check_known(found or 0, place)
    return found == SCHEMA_VERSION


def _check_known(found: int, place: Path | str) -> None:
    if found > SCHEMA_VERSION:
        raise UserError(
            f"{place} was written by a newer dlas: schema version {found}, this one knows up to "
            f"{SCHEMA_VERSION}. Upgrade dlas, or give another folder."
        )
