"""A folder of the user's images, one sub-folder a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from dlas.core.contents import Contents, split_read
from dlas.core.errors import UserError
from dlas.core.keys import key
from dlas.core.protocols import SPLITS, Dataset, DataSpec
from dlas.layers.dataset.shared import (
    class_folders,
    decoding,
    encoded,
    pixels,
    splits,
    tree,
    upright,
)
from dlas.layers.dataset.shared.class_folders import EXPECTED, Arrangement, arrange
from dlas.layers.dataset.shared.encoded import (
    EncodedSamples,
    alike,
    existing,
    not_fetched,
    of_files,
    without_images,
)
from dlas.layers.dataset.shared.pixels import (
    Interpolation,
    content_of,
    held_out,
    preprocess,
)
from dlas.layers.dataset.shared.tree import SUFFIXES, shown

if TYPE_CHECKING:
    from dlas.core.protocols import Labels, Split

SOURCES = tuple(
    module.SOURCE for module in (class_folders, decoding, encoded, pixels, splits, tree, upright)
)


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """Images in ``root/train/<class>/`` and ``root/test/<class>/`` (or ``val``).

    Splits are called so in any case, or by another word (``Training``, ``eval``, ``dev``, ...; see
    ``shared/splits.py``), above the classes or below them. Classes are numbered in the order of
    their names, as torchvision does. Where no folder is a split the classes lie in ``root``
    itself, and ``holdout`` of each class is the test split; where one of the two is missing, the
    other is divided so. What other programs leave (``__MACOSX``, ``._*``, dot files, ...) and
    what is no image is left out; ``dlas plan`` says what was read.
    Images are resized to ``resize`` (the shorter side; 0: ``size``), cropped to ``size`` and
    normalized by ``mean`` and ``std`` (empty: ImageNet's), and stay on disk until needed.
    """

    name: ClassVar[str] = "image-folder"
    licence: ClassVar[str] = "the user's own images"
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)
    sources: ClassVar[tuple[str, ...]] = SOURCES
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
        preprocess(self)

    def spec(self) -> DataSpec:
        """Return the shape of the problem; the folders of ``train`` are the classes."""
        classes = len(self._arranged().classes)
        return DataSpec(classes, self.channels, self.size, self.size, self.batch)

    def load(self, split: Split) -> EncodedSamples:
        """Return a split, sorted by class and file name.

        Raises:
            UserError: no such folder, no images, or a class that ``train`` has not.
        """
        found = self._arranged()
        files, labels = self._listed(found, split)
        return of_files(found.root, files, labels, preprocess(self))

    def fingerprint(self) -> Any:
        """Return a hash of all images: a folder that changed is another data set."""
        found = self._arranged()
        every = sorted({*self._listed(found, "train")[0], *self._listed(found, "test")[0]})
        return key([[shown(f, found.root), content_of(f)] for f in every])

    def contents(self) -> Contents:
        """Return the classes, the images of each split and where they come from."""
        found = self._arranged()
        mine = {split: self._listed(found, split) for split in SPLITS}
        count = len(found.classes)
        train, test = (
            split_read(mine[s][1].tolist(), count, self._where(found, s)) for s in SPLITS
        )
        hashes = [[content_of(f) for f in mine[split][0]] for split in SPLITS]
        without = without_images(found.classes, mine["train"][1].tolist())
        every = (file for split in SPLITS for file in mine[split][0])
        notes = (*found.notes, *without, *not_fetched(found.root, every), *alike(*hashes))
        return Contents(count, train, test, tuple(found.classes), dict(found.skipped), notes)

    def _arranged(self) -> Arrangement:
        root = existing(self.name, self.root, EXPECTED)
        if not root.is_dir():
            raise UserError(f"{self.name}.root: {self.root!r} is a file: give {EXPECTED}.")
        return arrange(root, self.name)

    def _listed(self, found: Arrangement, split: Split) -> tuple[list[Path], Labels]:
        """Return the images of a split and their classes; one folder for both is divided."""
        shared = len(found.images) == 1
        pairs = next(iter(found.images.values())) if shared else found.images[split]
        labels = np.array([c for _, c in pairs], dtype=np.int64)
        chosen = np.arange(len(pairs))
        if shared:
            test = held_out(labels, self.holdout)
            chosen = np.flatnonzero(test if split == "test" else ~test)
        if not len(chosen):
            place = next(iter(found.places.values())) if shared else found.places[split]
            raise UserError(
                f"{self.name}.root: no {split} images in {place} of {self.root!r} "
                f"({', '.join(sorted(SUFFIXES))}): give {EXPECTED}."
            )
        return [pairs[i][0] for i in chosen], labels[chosen]

    def _where(self, found: Arrangement, split: Split) -> str:
        if len(found.images) == 2:
            return found.places[split]
        share = self.holdout if split == "test" else 1 - self.holdout
        return f"{share:.4g} of each class of {next(iter(found.places.values()))} (holdout)"
