"""What the image data sets share: preprocessing, and samples in memory.

PIL and numpy only, so that a measured process needs neither torch nor torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dlas.core.errors import UserError
from dlas.core.keys import bytes_hash, file_hash, key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dlas.core.protocols import Array, Labels

SOURCE = __name__

Interpolation = Literal["bilinear", "bicubic"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GREY_MEAN = (0.449,)
GREY_STD = (0.226,)


@dataclass(frozen=True)
class Preprocess:
    """From an image to the array a network sees: resize, centre crop, scale to 0..1, normalize.

    Without ``resize`` the shorter side becomes ``size``: the largest centred square is seen.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int = 0
    """Length of the shorter side before the crop; 0: ``size``."""
    interpolation: Interpolation = "bilinear"

    def apply(self, image: Any) -> Array:
        """Return the array of a PIL image in mode ``L`` or ``RGB``."""
        square = self._square(image)
        pixels = np.asarray(square, dtype=np.uint8)
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return self.normalize(planes.astype(np.float32) / np.float32(255))

    def normalize(self, planes: Array) -> Array:
        """Return arrays ``(..., channels, h, w)`` of 0..1 less the mean over the deviation."""
        mean = np.asarray(self.mean, dtype=np.float32)[:, None, None]
        std = np.asarray(self.std, dtype=np.float32)[:, None, None]
        return np.ascontiguousarray((planes - mean) / std, dtype=np.float32)

    def _square(self, image: Any) -> Any:
        from PIL import Image

        width, height = image.size
        shorter = self.resize or self.size
        if min(width, height) != shorter:
            scale = shorter / min(width, height)
            width, height = max(shorter, round(width * scale)), max(shorter, round(height * scale))
            how = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
            image = image.resize((width, height), how[self.interpolation])
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return image.crop((left, top, left + self.size, top + self.size))


def preprocess(dataset: Any) -> Preprocess:
    """Return the preprocessing that a data set's parameters say.

    It has ``name``, ``size``, ``resize``, ``channels``, ``mean``, ``std`` and ``interpolation``;
    an empty mean or std is ImageNet's.

    Raises:
        UserError: parameters that contradict each other, all of them together.
    """
    owner, size, channels, resize = dataset.name, dataset.size, dataset.channels, dataset.resize
    colour = channels == 3
    made = Preprocess(
        size=size,
        channels=channels,
        mean=dataset.mean or (IMAGENET_MEAN if colour else GREY_MEAN),
        std=dataset.std or (IMAGENET_STD if colour else GREY_STD),
        resize=resize,
        interpolation=dataset.interpolation,
    )
    problems = [
        f"{owner}.{name}: needs {channels} numbers, one a channel, got {list(values)}."
        for name, values in (("mean", made.mean), ("std", made.std))
        if len(values) != channels
    ]
    if any(s <= 0 for s in made.std):
        problems.append(f"{owner}.std: must be above 0, got {list(made.std)}.")
    if 0 < resize < size:
        problems.append(
            f"{owner}.resize: the shorter side ({resize}) must not be below size ({size})."
        )
    if problems:
        raise UserError(problems)
    return made


@dataclass(frozen=True)
class ArraySamples:
    """Samples held in memory as small integers; normalized when they are asked for."""

    pixels: NDArray[np.uint8]
    """``(n, height, width)``, grey."""
    labels: Labels
    ids: Sequence[str]
    prepare: Preprocess
    white: int = 255
    """The value of a white pixel."""

    @cached_property
    def content(self) -> str:
        """A hash of pixels and labels."""
        pixels = bytes_hash(np.ascontiguousarray(self.pixels).tobytes())
        return key("samples", list(self.pixels.shape), pixels, labels_hash(self.labels))

    def images(self, indices: Sequence[int]) -> Array:
        """Return preprocessed images, float32 ``(len(indices), 1, size, size)``."""
        from PIL import Image

        chosen = self.pixels[np.asarray(indices, dtype=np.int64)]
        size = self.prepare.size
        if chosen.shape[1:] == (size, size):
            planes = chosen[:, None].astype(np.float32) / np.float32(self.white)
            return self.prepare.normalize(planes)
        scaled = (chosen.astype(np.float32) * (255 / self.white)).round().astype(np.uint8)
        resized = [self.prepare.apply(Image.fromarray(image)) for image in scaled]
        return np.stack(resized) if resized else np.empty((0, 1, size, size), np.float32)


def content_of(path: Path) -> str:
    """Return the hash of a file; read again only when its size or time changed."""
    seen = path.stat()
    return _content_of(path, seen.st_size, seen.st_mtime_ns)


@cache
def _content_of(path: Path, size: int, mtime_ns: int) -> str:
    return file_hash(path)


def held_out(labels: Labels, share: float) -> NDArray[np.bool_]:
    """Return which samples are the test: ``share`` of each class, evenly spaced in its order.

    A class too small for its share gives one image or none, such that the whole is ``share``.
    """
    by_class = np.argsort(labels, kind="stable")
    place = np.arange(len(labels))
    taken = np.floor((place + 1) * share + 1e-9) > np.floor(place * share + 1e-9)
    chosen = np.zeros(len(labels), dtype=np.bool_)
    chosen[by_class] = taken
    return chosen


def labels_hash(labels: Labels) -> str:
    """Return the hash of labels."""
    return bytes_hash(np.ascontiguousarray(labels, dtype="<i8").tobytes())
