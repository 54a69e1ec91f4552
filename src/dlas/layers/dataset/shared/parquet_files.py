"""Which Parquet files below a root are of which split: any part of a path can say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.core.errors import UserError, listed
from dlas.core.protocols import SPLITS
from dlas.layers.dataset.shared.pixels import content_of
from dlas.layers.dataset.shared.splits import Role, role_of, roles_of
from dlas.layers.dataset.shared.tree import leftover, readable

if TYPE_CHECKING:
    from dlas.core.protocols import Split

SOURCE = __name__
EXPECTED = "a Parquet file or a folder of them, with columns image {bytes, path} and label"


@dataclass
class ParquetFiles:
    """The files of each split; with one split alone its files serve both."""

    root: Path
    files: dict[Split, list[Path]] = field(default_factory=dict)
    names: dict[Path, str] = field(default_factory=dict)
    """A name for each file, without ending, that no other file has."""
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def shared(self) -> bool:
        """Whether both splits are taken out of the same files."""
        return len(self.files) == 1

    def of(self, split: Split) -> list[Path]:
        """Return the files of a split."""
        return next(iter(self.files.values())) if self.shared else self.files[split]

    def every(self) -> list[Path]:
        """Return all files, sorted."""
        return sorted({path for files in self.files.values() for path in files})

    def shown(self, path: Path) -> str:
        """Return a path as a person reads it."""
        return _text(_inner(self.root, path))


def find_files(root: Path, pattern: str) -> ParquetFiles:
    """Return the files of each split below a root, or the one file that it is.

    Raises:
        UserError: no file is there, one is named for both splits, or both have the same content.
        ValueError, NotImplementedError: the pattern is none.
    """
    found = ParquetFiles(root)
    files = [root] if root.is_file() else _matching(root, pattern, found)
    if not files:
        raise UserError(_nothing(root, pattern, found))
    roles = {path: r for path in files if (r := _role(root, path))}
    for split in SPLITS:
        _take(found, split, files, roles)
    if not found.files:
        found.files["train"] = files
    used = set(found.every())
    for path in files:
        if path not in used:
            role = roles.get(path)
            taken = f"since {found.shown(found.of(role.split)[0])} is taken" if role else ""
            found.skipped[f"{found.shown(path)}, {taken or 'which names no split'}"] += 1
    found.names = _names(root, sorted(used))
    _check_apart(found)
    _note_folders(found)
    return found


def _take(
    found: ParquetFiles, split: Split, files: Sequence[Path], roles: dict[Path, Role]
) -> None:
    ranks = [role.rank for role in roles.values() if role.split == split]
    if ranks:
        found.files[split] = [p for p in files if roles.get(p) == Role(split, min(ranks))]


def _role(root: Path, path: Path) -> Role | None:
    """Return the split that a file's path below the root names.

    Raises:
        UserError: it names both, or two that serve as test.
    """
    parts = [_text(part) for part in (*_inner(root, path).parent.parts, path.stem)]
    roles = {role for part in parts for role in roles_of(part)}
    return role_of("parquet", _text(_inner(root, path)), roles)


def _inner(root: Path, path: Path) -> Path:
    return Path(path.name) if path == root else path.relative_to(root)


def _text(path: Path | str) -> str:
    return readable(str(path))


def _matching(root: Path, pattern: str, found: ParquetFiles) -> list[Path]:
    files = []
    for path in sorted(root.glob(pattern)):
        if why := next((w for part in _inner(root, path).parts if (w := leftover(part))), None):
            found.skipped[why] += 1
        elif path.is_file():
            files.append(path)
    return files


def _nothing(root: Path, pattern: str, found: ParquetFiles) -> str:
    there = sorted({_text(p.suffix) or "no ending" for p in root.glob("**/*") if p.is_file()})
    seen = f" There are files with {listed(there)}." if there else " It is empty."
    left = "".join(f" Left out: {n} {why}." for why, n in found.skipped.items())
    return (
        f"parquet: no file in {_text(root)!r} matches the pattern {pattern!r}: give {EXPECTED}."
        f"{seen}{left}"
    )


def _names(root: Path, files: Sequence[Path]) -> dict[Path, str]:
    """Return each file's name, with its folders where two have the same."""
    several = len({path.stem for path in files}) < len(files)
    return {
        path: _text(_inner(root, path).with_suffix("").as_posix() if several else path.stem)
        for path in files
    }


def _check_apart(found: ParquetFiles) -> None:
    """Refuse a file that stands in both splits under two names."""
    if found.shared:
        return
    train = {content_of(path): path for path in found.files["train"]}
    for path in found.files["test"]:
        if twin := train.get(content_of(path)):
            raise UserError(
                f"parquet: {found.shown(path)} and {found.shown(twin)} are the same file, once "
                "as test and once as training images: take one out, or leave it out by `pattern`."
            )


def _note_folders(found: ParquetFiles) -> None:
    """Say so where a split's files come from different folders, perhaps of different data sets."""
    for split, files in found.files.items():
        folders = sorted({_text(_cover(found.root, path)) for path in files})
        if len(folders) > 1:
            found.notes.append(
                f"the {split} files are of {len(folders)} folders ({listed(folders)}): if these "
                "are different data sets, pick one by `pattern`"
            )


def _cover(root: Path, path: Path) -> Path:
    """Return the folders above the part of a path that names its split."""
    inner = _inner(root, path).parent
    named = [at for at, part in enumerate(inner.parts) if roles_of(_text(part))]
    return Path(*inner.parts[: named[0]]) if named else inner
