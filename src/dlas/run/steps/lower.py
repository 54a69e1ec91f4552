"""lower: a network in the form that a compiler or runtime reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlas.core.keys import Json
from dlas.core.protocols import Form
from dlas.run.measure.args import JobArgs, read_args
from dlas.run.steps.convert import to_exported, to_onnx
from dlas.run.steps.saved import load_network

FILES = {"onnx": "model.onnx", "exported": "model.pt2"}


@dataclass(frozen=True)
class LowerArgs:
    """What the step is asked for."""

    form: Form
    network: Path
    folder: Path


def run(args: JobArgs) -> dict[str, Json]:
    """Write ``model.onnx`` or ``model.pt2`` (float32)."""
    given = read_args(LowerArgs, args)
    network = load_network(given.network)
    path = given.folder / FILES[given.form]
    (to_onnx if given.form == "onnx" else to_exported)(network, path)
    return {"form": given.form, "bytes": path.stat().st_size}
