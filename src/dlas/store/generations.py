"""The records of steps as files: the generations of each step, of which the newest counts.

A key is committed again with good reason: ``--retry`` and ``--remeasure``, needs that changed,
more samples, an artefact that was damaged. So nothing is overwritten. Whoever does a step has seen
generation n and creates n + 1, which only one can: who comes second throws away what it made and
takes what is there. That needs no lock, so no process that was stopped can hold it, and one that
wakes after another has gone on finds its number taken::

    steps/<key>.json        generation 0
    steps/<key>/<n>.json    generation n

That a step was forgotten is a generation as well, so that numbers only grow; cleaning, which is
done while nobody uses the store, is what removes old ones.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from dlas.core.errors import StorageError
from dlas.core.keys import is_unknown
from dlas.store.disk import remove_tree, sync, write_first

NONE = -1
"""The newest generation of a step that nobody has done."""


class Overtaken(Exception):
    """Somebody else committed the next generation of a step first."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the step {key} was committed by another process")


def name_of(key: str, number: int) -> str:
    """Return the name of a generation below the folder of all steps."""
    return f"{key}.json" if number == 0 else f"{key}/{number}.json"


def is_key(name: str) -> bool:
    """Return whether a name can be that of a step, or of an artefact, below a store's folders."""
    odd = not name or name.startswith(".") or set(name) & set("/\\\0") or len(name) > 200
    return not (odd or is_unknown(name))


def numbers(names: Iterable[str]) -> list[int]:
    """Return the generations among the names in a step's folder; other names are passed over."""
    stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return [int(stem) for stem in stems if stem.isascii() and stem.isdecimal()]


class StepFiles(Protocol):
    """What keeps the generations of steps, in a folder or elsewhere."""

    def file(self, key: str, number: int) -> Path | str:
        """Return what messages call a generation."""

    def read(self, key: str, number: int) -> str | None:
        """Return the text of a generation, None where it is not there (any more)."""

    def newest(self, key: str) -> int:
        """Return the number of the newest generation, :data:`NONE` where there is none."""

    def create(self, key: str, number: int, text: str, temporary: Path) -> None:
        """Write a generation, or raise :class:`Overtaken`."""

    def every(self) -> list[str]:
        """Return the keys of all steps, sorted."""


class Generations:
    """The files below ``folder``; ``lock`` is the file :func:`dlas.store.disk.write_first` asks.

    All methods raise OSError where the disk refuses.
    """

    def __init__(self, folder: Path, lock: Path) -> None:
        self.folder = folder
        self.lock = lock

    def file(self, key: str, number: int) -> Path:
        """Return where a generation is."""
        return self.folder / name_of(key, number)

    def read(self, key: str, number: int) -> str | None:
        """Return the text of a generation, None where it is not there (any more).

        Raises:
            StorageError: it is a link, a pipe or the like, which is not read.
        """
        file = self.file(key, number)
        try:
            if not stat.S_ISREG(file.lstat().st_mode):
                raise StorageError(
                    f"the step record {file} is damaged (it is no plain file): remove it, then "
                    "run again; the step will be done anew."
                )
            return file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def newest(self, key: str) -> int:
        """Return the number of the newest generation, :data:`NONE` where there is none."""
        try:
            later = numbers(file.name for file in (self.folder / key).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            later = []
        if later:
            return max(later)
        return 0 if self.file(key, 0).exists() else NONE

    def create(self, key: str, number: int, text: str, temporary: Path) -> None:
        """Write a generation, on the disk when this returns.

        Raises:
            Overtaken: it is there, or a newer one is.
        """
        if self.newest(key) >= number:
            raise Overtaken(key)
        target = self.file(key, number)
        if number and not target.parent.is_dir():
            target.parent.mkdir(exist_ok=True)
            sync(self.folder)
        try:
            write_first(target, text, temporary, self.lock)
        except FileExistsError:
            raise Overtaken(key) from None

    def every(self) -> list[str]:
        """Return the keys of all steps, sorted."""
        return [*self.files()]

    def files(self) -> dict[str, Path]:
        """Return the file of the newest generation of every step, by its key, sorted."""
        found: dict[str, str | None] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                key = entry.name.removesuffix(".json")
                if not is_key(key):
                    continue  # as file managers leave behind
                if entry.is_dir(follow_symlinks=False):
                    found[entry.name] = None
                elif key != entry.name and entry.is_file(follow_symlinks=False):
                    found.setdefault(key, entry.name)
        numbers = {key: 0 if name else self.newest(key) for key, name in sorted(found.items())}
        return {key: self.file(key, number) for key, number in numbers.items() if number > NONE}

    def remove(self, key: str, *, before: int | None = None) -> None:
        """Remove a step's generations, or those before a number, the oldest first."""
        for number, file in self._all(key):
            if before is None or number < before:
                file.unlink(missing_ok=True)
        if before is None and (self.folder / key).is_dir():
            remove_tree(self.folder / key)

    def _all(self, key: str) -> Iterator[tuple[int, Path]]:
        yield 0, self.file(key, 0)
        if (self.folder / key).is_dir():
            for number in sorted(numbers(file.name for file in (self.folder / key).iterdir())):
                yield number, self.file(key, number)
