"""A results bundle: one small file to send, with the rows of an output folder and no artefacts.

A zip of ``results.sqlite``, ``study.yaml`` where there is one, and ``manifest.json``: the hash and
size of each file, the number of rows of each table, versions and hosts. It may come from anybody:
nothing in it is believed before it was compared with the manifest, nothing is unpacked under a
name that the file gives, and nothing that becomes much larger than it says.
"""

from __future__ import annotations

import hashlib
import json
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dlas.core.errors import StorageError, UserError, listed
from dlas.core.keys import bytes_hash, canonical, file_hash
from dlas.core.records import SCHEMA_VERSION
from dlas.store.disk import storage
from dlas.store.rows import ROWS, Row
from dlas.store.sqlite import FILE_NAME, SqliteFile

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table
    from sqlalchemy.dialects.sqlite import Insert

SUFFIX = ".dlas.zip"
VERSION = 1
MANIFEST, STUDY = "manifest.json", "study.yaml"
_MOST = {MANIFEST: 16_000_000, STUDY: 16_000_000, FILE_NAME: 8_000_000_000}
"""The bytes that a file may have."""
_DENSEST = 200
"""A file that is larger by more than this, packed, is a bomb: rows are by ten at most."""
_SMALL = 1_000_000
"""Files of this size may be as dense as they like."""
_CHUNK = 1 << 20
_BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
    TypeError, KeyError, AttributeError,
)  # fmt: skip
"""What Python's reader says to files that are no zip, or are damaged, encrypted or strange."""

T = TypeVar("T")


def is_bundle(path: Path) -> bool:
    """Return whether a path is a file that begins as a bundle does."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def home(folder: Path) -> Path:
    """Return the output folder of its file of rows; a folder or a bundle stands for itself."""
    return folder.parent if folder.is_file() and not is_bundle(folder) else folder


def beside(folder: Path, name: str) -> Path:
    """Return where a file about an output folder goes: into it; beside a bundle, by its name."""
    if not is_bundle(folder):
        return folder / name
    return folder.with_name(f"{folder.name.removesuffix(SUFFIX)}.{name}")


# ------------------------------------------------------------ writing


def write(
    target: Path, results: Path, study: str | None, rows: Mapping[type[Row], int], about: Any
) -> None:
    """Write a bundle of a file of rows; ``about`` says what the manifest is to tell as well.

    Raises:
        StorageError: the disk refuses; what was there is as it was.
    """
    texts = {} if study is None else {STUDY: study.encode()}
    files = {FILE_NAME: {"sha256": file_hash(results), "bytes": results.stat().st_size}}
    files |= {n: {"sha256": bytes_hash(t), "bytes": len(t)} for n, t in texts.items()}
    manifest = {
        "bundle": VERSION,
        "schema": SCHEMA_VERSION,
        "rows": {kind.TABLE: count for kind, count in rows.items()},
        "files": files,
        **about,
    }
    temporary = target.with_name(f".{target.name}.part")
    with storage("write", target):
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
                made.writestr(MANIFEST, canonical(manifest) + "\n")
                for name, text in texts.items():
                    made.writestr(name, text)
                made.write(results, FILE_NAME)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


# ------------------------------------------------------------ reading


class Bundle:
    """The rows of a bundle, to read: what :class:`dlas.store.sqlite.SqliteFile` has.

    Raises:
        UserError: it is of a newer dlas.
        StorageError: it is damaged, or not what its manifest says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = tempfile.TemporaryDirectory(prefix="dlas-", ignore_cleanup_errors=True)
        try:
            file = Path(self._folder.name) / FILE_NAME
            with _opened(path) as (packed, manifest):
                _unpack(packed, FILE_NAME, manifest, file, path)
            self._rows = SqliteFile(file, read_only=True, called=path)
            self._require_rows(manifest)
        except BaseException:
            self._folder.cleanup()
            raise

    @property
    def place(self) -> str:
        """What messages call it."""
        return str(self.path)

    def run(self, doing: str, work: Callable[[Connection], T], *, write: bool) -> T:
        """Return what a piece of work says that reads."""
        return self._rows.run(doing, work, write=write)

    def insert(self, table: Table) -> Insert:
        """Return an insert, which nobody can carry out."""
        return self._rows.insert(table)

    def close(self) -> None:
        """Remove what was unpacked."""
        self._rows.close()
        self._folder.cleanup()

    def _require_rows(self, manifest: Mapping[str, Any]) -> None:
        from sqlalchemy import func, select

        from dlas.store.schema import TABLES

        def count(connection: Connection) -> dict[str, int]:
            queries = {kind: select(func.count()).select_from(TABLES[kind]) for kind in ROWS}
            return {k.TABLE: connection.execute(q).scalar_one() for k, q in queries.items()}

        said, there = manifest["rows"], self._rows.run("read", count, write=False)
        wrong = [f"{n} {t} for {said.get(t, 0)}" for t, n in there.items() if n != said.get(t, 0)]
        if wrong:
            self._rows.close()
            raise StorageError(f"{self.path}: the manifest lies: there are {listed(wrong)} rows.")


