"""Samples whose images stay in memory once they were decoded, as far as they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dlas.core.protocols import Array, Labels, Samples

BYTES = 2**30
"""How much is kept."""


@dataclass(eq=False)
class Kept:
    """Samples that are read many times: those asked for first are decoded once."""

    samples: Samples
    most: int = BYTES
    """Bytes of images that are kept; what is beyond is decoded every time."""
    _where: NDArray[np.int64] = field(init=False)
    """The place of each image among those that are kept; -1: it is none of them."""
    _images: Array | None = None
    _count: int = 0

    def __post_init__(self) -> None:
        self._where = np.full(len(self.samples.labels), -1, dtype=np.int64)

    @property
    def labels(self) -> Labels:
        """The class of each image."""
        return self.samples.labels

    @property
    def ids(self) -> Sequence[str]:
        """The name of each image."""
        return self.samples.ids

    @property
    def content(self) -> str:
        """The hash of them all."""
        return self.samples.content

    def images(self, indices: Sequence[int]) -> Array:
        """Return images, float32 ``(len(indices), C, H, W)``, a copy."""
        if not len(indices):
            return self.samples.images(indices)
        wanted = np.asarray(indices, dtype=np.int64)
        new = np.unique(wanted[self._where[wanted] < 0])
        read = self.samples.images(new.tolist()) if len(new) or self._images is None else None
        if self._images is None:
            assert read is not None, "it is read where nothing is kept"
            count = min(len(self._where), self.most // max(1, read[0].nbytes))
            self._images = np.empty((count, *read.shape[1:]), dtype=read.dtype)
        out = np.empty((len(wanted), *self._images.shape[1:]), dtype=self._images.dtype)
        if read is not None:
            self._keep(new, read)
            fresh = self._where[wanted] < 0
            out[fresh] = read[np.searchsorted(new, wanted[fresh])]
        known = self._where[wanted] >= 0
        out[known] = self._images[self._where[wanted[known]]]
        return out

    def _keep(self, new: NDArray[np.int64], read: Array) -> None:
        """Put images where there is room."""
        assert self._images is not None, "it was made when the first were read"
        fits = new[: len(self._images) - self._count]
        self._where[fits] = np.arange(self._count, self._count + len(fits))
        self._images[self._count : self._count + len(fits)] = read[: len(fits)]
        self._count += len(fits)
