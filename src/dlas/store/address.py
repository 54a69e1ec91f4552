"""Where the rows of an output folder are: in its file, in a bundle, or in a database."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from dlas.core.errors import StorageError, UserError
from dlas.core.keys import canonical
from dlas.store.disk import storage
from dlas.store.sqlite import FILE_NAME, SqliteFile

if TYPE_CHECKING:
    from dlas.store.bundle import Bundle
    from dlas.store.postgres import Postgres

POINTER = "results.json"
"""The file of a folder whose rows are in a database: says in which."""
_SCHEMES = ("postgresql", "postgres")


def address_of(folder: Path) -> Path | str:
    """Return where the rows of an output folder are; a file of rows stands for itself.

    That something is there is not looked at.

    Raises:
        StorageError: the folder names a database in a way that cannot be read.
    """
    if folder.is_file():
        return folder
    pointer = folder / POINTER
    if not pointer.is_file():
        return folder / FILE_NAME
    try:
        return str(checked_url(json.loads(pointer.read_text(encoding="utf-8"))["results"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError, UserError) as error:
        raise StorageError(
            f"{pointer} does not say where the results are ({error}): restore it, or give "
            "--results again."
        ) from error


def holds_rows(folder: Path) -> bool:
    """Return whether a folder (or file) says where its rows are; a database is not asked."""
    found = address_of(folder)
    return isinstance(found, str) or found.is_file()


def place_of(folder: Path, url: str | None) -> Path | str:
    """Return where a run keeps the rows of a folder: where it did, else where it is asked to.

    Raises:
        UserError: the folder's rows are elsewhere already, or the address is wrong.
    """
    known = address_of(folder)
    if url is None:
        return known
    wanted = checked_url(url)
    if isinstance(known, str) and known != wanted:
        raise UserError(f"--results {wanted}: the results of {folder} are in {known}")
    if isinstance(known, Path) and known.is_file():
        raise UserError(
            f"--results {wanted}: {known} holds results already; give another --out, or "
            "leave --results out"
        )
    return wanted


def point(folder: Path, place: Path | str) -> None:
    """Have a folder remember where its rows are, where that is a database: once it was opened.

    Raises:
        StorageError: the disk refuses.
    """
    if isinstance(place, Path):
        return
    with storage("say where the results are in", folder):
        (folder / POINTER).write_text(canonical({"results": place}) + "\n", encoding="utf-8")


def checked_url(url: str) -> str:
    """Return the address of a database.

    Raises:
        UserError: it is none, or holds a password: those are not to be seen in process lists,
            rows and reports.
    """
    scheme, separator, rest = str(url).partition("://")
    if not separator or scheme not in _SCHEMES:
        raise UserError(
            f"--results {_hidden(url)!r}: must be postgresql://USER@HOST:PORT/DATABASE"
        )
    if _hidden(url) != url:
        raise UserError(
            f"--results {_hidden(url)}: holds a password, which everybody would see; put it into "
            "~/.pgpass or the environment (PGPASSWORD, PGPASSFILE)"
        )
    return f"postgresql://{rest}"


def _hidden(url: str) -> str:
    """Return an address without the password in it, however its letters are written."""
    found = re.sub(r"(://[^:@]*):.*@", r"\1:...@", str(url))
    head, separator, query = found.partition("?")
    shown = [
        f"{name}=..." if "password" in unquote(name).lower() else f"{name}{is_}{value}"
        for name, is_, value in (part.partition("=") for part in query.split("&"))
    ]
    return head + separator + "&".join(shown)


def opened(place: Path | str, *, read_only: bool) -> SqliteFile | Postgres | Bundle:
    """Return the database at an address, open.

    Raises:
        UserError: nobody can write into a bundle.
        UserError, StorageError: as the databases have it.
    """
    if isinstance(place, str) and "://" in place:
        from dlas.store.postgres import Postgres

        return Postgres(place, read_only=read_only)
    from dlas.store.bundle import Bundle, is_bundle

    if is_bundle(Path(place)):
        if not read_only:
            raise UserError(f"{place} is a results bundle, which is only read: `dlas merge` it.")
        return Bundle(Path(place))
    return SqliteFile(Path(place), read_only=read_only)
