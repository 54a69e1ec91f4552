"""Bundles that somebody made up: whoever lies does it well."""

from __future__ import annotations

import json
import sqlite3
import stat
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from dlas.core.keys import file_hash

Files = dict[str, bytes]


def contents(packed: Path) -> Files:
    with zipfile.ZipFile(packed) as file:
        return {name: file.read(name) for name in file.namelist()}


def written(packed: Path, files: Files, kinds: dict[str, int] | None = None) -> Path:
    target = packed.with_name("hostile.dlas.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = ((kinds or {}).get(name, stat.S_IFREG) | 0o644) << 16
            made.writestr(info, data)
    return target


def manifest(files: Files, change: Callable[[dict], None]) -> Files:
    said = json.loads(files["manifest.json"])
    change(said)
    return {**files, "manifest.json": json.dumps(said).encode()}


def with_database(packed: Path, tmp_path: Path, *statements: str) -> Path:
    """Change the rows and tell the manifest so: whoever lies does it well."""
    files = contents(packed)
    file = tmp_path / "changed.sqlite"
    file.write_bytes(files["results.sqlite"])
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    files["results.sqlite"] = file.read_bytes()
    told = {"sha256": file_hash(file), "bytes": file.stat().st_size}
    return written(packed, manifest(files, lambda m: m["files"].update({"results.sqlite": told})))
