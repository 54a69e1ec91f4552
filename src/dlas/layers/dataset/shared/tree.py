"""A folder of images as it lies on the disk: images, folders, what other programs left."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dlas.core.errors import UserError

SOURCE = __name__

SUFFIXES = frozenset((
    ".bmp", ".dib", ".gif", ".jpeg", ".jpg", ".jpe", ".jfif", ".jp2", ".j2k", ".jpx", ".jpf",
    ".png", ".apng", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp", ".avif", ".tga",
))  # fmt: skip
"""Endings of files that are read as images, in any case."""

MACOS = "left by macOS (__MACOSX, ._*, .DS_Store)"
WINDOWS = "left by Windows (Thumbs.db, desktop.ini, ...)"
PROGRAMS = "left by other programs (@eaDir, lost+found, ...)"
HIDDEN = "hidden (names that begin with a dot)"
BROKEN = "links to nothing"
LOOP = "links to a folder that they lie in"

_LEFT = {
    "__macosx": MACOS, ".ds_store": MACOS, ".appledouble": MACOS, ".spotlight-v100": MACOS,
    ".trashes": MACOS, ".fseventsd": MACOS, "icon\r": MACOS,
    "thumbs.db": WINDOWS, "ehthumbs.db": WINDOWS, "desktop.ini": WINDOWS,
    "$recycle.bin": WINDOWS, "system volume information": WINDOWS,
    "@eadir": PROGRAMS, "#recycle": PROGRAMS, "lost+found": PROGRAMS, "__pycache__": PROGRAMS,
    ".ipynb_checkpoints": PROGRAMS, ".picasa.ini": PROGRAMS, "picasa.ini": PROGRAMS,
}  # fmt: skip


def leftover(name: str) -> str | None:
    """Return what a file or folder was left by, going by its name; None: it is data."""
    if name.startswith("._"):
        return MACOS
    return _LEFT.get(name.lower()) or (HIDDEN if name.startswith(".") else None)


def readable(name: str) -> str:
    r"""Return a name as text: bytes that are no UTF-8 are written ``\xe9``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shown(path: Path, root: Path) -> str:
    """Return a path below a root as a person reads it."""
    return readable(path.relative_to(root).as_posix())


@dataclass(frozen=True)
class Folder:
    """One folder; what lies below it was looked at, too."""

    path: Path
    images: list[Path] = field(default_factory=list)
    """Its own, not those of its folders."""
    folders: list[Folder] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """Why files of it were left out, and how many."""

    @property
    def name(self) -> str:
        """Its name, as the disk has it."""
        return self.path.name

    @cached_property
    def count(self) -> int:
        """The images in it and below."""
        return len(self.images) + sum(folder.count for folder in self.folders)

    @cached_property
    def filled(self) -> list[Folder]:
        """Its folders with an image in them or below."""
        return [folder for folder in self.folders if folder.count]

    def every(self) -> Iterator[Path]:
        """Give the images in it and below."""
        yield from self.images
        for folder in self.folders:
            yield from folder.every()

    def left_out(self) -> Counter[str]:
        """Return why files in it and below were left out, and how many."""
        return sum((folder.left_out() for folder in self.folders), Counter(self.skipped))


def scan(path: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Folder:
    """Return a folder with all that is below it, links followed, in the order of names.

    Raises:
        UserError: a folder may not be looked into.
    """
    try:
        seen = path.stat()
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{readable(str(path))} cannot be read: {error.strerror}.") from error
    made = Folder(path)
    here = above | {(seen.st_dev, seen.st_ino)}
    for entry in found:
        _add(made, entry, here)
    return made


def _add(made: Folder, entry: os.DirEntry[str], above: frozenset[tuple[int, int]]) -> None:
    path = made.path / entry.name
    if why := leftover(entry.name):
        made.skipped[why] += _files_in(entry)
        return
    try:
        target = path.stat()
    except OSError:  # nothing there, or links in a circle
        made.skipped[BROKEN] += 1
        return
    if stat.S_ISDIR(target.st_mode):
        if (target.st_dev, target.st_ino) in above:
            made.skipped[LOOP] += 1
        else:
            made.folders.append(scan(path, above))
    elif not stat.S_ISREG(target.st_mode):
        made.skipped["neither files nor folders"] += 1
    elif path.suffix.lower() in SUFFIXES:
        made.images.append(path)
    else:
        made.skipped[_other(path)] += 1


def _other(path: Path) -> str:
    ending = readable(path.suffix.lower())
    return f"no images by their ending {ending}" if ending else "no images: names without ending"


def _files_in(entry: os.DirEntry[str]) -> int:
    """Return how many files are left out with an entry: those below a folder, else itself."""
    if not entry.is_dir(follow_symlinks=False):
        return 1
    return max(1, sum(len(files) for _, _, files in os.walk(entry.path)))
