"""Claims that were registered in an output folder: what was expected, written down before.

``OUT/claims/`` holds each file as it was, named by its hash, and ``registered.jsonl``, a line for
each: when it was registered, for which study, and how much was known by then: rounds, and facts
(accuracy, memory, sizes). A line is only ever added. A merged folder has the lines of its sources,
each with the name of the source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dlas.core.clock import now
from dlas.core.errors import StorageError
from dlas.core.keys import bytes_hash

FOLDER = "claims"
LIST = "registered.jsonl"


@dataclass(frozen=True)
class Registered:
    """One registration of a claims file."""

    name: str
    hash: str
    """Of the file's text."""
    study: str
    """The hash of the study as it was to be run."""
    at: str
    rounds: int
    """How many rounds had been measured before."""
    path: Path | None = None
    """The file as it was, in the folder."""
    facts: int = 0
    """How many facts were known before: builds, evaluations, memory."""
    source: str = ""
    """In a merged folder the source in which it was registered."""

    @property
    def afterwards(self) -> bool:
        """Whether something was known by then."""
        return self.rounds > 0 or self.facts > 0


def register(
    folder: Path, name: str, text: str, study: str, rounds: int, facts: int = 0
) -> Registered:
    """Store a claims file in an output folder; one that is there already stays as it was.

    Raises:
        StorageError: the folder cannot be written.
    """
    digest = bytes_hash(text.encode())
    known = next((r for r in registrations(folder) if r.hash == digest and r.study == study), None)
    if known is not None:
        return known
    return _add(folder, Registered(name, digest, study, now(), rounds, facts=facts), text)


def take_over(folder: Path, one: Registered, source: str) -> Registered:
    """Store in a merged folder what was registered in one of its sources.

    Raises:
        StorageError: the folder cannot be written.
    """
    assert one.path is not None, "it was read from there"
    text = one.path.read_text(encoding="utf-8")
    return _add(folder, replace(one, source=one.source or source), text)


def _add(folder: Path, made: Registered, text: str) -> Registered:
    place = folder / FOLDER
    try:
        place.mkdir(parents=True, exist_ok=True)
        copy = place / f"{made.hash[:12]}.yaml"
        copy.write_text(text, encoding="utf-8")
        line = {k: v for k, v in asdict(made).items() if k != "path"}
        with (place / LIST).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise StorageError(f"{place} cannot be written: {error.strerror}") from error
    return replace(made, path=copy)


def registrations(folder: Path) -> tuple[Registered, ...]:
    """Return what was registered in a folder, of a file and study (and source) the first.

    A line that cannot be read, or whose file is no longer what was registered, does not count.
    """
    file = folder / FOLDER / LIST
    if not file.is_file():
        return ()
    found: dict[tuple[str, str, str], Registered] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        one = _read(folder, line)
        if one is not None:
            found.setdefault((one.hash, one.study, one.source), one)
    return tuple(found.values())


def _read(folder: Path, line: str) -> Registered | None:
    try:
        data: Any = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(data, Mapping):
        return None
    texts = {k: str(data.get(k, "")) for k in ("name", "hash", "study", "at", "source")}
    rounds, facts = data.get("rounds"), data.get("facts", 0)
    path = folder / FOLDER / f"{texts['hash'][:12]}.yaml"
    if not isinstance(rounds, int) or not isinstance(facts, int) or not path.is_file():
        return None
    if bytes_hash(path.read_bytes()) != texts["hash"]:
        return None
    return Registered(**texts, rounds=rounds, facts=facts, path=path)
