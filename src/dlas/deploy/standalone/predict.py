"""Predict with the network in this folder.

    python predict.py IMAGE...           the label of each image (or of the rows of a .npy file)

    from predict import predict
    predict(["cat.jpg"])                 labels, and the network's outputs

Needs what requirements.txt names, and nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
STACK: dict[str, Any] = json.loads((HERE / "stack.json").read_text(encoding="utf-8"))
# Libraries read these when they are loaded.
os.environ.update(STACK["runtime"]["environment"])

import numpy as np  # noqa: E402

Array = Any
"""A numpy array."""


class Prediction(NamedTuple):
    """What the network says of one image."""

    label: str
    number: int
    outputs: Array
    """One number a class, as the network gives them."""


def preprocess(image: Any) -> Array:
    """Return an image (a path, or a PIL image) as the network takes it, float32 ``(C, H, W)``.

    As a person sees it (upright, on white, eight bits), grey or RGB, the shorter side resized, the
    middle cropped, scaled to 0..1, normalized.
    """
    from PIL import Image
    from upright import as_seen

    asked = STACK["preprocessing"]
    if asked is None:
        raise ValueError("the data set says no preprocessing: give arrays (.npy) of inputs")
    if not isinstance(image, Image.Image):
        with Image.open(image) as opened:
            opened.load()
            image = opened
    image = as_seen(image, asked["channels"])
    width, height = image.size
    size, shorter = asked["size"], asked["resize"] or asked["size"]
    if min(width, height) != shorter:
        scale = shorter / min(width, height)
        width, height = max(shorter, round(width * scale)), max(shorter, round(height * scale))
        how = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        image = image.resize((width, height), how[asked["interpolation"]])
    left, top = (width - size) // 2, (height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.uint8)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    mean, std = (np.asarray(asked[n], np.float32)[:, None, None] for n in ("mean", "std"))
    scaled = planes.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray((scaled - mean) / std, dtype=np.float32)


@cache
def network(threads: int = 0) -> Callable[[Array], Array]:
    """Return the network: one batch ``(batch, C, H, W)`` in, ``(batch, classes)`` out.

    ``threads``: 0 for as many as were measured.
    """
    runtime = STACK["runtime"]
    load = importlib.import_module("runtime").load
    found: Callable[[Array], Array] = load(
        HERE / "artefact", runtime["settings"], threads or runtime["threads"]
    )
    return found


def outputs(inputs: Array, threads: int = 0) -> Array:
    """Return the network's outputs for any number of inputs ``(n, C, H, W)``, float32."""
    inputs = np.ascontiguousarray(inputs, dtype=np.float32)
    batch, *shape = STACK["input"]["shape"]
    if list(inputs.shape[1:]) != shape:
        raise ValueError(f"inputs must be (n, {', '.join(map(str, shape))}), got {inputs.shape}")
    run, found = network(threads), []
    for start in range(0, len(inputs), batch):
        part = inputs[start : start + batch]
        filled = np.concatenate([part, np.repeat(part[:1], batch - len(part), axis=0)])
        found.append(np.array(run(np.ascontiguousarray(filled)))[: len(part)])
    return np.concatenate(found).astype(np.float32)


def label(number: int) -> str:
    """Return the name of a class; its number where the data set names none."""
    names = STACK["labels"]
    return str(names[number]) if number < len(names) else str(number)


def predict(images: Sequence[Any], threads: int = 0) -> list[Prediction]:
    """Return what the network says of images: paths or PIL images."""
    if not images:
        return []
    found = outputs(np.stack([preprocess(image) for image in images]), threads)
    return [_prediction(row) for row in found]


def _prediction(row: Array) -> Prediction:
    number = int(row.argmax())
    return Prediction(label(number), number, row)


def main() -> int:
    """Print the label of each image that is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("images", nargs="+", help="image files, or .npy files of inputs")
    parser.add_argument("--threads", type=int, default=0, help="default: as measured")
    asked = parser.parse_args()
    failed = 0
    for name in asked.images:
        try:
            if name.endswith(".npy"):
                rows = outputs(np.load(name, allow_pickle=False), asked.threads)
                found = [_prediction(row) for row in rows]
            else:
                found = predict([name], asked.threads)
        except (OSError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 2
            continue
        for one in found:
            print(
                f"{name}: {one.label} (class {one.number}, output {one.outputs[one.number]:.4g})"
            )
    return failed


if __name__ == "__main__":
    sys.exit(main())
