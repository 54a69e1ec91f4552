"""Loads the network of this folder with OpenVINO, as it was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def load(folder: Path, settings: Mapping[str, Any], threads: int) -> Callable[[Any], Any]:
    """Return the network: one batch of float32 in, float32 out."""
    import openvino

    blob = (folder / "model.blob").read_bytes()
    properties = {**settings["properties"], "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().import_model(blob, "CPU", properties)
    request = compiled.create_infer_request()

    def run(x: Any) -> Any:
        return request.infer([x], share_inputs=True)[0]

    return run
