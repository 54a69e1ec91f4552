"""A folder of images without labels: what counts is agreement with the original network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from dlas.core.contents import Contents, split_read
from dlas.core.errors import UserError
from dlas.core.keys import key
from dlas.core.protocols import (
    SPLITS,
    Dataset,
    DataSpec,
    Refusal,
    Split,
    Techniques,
    impossible,
)
from dlas.layers.dataset.shared import decoding, encoded, pixels, tree, upright
from dlas.layers.dataset.shared.encoded import (
    EncodedSamples,
    existing,
    not_fetched,
    of_files,
)
from dlas.layers.dataset.shared.pixels import (
    Interpolation,
    content_of,
    held_out,
    preprocess,
)
from dlas.layers.dataset.shared.tree import Folder, scan, shown

SOURCES = tuple(m.SOURCE for m in (decoding, encoded, pixels, tree, upright))
EXPECTED = "a folder that holds images, itself or in folders"


@dataclass(frozen=True, kw_only=True)
class UnlabelledImages(Dataset):
    """All images below ``root``, without labels, for a network of ``classes`` outputs.

    In the place of accuracy stands the share of images that get the label which the original
    network gives them. ``holdout`` of the images, evenly spaced by name, are the test split; the
    others calibrate. Resizing and normalizing are those of ``image-folder``.
    """

    name: ClassVar[str] = "unlabelled-images"
    licence: ClassVar[str] = "the user's own images"
    labelled: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)
    sources: ClassVar[tuple[str, ...]] = SOURCES
    places: ClassVar[tuple[str, ...]] = ("root",)
    batch: Annotated[int, Field(ge=1)] = 1
    root: str
    classes: Annotated[int, Field(ge=2)]
    size: Annotated[int, Field(ge=4, le=4096)] = 224
    resize: Annotated[int, Field(ge=0, le=8192)] = 0
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: Interpolation = "bilinear"
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def __post_init__(self) -> None:
        preprocess(self)

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse what trains: there is nothing to train towards."""
        training = [o.name for o in stack.optimization if getattr(o, "epochs", 0)]
        if training:
            return impossible(
                f"{', '.join(training)} fine-tunes on labels, and these images have none: "
                "take epochs: 0, or a data set with labels"
            )
        return None

    def spec(self) -> DataSpec:
        """Return the shape of the problem."""
        return DataSpec(self.classes, self.channels, self.size, self.size, self.batch)

    def load(self, split: Split) -> EncodedSamples:
        """Return a split, sorted by name; every label is 0.

        Raises:
            UserError: no such folder, or fewer than two images.
        """
        folder, files = self._listed()
        mine = self._part(files, split)
        nothing = np.zeros(len(mine), dtype=np.int64)
        return of_files(folder.path, mine, nothing, preprocess(self))

    def fingerprint(self) -> Any:
        """Return a hash of all images: a folder that changed is another data set."""
        folder, files = self._listed()
        return key([[shown(f, folder.path), content_of(f)] for f in files])

    def contents(self) -> Contents:
        """Return the images of each split, and what was left out."""
        folder, files = self._listed()
        train, test = (
            split_read([0] * len(self._part(files, split)), self.classes) for split in SPLITS
        )
        return Contents(
            self.classes,
            train,
            test,
            skipped=dict(folder.left_out()),
            notes=not_fetched(folder.path, files),
        )

    def _part(self, files: Sequence[Path], split: Split) -> list[Path]:
        """Return which of all images are of a split."""
        test = held_out(np.zeros(len(files), dtype=np.int64), self.holdout)
        return [file for file, held in zip(files, test, strict=True) if held == (split == "test")]

    def _listed(self) -> tuple[Folder, list[Path]]:
        folder = scan(existing(self.name, self.root, EXPECTED))
        files = sorted(folder.every())
        if len(files) < 2:
            raise UserError(
                f"{self.name}.root: {self.root!r} holds {len(files)} images, at least 2 are "
                f"needed: give {EXPECTED}."
            )
        return folder, files
