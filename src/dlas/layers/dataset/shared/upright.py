"""The picture that a person sees in an image file: upright, flat, eight bits. PIL and numpy alone.

- An orientation in the metadata is followed; of several frames or pages the first is taken.
- Transparent parts are white: what colour lies hidden below does not show.
- 16-bit grey is scaled by its range (of TIFF files the bits that they state), float by 0 to 1.
- Grey and colour become what the data set asks for; CMYK, palettes and one bit are converted.

An exported network carries this file, so that it sees what was measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SOURCE = __name__

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""TIFF's tags: the bits of a sample, what its zero means, whether it has a sign."""
_WHITE_IS_ZERO, _UNSIGNED = 0, (None, 1, (1,))
_SAMPLE_16 = ("PNG", "PPM", "JPEG2000")
"""Formats whose deep grey is always read to 16 bits."""


def as_seen(image: Any, channels: int) -> Any:
    """Return a PIL image as ``L`` (1 channel) or ``RGB``.

    Raises:
        ValueError: nothing says which value is white.
    """
    return _flat(_upright(_deep(image)), channels)


def _upright(image: Any) -> Any:
    """Return an image turned as its metadata say; metadata that cannot be read say nothing."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever is wrong with the metadata, the pixels decide
        return image


def _flat(image: Any, channels: int) -> Any:
    """Return an image as ``L`` or ``RGB``, transparent parts white."""
    from PIL import Image

    wanted = "L" if channels == 1 else "RGB"
    if not _transparent(image):
        return image.convert(wanted)
    layers = image.convert("RGBA")
    white = Image.new("RGBA", layers.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layers).convert(wanted)


def _transparent(image: Any) -> bool:
    palette = getattr(image, "palette", None)
    return (
        image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
        or "transparency" in image.info
        or (image.mode == "P" and palette is not None and palette.mode.endswith("A"))
    )


# ---------------------------------------------------------------- more than eight bits


def _deep(image: Any) -> Any:
    """Return an image of eight bits a sample: deeper grey is scaled, the rest left as it is.

    Raises:
        ValueError: nothing says which value is white.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    from PIL import Image

    image.load()
    made = Image.fromarray(_eight_bits(image))
    made.info, exif = {}, image.getexif()
    if 0x0112 in exif:
        made.getexif()[0x0112] = exif[0x0112]
    return made


def _eight_bits(image: Any) -> Any:
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image).astype(np.float64)
    white = _white(image, tags, values)
    share = values / white
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        share = 1 - share
    return (share * 255).round().astype(np.uint8)


def _white(image: Any, tags: Any, values: Any) -> float:
    """Return the value that is white."""
    least, most = float(values.min()), float(values.max())
    span = f"values go from {least:g} to {most:g}"
    if image.mode == "F":
        if not (least >= 0 and most <= 1):
            raise ValueError(f"it holds floats, whose {span}, and only 0 to 1 is read")
        return 1.0
    stated = tags.get(_BITS_PER_SAMPLE, (16 if image.format in _SAMPLE_16 else 0,))
    bits = int(stated[0] if isinstance(stated, tuple) else stated)
    deep = bits or (16 if image.mode.startswith("I;16") else 32)
    signed = least < 0 or tags.get(_SAMPLE_FORMAT) not in _UNSIGNED
    if not 8 <= deep <= 16 or signed or most > 2**deep - 1:
        raise ValueError(
            f"it holds {'signed ' * signed}integers of {deep} bits, whose {span}: nothing says "
            "which is white; 8 to 16 bits without sign are read"
        )
    return float(2**deep - 1)
