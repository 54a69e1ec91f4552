"""One artefact as a folder: made from what a step yielded, and checked when it is read."""

from __future__ import annotations

import errno
import json
import shutil
import stat
from pathlib import Path

from dlas.core.errors import StepError, StorageError
from dlas.core.keys import canonical, folder_manifest, key
from dlas.store.disk import remove_tree, sync, write_atomically


class DamagedObject(StorageError):
    """An object is not what its manifest says; ``content`` names it for ``discard``."""

    def __init__(self, content: str, message: str) -> None:
        self.content = content
        super().__init__(message)

    def __reduce__(self) -> tuple[type[DamagedObject], tuple[str, str]]:
        """Let it be sent to another process."""
        return DamagedObject, (self.content, str(self))


def require_plain(folder: Path) -> None:
    """Refuse what would not be there, or would be something else, on another machine.

    Raises:
        StepError: the folder holds a link, a socket, a pipe or a device.
    """
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            what = "a link" if stat.S_ISLNK(mode) else "neither file nor folder"
            raise StepError(
                f"{path.relative_to(folder)} of the artefact is {what}: "
                "an artefact holds plain files and folders only."
            )


def pack(folder: Path, wrap: Path) -> str:
    """Make ``wrap`` an object of the folder's files, written out; return its content hash.

    The folder is moved, or copied and removed where it lies on another file system.
    """
    files = wrap / "files"
    try:
        folder.rename(files)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(folder, files)
        remove_tree(folder)
    _part_with_others(files, wrap / "own")
    manifest = folder_manifest(files)
    for name in manifest:
        (files / name).chmod(0o444)  # nobody changes an artefact by accident
        sync(files / name)
    for inner in files.rglob("*"):
        if inner.is_dir():
            sync(inner)
    sync(files)
    text = canonical({"files": manifest})
    write_atomically(wrap / "manifest.json", text + "\n", wrap / "manifest.tmp")
    return key("artifact", manifest)


def _part_with_others(files: Path, temporary: Path) -> None:
    """Give each file that has a second name bytes of its own: by that name they could change."""
    for path in files.rglob("*"):
        if path.is_file() and path.stat().st_nlink > 1:
            shutil.copyfile(path, temporary)
            temporary.replace(path)


def damage(target: Path, content: str) -> str | None:
    """Return what is wrong with an object, naming the file; None where it is whole."""
    if strange := _strange(target):
        return strange  # first: to read a pipe is to wait for whoever writes into it
    manifest = target / "manifest.json"
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        changed = key("artifact", said) != content
    except FileNotFoundError:
        return f"{manifest} is missing"
    except (ValueError, TypeError, KeyError):
        return f"{manifest} cannot be read"
    if changed:
        return f"{manifest} was changed"
    found = folder_manifest(target / "files")
    for name in sorted({*said, *found}):
        if said.get(name) != found.get(name):
            missing = "is missing" if name not in found else "was changed"
            how = "was added" if name not in said else missing
            return f"{target / 'files' / name} {how}"
    return None


def _strange(target: Path) -> str | None:
    """Return what of an object is neither file nor folder, None where all is plain.

    A link would be read through: what it points to may be anything, and may change.
    """
    try:
        for folder in (target, target / "files"):
            if folder.is_symlink():
                return f"{folder} is a link"
        require_plain(target)
    except StepError as error:
        return f"{target}: {error}"
    return None
