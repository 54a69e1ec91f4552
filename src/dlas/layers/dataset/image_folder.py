"""A folder of the user's images, one sub-folder a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from dlas.core.errors import UserError
from dlas.core.keys import key
from dlas.core.protocols import Dataset, DataSpec
from dlas.layers.dataset.shared.pixels import (
    SOURCE,
    SUFFIXES,
    EncodedSamples,
    Interpolation,
    Preprocess,
    content_of,
    existing,
    held_out,
    preprocess,
)

if TYPE_CHECKING:
    from dlas.core.protocols import Labels, Split

EXPECTED = "a folder with train/<class>/*.png and test/<class>/*.png (or val/), or <class>/*.png"
FOLDERS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("test", "val", "valid", "validation"),
}


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """Images in ``root/train/<class>/`` and ``root/test/<class>/`` (or ``val``).

    Classes are numbered in the order of their names, as torchvision does. Where there is no
    ``train`` and no ``test`` folder the classes lie in ``root`` itself, and ``holdout`` of each
    class is the test split; where one of the two is missing, the other is divided so.
    Images are resized to ``resize`` (the shorter side; 0: ``size``), cropped to ``size`` and
    normalized by ``mean`` and ``std`` (empty: ImageNet's), and stay on disk until needed.
    """

    name: ClassVar[str] = "image-folder"
    licence: ClassVar[str] = "the user's own images"
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)
    sources: ClassVar[tuple[str, ...]] = (SOURCE,)
    places: ClassVar[tuple[str, ...]] = ("root",)
    batch: Annotated[int, Field(ge=1)] = 1
    root: str
    size: Annotated[int, Field(ge=4, le=4096)] = 224
    resize: Annotated[int, Field(ge=0, le=8192)] = 0
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: Interpolation = "bilinear"
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.2

    def __post_init__(self) -> None:
        self._preprocess()

    def spec(self) -> DataSpec:
        """Return the shape of the problem; the folders of ``train`` are the classes."""
        classes = len(self._classes())
        return DataSpec(classes, self.channels, self.size, self.size, self.batch)

    def load(self, split: Split) -> EncodedSamples:
        """Return a split, sorted by class and file name.

        Raises:
            UserError: no such folder, no images, or a class that ``train`` has not.
        """
        files, labels = self._listed(split)
        root = existing(self.name, self.root, EXPECTED)
        ids = tuple(file.relative_to(root).as_posix() for file in files)

        def read(indices: Sequence[int]) -> list[bytes]:
            return [files[i].read_bytes() for i in indices]

        named = tuple(zip(ids, files, strict=True))
        return EncodedSamples(read, labels, ids, self._preprocess(), named)

    def fingerprint(self) -> Any:
        """Return a hash of all images: a folder that changed is another data set."""
        root = existing(self.name, self.root, EXPECTED)
        listed = sorted({*self._listed("train")[0], *self._listed("test")[0]})
        return key([[f.relative_to(root).as_posix(), content_of(f)] for f in listed])

    def _preprocess(self) -> Preprocess:
        return preprocess(
            self.name,
            size=self.size,
            resize=self.resize,
            channels=self.channels,
            mean=self.mean,
            std=self.std,
            interpolation=self.interpolation,
        )

    def _folder(self, split: Split) -> tuple[Path, bool]:
        """Return where a split's classes lie, and whether it shares them with the other split."""
        root = existing(self.name, self.root, EXPECTED)
        if not root.is_dir():
            raise UserError(f"{self.name}.root: {self.root!r} is a file: give {EXPECTED}.")
        own, other = _first(root, split), _first(root, "test" if split == "train" else "train")
        return own or other or root, not (own and other)

    def _classes(self) -> list[str]:
        folder, _ = self._folder("train")
        classes = _subfolders(folder)
        if len(classes) < 2:
            raise UserError(
                f"{self.name}.root: {folder} holds {len(classes)} class folders, "
                f"at least 2 are needed: give {EXPECTED}."
            )
        return classes

    def _listed(self, split: Split) -> tuple[list[Path], Labels]:
        folder, shared = self._folder(split)
        classes = self._classes()
        if strange := [name for name in _subfolders(folder) if name not in classes]:
            raise UserError(
                f"{self.name}.root: {folder} holds the classes {', '.join(strange[:5])}, which "
                "the training folder has not: rename or remove them."
            )
        pairs = [(f, c) for c, name in enumerate(classes) for f in _images(folder / name)]
        labels = np.array([c for _, c in pairs], dtype=np.int64)
        chosen = np.arange(len(pairs))
        if shared:
            test = held_out(labels, self.holdout)
            chosen = np.flatnonzero(test if split == "test" else ~test)
        if not len(chosen):
            raise UserError(
                f"{self.name}.root: no {split} images in {folder} "
                f"({', '.join(sorted(SUFFIXES))}): give {EXPECTED}."
            )
        return [pairs[i][0] for i in chosen], labels[chosen]


def _first(root: Path, split: Split) -> Path | None:
    return next((root / name for name in FOLDERS[split] if (root / name).is_dir()), None)


def _subfolders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
