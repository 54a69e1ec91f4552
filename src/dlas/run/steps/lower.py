"""lower: a network in the form that a compiler or runtime reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlas.run.steps.convert import to_exported, to_onnx
from dlas.run.steps.saved import load_network

FILES = {"onnx": "model.onnx", "exported": "model.pt2"}


def run(args: dict[str, Any]) -> dict[str, Any]:
    """Write ``model.onnx`` or ``model.pt2`` (float32)."""
    network = load_network(Path(args["network"]))
    path = Path(args["folder"]) / FILES[args["form"]]
    (to_onnx if args["form"] == "onnx" else to_exported)(network, path)
    return {"form": args["form"], "bytes": path.stat().st_size}
