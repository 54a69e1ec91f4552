"""Canonical JSON and the hashes made from it: the only place in dlas that hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

UNKNOWN = "unknown:"
KEY_VERSION = 1  # raise when the meaning of any key changes: every step then runs anew


def canonical(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN, 1.0 written as 1.0.

    Raises:
        TypeError: the value is not JSON.
        ValueError: it holds a number that is not finite.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def key(*parts: object) -> str:
    """Return the hash (64 hex digits) of JSON parts."""
    return hashlib.sha256(canonical([KEY_VERSION, *parts]).encode()).hexdigest()


def unknown(*parts: object) -> str:
    """Return a name for what has no key, since not all that decides it is known.

    It tells such things apart within one plan. It is no hash, and no store takes it.
    """
    return f"{UNKNOWN}{key(*parts)[:16]}"


def is_unknown(name: str) -> bool:
    """Return whether a name is one of :func:`unknown`, and no key."""
    return name.startswith(UNKNOWN)


def short(full: str) -> str:
    """Return the 12 digits by which people name a key."""
    return full[:12]


def file_hash(path: Path) -> str:
    """Return the hash of one file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def bytes_hash(data: bytes) -> str:
    """Return the hash of bytes."""
    return hashlib.sha256(data).hexdigest()


def folder_manifest(folder: Path) -> dict[str, str]:
    """Return ``{relative path: hash}`` of every file below a folder, sorted."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): file_hash(p) for p in files}
