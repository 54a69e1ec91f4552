"""The file by which a folder of artefacts is known for one, and the version of its format."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from dlas.core.errors import StorageError, UserError
from dlas.core.keys import canonical
from dlas.store.disk import write_atomically

NAME = "dlas-artifacts.json"
NEWEST = 2
"""1: a step has one record. A store becomes one of format 2 when a step gets its second."""
FOLDERS = ("objects", "steps", "locks", "tmp")


def there(root: Path) -> bool:
    """Return whether a folder holds artefacts."""
    return (root / NAME).is_file()


def create(root: Path) -> None:
    """Make a folder one of artefacts.

    Raises:
        UserError: it holds other things.
        OSError: the disk refuses.
    """
    root.mkdir(parents=True, exist_ok=True)
    # another process may be creating the same store at this moment
    ours = {*FOLDERS, NAME}
    if strange := sorted(
        p.name for p in root.iterdir() if p.name not in ours and NAME not in p.name
    ):
        raise UserError(
            f"{root} is no artefact store and not empty (it holds {strange[0]!r}): "
            "give a new or an empty folder."
        )
    for name in FOLDERS:
        (root / name).mkdir(exist_ok=True)
    if not there(root):
        mark(root, 1)


def mark(root: Path, number: int) -> int:
    """Write the version of the format; return it."""
    temporary = root / f".{NAME}.{uuid.uuid4().hex}"
    write_atomically(root / NAME, canonical({"format": number}) + "\n", temporary)
    return number


def check(root: Path) -> int:
    """Return the version of a folder's format.

    Raises:
        UserError: it holds no artefacts, or is of a newer format.
        StorageError: the file is damaged.
    """
    file = root / NAME
    if not there(root):
        raise UserError(f"{root} holds no artefact store (no {NAME}): check the path.")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StorageError(
            f"{file} is damaged ({error}): restore it, or remove the whole folder."
        ) from error
    if found not in range(1, NEWEST + 1):
        raise UserError(
            f"{root} is an artefact store of format {found}, this dlas knows up to {NEWEST}: "
            "upgrade dlas, or give another folder."
        )
    return int(found)
