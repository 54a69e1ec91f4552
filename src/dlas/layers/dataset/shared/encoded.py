"""Samples that stay on disk, encoded, until they are asked for; and where they lie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlas.core.errors import UserError, listed
from dlas.core.keys import key
from dlas.core.placeholders import instead_of
from dlas.layers.dataset.shared.decoding import decode
from dlas.layers.dataset.shared.pixels import Preprocess, content_of, labels_hash
from dlas.layers.dataset.shared.tree import shown

if TYPE_CHECKING:
    from dlas.core.protocols import Array, Labels

SOURCE = __name__


@dataclass(frozen=True)
class EncodedSamples:
    """Samples that stay on disk, encoded, until they are asked for."""

    read: Callable[[Sequence[int]], Sequence[bytes]]
    """Returns the encoded images of indices."""
    labels: Labels
    ids: Sequence[str]
    prepare: Preprocess
    files: Sequence[tuple[str, Path]] = field(repr=False)
    """What the content hash is made of: a stable name and a path each."""

    @cached_property
    def content(self) -> str:
        """A hash of the files, which of their images these are, and the labels."""
        hashes = [[name, content_of(path)] for name, path in self.files]
        return key("samples", hashes, list(self.ids), labels_hash(self.labels))

    def images(self, indices: Sequence[int]) -> Array:
        """Return preprocessed images, float32 ``(len(indices), channels, size, size)``."""
        wanted = [int(i) for i in indices]
        out = np.empty(
            (len(wanted), self.prepare.channels, self.prepare.size, self.prepare.size), np.float32
        )
        for at, (index, data) in enumerate(zip(wanted, self.read(wanted), strict=True)):
            out[at] = decode(data, self.ids[index], self.prepare)
        return out


def of_files(
    root: Path, files: Sequence[Path], labels: Labels, prepare: Preprocess
) -> EncodedSamples:
    """Return the samples of image files below a root, one each, called by their path below it."""
    ids = tuple(shown(file, root) for file in files)

    def read(indices: Sequence[int]) -> list[bytes]:
        return [files[i].read_bytes() for i in indices]

    return EncodedSamples(read, labels, ids, prepare, tuple(zip(ids, files, strict=True)))


def existing(owner: str, root: str, expected: str) -> Path:
    """Return a root as a path.

    Raises:
        UserError: it is empty or there is nothing; ``expected`` says what should be there.
    """
    if not root:
        raise UserError(f"{owner}.root is empty: give a path to {expected}.")
    path = Path(root).expanduser()
    if not path.exists():
        raise UserError(
            f"{owner}.root: {root!r} does not exist (looked at {path.absolute()}): "
            f"give a path to {expected}."
        )
    return path


def not_fetched(root: Path, files: Iterable[Path]) -> tuple[str, ...]:
    """Return what to say of files that are no images, going by their first bytes."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if why := instead_of(file):
            found[why].append(file)
    return tuple(
        f"{len(those)} images cannot be read, {shown(those[0], root)} among them: {why}"
        for why, those in found.items()
    )


def without_images(names: Sequence[str], labels: Iterable[int]) -> tuple[str, ...]:
    """Return what to say of classes that no training image is of."""
    there = {*labels}
    empty = [name for number, name in enumerate(names) if number not in there]
    return (f"classes without training images: {listed(empty)}",) if empty else ()


def alike(train: Iterable[str], test: Iterable[str]) -> tuple[str, ...]:
    """Return what to say of images that stand in both splits, by the hashes of their bytes."""
    known, looked_at = set(train), list(test)
    both = sum(each in known for each in looked_at)
    if not both:
        return ()
    return (
        f"{both} of {len(looked_at)} test images also stand among the training images, byte for "
        "byte: accuracy on them says little",
    )
