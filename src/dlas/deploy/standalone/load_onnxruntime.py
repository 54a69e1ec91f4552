"""Loads the network of this folder with ONNX Runtime, as it was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def load(folder: Path, settings: Mapping[str, Any], threads: int) -> Callable[[Any], Any]:
    """Return the network: one batch of float32 in, float32 out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in settings["options"].items():
        if "." in name:
            options.add_session_config_entry(name, str(value))
        else:
            members = getattr(type(getattr(options, name)), "__members__", None)
            setattr(options, name, members[value] if members else value)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    taken, given = session.get_inputs()[0].name, [session.get_outputs()[0].name]

    def run(x: Any) -> Any:
        return session.run(given, {taken: x})[0]

    return run