def study_text(path: Path) -> str | None:
    """Return the study of a bundle as text, None where it has none.

    Raises:
        UserError, StorageError: as :class:`Bundle`.
    """
    with _opened(path) as (packed, manifest):
        if STUDY not in manifest["files"]:
            return None
        return b"".join(_chunks(packed, STUDY, manifest, path)).decode(errors="replace")


def manifest_of(path: Path) -> dict[str, Any]:
    """Return what a bundle says of itself.

    Raises:
        UserError, StorageError: as :class:`Bundle`.
    """
    with _opened(path) as (_, manifest):
        return manifest


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, Any]]]:
    """Give a bundle whose list of files is as it should be, and its manifest."""
    with storage("read", path):
        try:
            with zipfile.ZipFile(path) as packed:
                _require_names(packed.infolist(), path)
                yield packed, _manifest(packed, path)
        except _BROKEN as error:
            why = str(error) or type(error).__name__
            raise StorageError(
                f"{path} is no results bundle, or a damaged one ({why}): ask for it again."
            ) from error


def _require_names(found: Sequence[zipfile.ZipInfo], path: Path) -> None:
    names = [info.filename for info in found]
    for info in found:
        wrong = _strange(info)
        if names.count(info.filename) > 1:
            wrong = "is there twice"
        if wrong:
            raise StorageError(f"{path} is refused: {info.filename!r} in it {wrong}.")
    if absent := [name for name in (MANIFEST, FILE_NAME) if name not in names]:
        raise StorageError(f"{path} is no results bundle: it holds no {absent[0]}.")


def _strange(info: zipfile.ZipInfo) -> str:
    """Return what is wrong with a file of a bundle as the list of its files has it."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.filename not in _MOST:
        return "is none of the files that a bundle holds"
    if kind not in (0, stat.S_IFREG):
        return "is a link" if kind == stat.S_IFLNK else "is no file"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.file_size > _MOST[info.filename]:
        return f"would have {info.file_size} bytes, more than the {_MOST[info.filename]} allowed"
    if info.file_size > _SMALL + _DENSEST * info.compress_size:
        return f"would become {info.file_size} bytes from {info.compress_size}: a bomb"
    return ""


def _manifest(packed: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    said = json.loads(b"".join(_limited(packed, MANIFEST, path)))
    version = said["bundle"]
    if not isinstance(version, int) or version > VERSION:
        raise UserError(
            f"{path} is a results bundle of version {version}, this dlas knows up to {VERSION}: "
            "upgrade dlas."
        )
    listed_, there = set(said["files"]), set(packed.namelist()) - {MANIFEST}
    if listed_ != there:
        differs = sorted(listed_ ^ there)
        raise StorageError(
            f"{path}: the manifest lies: {differs[0]!r} is in it or there, not both."
        )
    if not isinstance(said["rows"], dict):
        raise ValueError("the manifest does not count the rows")
    return dict(said)


def _limited(packed: zipfile.ZipFile, name: str, path: Path) -> Iterator[bytes]:
    """Give a file in pieces, no more than its entry says."""
    left = packed.getinfo(name).file_size
    with packed.open(name) as file:
        while piece := file.read(_CHUNK):
            left -= len(piece)
            if left < 0:
                raise StorageError(f"{path} is refused: {name!r} in it is larger than it says.")
            yield piece


def _chunks(
    packed: zipfile.ZipFile, name: str, manifest: Mapping[str, Any], path: Path
) -> Iterator[bytes]:
    """Give a file in pieces; in the end it must be what the manifest says."""
    seen, size = hashlib.sha256(), 0
    for piece in _limited(packed, name, path):
        seen.update(piece)
        size += len(piece)
        yield piece
    said = manifest["files"][name]
    if (seen.hexdigest(), size) != (said["sha256"], said["bytes"]):
        raise StorageError(
            f"{path}: the manifest lies: {name!r} is not the file that it describes."
        )


def _unpack(
    packed: zipfile.ZipFile, name: str, manifest: Mapping[str, Any], target: Path, path: Path
) -> None:
    with target.open("wb") as file:
        for piece in _chunks(packed, name, manifest, path):
            file.write(piece)
