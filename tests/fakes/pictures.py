"""Small pictures in all modes and formats that people have, each with what is to be seen in it."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

SIZE = 16
HALF = SIZE // 2
MODES = ("RGB", "RGB", "L", "P", "RGBA", "LA", "CMYK", "I;16", "F", "1", "exif", "jpeg", "webp",
         "bmp", "jp2", "PA", "tRNS", "gif", "I;16 tiff")  # fmt: skip
DEEP = ("I;16", "F", "I;16 tiff")
GREY = ("L", "LA", *DEEP)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip
"""What a camera did to an upright picture, for each orientation that it notes."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture of four quarters."""

    mode: str
    ending: str
    data: bytes
    colours: tuple[tuple[int, int, int], ...]
    """What is to be seen: upper left, upper right, lower left, lower right."""


def draw(rng: random.Random, mode: str = "") -> Picture:
    """Return a picture of random colours in a mode (a random one, if none is given)."""
    mode = mode or rng.choice(MODES)
    colours = [tuple(rng.randrange(256) for _ in range(3)) for _ in range(4)]
    if mode in GREY:
        colours = [(v, v, v) for v, _, _ in colours]
    if mode == "1":
        colours = [(v, v, v) for v in rng.sample((0, 0, 255, 255), 4)]
    image = Image.fromarray(_quarters(colours))
    if mode in ("RGBA", "LA", "PA", "tRNS"):
        return _transparent(rng, mode, image, colours)
    if mode == "exif":
        ending, data = _turned(rng, image)
    elif mode in DEEP:
        ending, data = _deep(rng, mode, _quarters(colours)[..., 0])
    else:
        ending, data = _plain(rng, mode, image)
    return Picture(mode, ending, data, tuple(colours))


def _plain(rng: random.Random, mode: str, image: Image.Image) -> tuple[str, bytes]:
    if mode == "jpeg":
        ending = rng.choice((".jfif", ".JPEG"))
        return ending, _encoded(image, ending, quality=98, subsampling=0)
    if mode == "CMYK":
        return ".tif", _encoded(image.convert("CMYK"), ".tif")
    if mode in ("webp", "bmp", "jp2", "gif"):
        options = {"lossless": True} if mode == "webp" else {}
        return f".{mode}", _encoded(image, f".{mode}", **options)
    if mode == "P":
        return ".png", _encoded(image.quantize(4), ".png", pnginfo=_named(rng))
    return ".png", _encoded(image.convert(mode), ".png", pnginfo=_named(rng))


def _turned(rng: random.Random, image: Image.Image) -> tuple[str, bytes]:
    """Return a picture as a camera stores it that was held otherwise, and notes how."""
    note = rng.randint(2, 8)
    exif = Image.Exif()
    exif[0x0112] = note
    ending = rng.choice((".jpg", ".JPG", ".jpe"))
    stored = image.transpose(TURNS[note])
    return ending, _encoded(stored, ending, exif=exif, quality=98, subsampling=0)


def _deep(rng: random.Random, mode: str, grey: NDArray[np.uint8]) -> tuple[str, bytes]:
    if mode == "F":
        return ".tif", _encoded(Image.fromarray(grey.astype(np.float32) / 255), ".tif")
    image = Image.fromarray(grey.astype(np.uint16) * 257)
    if "tiff" in mode:
        return ".tiff", _encoded(image, ".tiff")
    return ".png", _encoded(image, ".png", pnginfo=_named(rng))


def _transparent(rng: random.Random, mode: str, image: Image.Image, colours: list[Any]) -> Picture:
    """Return a picture whose last quarter is not to be seen."""
    if mode == "tRNS":  # one colour is said to be transparent
        data = _encoded(image, ".png", transparency=colours[3], pnginfo=_named(rng))
    elif mode == "PA":
        data = _encoded(
            image.quantize(4), ".png", pnginfo=_named(rng),
            transparency=image.quantize(4).getpixel((SIZE - 1, SIZE - 1)),
        )  # fmt: skip
    else:
        alpha = np.full((SIZE, SIZE), 255, dtype=np.uint8)
        alpha[HALF:, HALF:] = 0
        layered = image.convert(mode[:-1])
        layered.putalpha(Image.fromarray(alpha))
        data = _encoded(layered, ".png", pnginfo=_named(rng))
    return Picture(mode, ".png", data, (*colours[:3], (255, 255, 255)))


def _quarters(colours: list[Any]) -> NDArray[np.uint8]:
    pixels = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    for at, colour in enumerate(colours):
        y, x = divmod(at, 2)
        pixels[y * HALF : (y + 1) * HALF, x * HALF : (x + 1) * HALF] = colour
    return pixels


def _named(rng: random.Random) -> PngImagePlugin.PngInfo:
    """Return a note in the file, so that no two are the same bytes."""
    info = PngImagePlugin.PngInfo()
    info.add_text("name", str(rng.random()))
    return info


def _encoded(image: Image.Image, ending: str, **options: Any) -> bytes:
    formats = {".jpg": "JPEG", ".jpe": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".tif": "TIFF",
               ".tiff": "TIFF", ".jp2": "JPEG2000"}  # fmt: skip
    out = io.BytesIO()
    name = formats.get(ending.lower(), ending[1:].upper())
    image.save(out, name, **options)
    return out.getvalue()


def within(array: NDArray[np.float32], picture: Picture, off: float = 10.0) -> str:
    """Return where a read picture (0 to 1, channels first) is not what is to be seen."""
    for at, colour in enumerate(picture.colours):
        y, x = (part * HALF + HALF // 2 for part in divmod(at, 2))
        seen = array[:, y, x] * 255
        if np.abs(seen - np.array(colour)).max() > off:
            return f"quarter {at} is {seen.round().astype(int).tolist()} instead of {colour}"
    return ""
