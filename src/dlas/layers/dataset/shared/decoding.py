"""From the bytes of an image file to the array that a network sees."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING

from dlas.core.errors import UserError
from dlas.core.placeholders import HEAD, instead
from dlas.layers.dataset.shared.upright import as_seen

if TYPE_CHECKING:
    from dlas.core.protocols import Array
    from dlas.layers.dataset.shared.pixels import Preprocess

SOURCE = __name__


def decode(data: bytes, name: str, prepare: Preprocess) -> Array:
    """Return the array of an encoded image, float32 ``(channels, size, size)``.

    Raises:
        UserError: the bytes are no image that PIL can read, or its range of values is not known.
    """
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as image:
            return prepare.apply(as_seen(image, prepare.channels))
    except (
        OSError,
        ValueError,
        SyntaxError,
        KeyError,
        TypeError,
        IndexError,
        OverflowError,
        EOFError,
        Image.DecompressionBombError,
    ) as error:  # PIL's readers raise any of these on damaged files
        why = instead(data[:HEAD]) or _without_address(error)
        raise UserError(
            f"image {name} cannot be decoded ({len(data)} bytes): {why}. "
            "Replace it or take it out of the data set."
        ) from error


def _without_address(error: Exception) -> str:
    """Return what PIL says, without the name of the object that it read from."""
    return (
        re.sub(r" ?<_io\.BytesIO object at \w+>", "", str(error)).rstrip(".")
        or type(error).__name__
    )
