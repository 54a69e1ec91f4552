"""What the image data sets share: preprocessing, samples in memory, samples decoded when asked.

PIL and numpy only, so that a measured process needs neither torch nor torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from io import BytesIO
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

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
)


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

    def decode(self, data: bytes, name: str) -> Array:
        """Return the array of an encoded image, float32 ``(channels, size, size)``.

        Raises:
            UserError: the bytes are no image that PIL can read.
        """
        from PIL import Image

        try:
            with Image.open(BytesIO(data)) as image:
                return self.apply(image.convert("L" if self.channels == 1 else "RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(
                f"image {name} cannot be decoded ({len(data)} bytes): {error}. "
                "Replace it or take it out of the data set."
            ) from error

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


def preprocess(
    owner: str,
    *,
    size: int,
    resize: int,
    channels: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    interpolation: Interpolation,
) -> Preprocess:
    """Return the preprocessing of checked parameters; an empty mean or std is ImageNet's.

    Raises:
        UserError: parameters that contradict each other, all of them together.
    """
    colour = channels == 3
    made = Preprocess(
        size=size,
        channels=channels,
        mean=mean or (IMAGENET_MEAN if colour else GREY_MEAN),
        std=std or (IMAGENET_STD if colour else GREY_STD),
        resize=resize,
        interpolation=interpolation,
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
        return key("samples", list(self.pixels.shape), pixels, _labels_hash(self.labels))

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
        return key("samples", hashes, list(self.ids), _labels_hash(self.labels))

    def images(self, indices: Sequence[int]) -> Array:
        """Return preprocessed images, float32 ``(len(indices), channels, size, size)``."""
        wanted = [int(i) for i in indices]
        out = np.empty(
            (len(wanted), self.prepare.channels, self.prepare.size, self.prepare.size), np.float32
        )
        for at, (index, data) in enumerate(zip(wanted, self.read(wanted), strict=True)):
            out[at] = self.prepare.decode(data, self.ids[index])
        return out


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


def _labels_hash(labels: Labels) -> str:
    return bytes_hash(np.ascontiguousarray(labels, dtype="<i8").tobytes())
