"""What tuning and measuring have found out, kept for every later build: lines of JSON in one file.

A record belongs to one operator's shape, primitive, storage of weights, type, target, threads and
way of searching, and to the version of the kernels' source: other code is measured anew. Several
processes may use one folder at once.
"""

import fcntl
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from dlas.kernels.ground.errors import KernelError

FILE = "records.jsonl"
VARIABLE = "DLAS_TUNING_DIR"
"""The environment's name for the folder that is used where none is given."""

_NOT_CODE = (
    "compile.py",
    "conv.py",
    "convolution/oracle.py",
    "graph/arrange.py",
    "graph/best.py",
    "graph/calls.py",
    "graph/choose.py",
    "graph/cost.py",
    "graph/fuse.py",
    "graph/graph.py",
    "graph/importer.py",
    "graph/simplify.py",
    "graph/tune_graph.py",
    "ground/arena.py",
    "ground/errors.py",
    "ground/program.py",
    "ground/records.py",
    "ground/subprocesses.py",
    "operators/fallback.py",
    "tune/gain.py",
    "tune/search.py",
    "tune/tuner.py",
)
"""Files below ``kernels`` that change no kernel: they leave the records as they are."""


def default_folder() -> Path:
    """Return the folder of records: `$DLAS_TUNING_DIR`, else below the user's cache."""
    return kept_in(VARIABLE, "tuning")


def kept_in(variable: str, name: str) -> Path:
    """Return the folder that a variable of the environment names, else one in the user's cache."""
    if given := os.environ.get(variable):
        return Path(given)
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache_home) / "dlas" / name


@cache
def version() -> str:
    """Return the hash of the source that decides what code a kernel is."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        name = file.relative_to(folder).as_posix()
        if name not in _NOT_CODE and file.name != "__init__.py":
            digest.update(name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


class Records:
    """The records of one folder."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = default_folder() if folder is None else Path(folder)
        self._known: dict[str, dict[str, Any]] = {}
        self._read = 0

    def find(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the newest record of a key, made by this version of the kernels; else None."""
        self._catch_up()
        return self._known.get(_text(key))

    def add(self, key: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
        """Store a record and return it with its `id`, the hash of its key.

        Raises:
            KernelError: the folder cannot be written.
        """
        record = {"id": _id(key), "version": version(), "key": dict(key), **found}
        line = json.dumps(record, sort_keys=True, allow_nan=False) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / FILE).open("ab") as file, _locked(file.fileno()):
                file.write(line.encode())
        except OSError as error:
            raise KernelError(
                f"tuning records cannot be written to {self.folder}: {error}. Give another folder "
                f"(tuning={{..., 'records': FOLDER}}, or the variable {VARIABLE})."
            ) from error
        self._known[_text(key)] = record
        return record

    def _catch_up(self) -> None:
        """Read the lines that were added since the last time."""
        path = self.folder / FILE
        if not path.exists() or path.stat().st_size <= self._read:
            return
        with path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # another process may be half way through a line
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                record = json.loads(line)
                if record["version"] == version():
                    self._known[_text(record["key"])] = record
            except (ValueError, KeyError, TypeError):
                warnings.warn(f"{path} holds a line that is no record: skipped", stacklevel=2)


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def _id(key: Mapping[str, Any]) -> str:
    return hashlib.sha256((version() + _text(key)).encode()).hexdigest()[:12]


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
