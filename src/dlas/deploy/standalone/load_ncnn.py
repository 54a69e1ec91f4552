"""Loads the network of this folder with ncnn, as it was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def load(folder: Path, settings: Mapping[str, Any], threads: int) -> Callable[[Any], Any]:
    """Return the network: one batch of float32 in, float32 out."""
    import ncnn
    import numpy as np

    net = ncnn.Net()
    for name, value in settings["options"].items():
        setattr(net.opt, name, value)
    net.opt.num_threads = threads
    if net.load_param(str(folder / "model.ncnn.param")):
        raise RuntimeError("ncnn does not read model.ncnn.param")
    if net.load_model(str(folder / "model.ncnn.bin")):
        raise RuntimeError("ncnn does not read model.ncnn.bin")

    def one(image: Any) -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(image).clone())
        failed, output = extractor.extract("out0")
        if failed:
            raise RuntimeError(f"ncnn: an inference fails with {failed}")
        return np.array(output, dtype=np.float32).reshape(-1)

    return lambda x: np.stack([one(image) for image in x])
