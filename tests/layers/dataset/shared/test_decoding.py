"""What is seen of pictures in every mode, and which are refused."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlas.core.errors import UserError
from dlas.layers.dataset.shared.decoding import decode
from dlas.layers.dataset.shared.pixels import Preprocess
from pictures import HALF, MODES, SIZE, TURNS, draw, within

COLOUR = Preprocess(SIZE, 3, (0.0,) * 3, (1.0,) * 3)
GREY = Preprocess(SIZE, 1, (0.0,), (1.0,))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("mode", sorted(set(MODES)))
def test_pictures_of_every_mode_are_seen(mode: str) -> None:
    for seed in range(3):
        picture = draw(random.Random(seed), mode)
        assert not within(decode(picture.data, "it", COLOUR), picture)
        if mode in ("L", "I;16", "F"):
            grey = decode(picture.data, "it", GREY)
            assert abs(grey[0, 0, 0] * 255 - picture.colours[0][0]) < 1


@pytest.mark.parametrize("note", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_followed_once(note: int, kind: str) -> None:
    pixels = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    pixels[:HALF, :HALF] = 255  # white is upper left
    exif = Image.Exif()
    exif[0x0112] = note
    stored = Image.fromarray(pixels).transpose(TURNS[note])
    seen = decode(encoded(stored, kind, exif=exif), "it", COLOUR)
    assert seen[0, 4, 4] > 0.9
    assert max(seen[0, 12, 4], seen[0, 4, 12], seen[0, 12, 12]) < 0.1


def test_a_deep_picture_is_turned_too() -> None:
    pixels = np.zeros((SIZE, SIZE), dtype=np.uint16)
    pixels[:HALF, :HALF] = 65535
    exif = Image.Exif()
    exif[0x0112] = 3
    stored = Image.fromarray(pixels).transpose(TURNS[3])
    for kind in ("PNG", "TIFF"):
        assert decode(encoded(stored, kind, exif=exif), "it", GREY)[0, 4, 4] == 1


def test_hidden_colours_do_not_show() -> None:
    seen = []
    for hidden in ((0, 0, 0), (240, 60, 30), (255, 255, 255)):
        pixels = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
        pixels[..., :3], pixels[..., 3] = hidden, 0
        pixels[4:12, 4:12] = (200, 30, 10, 255)
        seen.append(decode(encoded(Image.fromarray(pixels), "PNG"), "it", COLOUR))
    assert np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])
    assert (seen[0][:, 0, 0] == 1).all()  # white


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_metadata_change_nothing() -> None:
    image = Image.fromarray(np.full((SIZE, SIZE, 3), 77, dtype=np.uint8))
    data = encoded(image, "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xffgarbage", quality=98)
    assert abs(decode(data, "it", COLOUR)[0, 0, 0] * 255 - 77) < 2


def test_tiff_says_how_many_bits_it_has_and_what_zero_means() -> None:
    grey = np.full((SIZE, SIZE), 65535, dtype=np.uint16)
    inverse = encoded(Image.fromarray(grey), "TIFF", tiffinfo={262: 0})
    assert decode(inverse, "it", GREY).max() == 0


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((8, 8), 70000, dtype=np.int32), "integers of 32 bits.*nothing says which"),
        (np.full((8, 8), -5, dtype=np.int32), "signed integers of 32 bits"),
        (np.full((8, 8), 200.0, dtype=np.float32), "floats, whose values go from 200 to 200"),
        (np.full((8, 8), np.nan, dtype=np.float32), "floats"),
    ],
)
def test_what_has_no_known_white_is_refused(pixels: Any, message: str) -> None:
    data = encoded(Image.fromarray(pixels), "TIFF")
    with pytest.raises(UserError, match=rf"image a/b\.tif cannot be decoded.*{message}"):
        decode(data, "a/b.tif", COLOUR)


@pytest.mark.parametrize("cut", [0, 10, 60, 200])
def test_what_is_cut_off_is_named(cut: int) -> None:
    data = draw(random.Random(0), "jpeg").data[:cut]
    with pytest.raises(UserError, match="image x cannot be decoded"):
        decode(data, "x", COLOUR)
