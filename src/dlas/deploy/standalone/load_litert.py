"""Loads the network of this folder with LiteRT's interpreter, as it was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def load(folder: Path, settings: Mapping[str, Any], threads: int) -> Callable[[Any], Any]:
    """Return the network: one batch of float32 in, float32 out."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / "model.tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()

    def whole(x: Any) -> Any:
        kind, (scale, zero) = entry["dtype"], entry["quantization"]
        if kind == np.float32:
            return x
        limits = np.iinfo(kind)
        at = np.rint(x * np.float32(1 / scale)) + zero
        return at.clip(limits.min, limits.max).astype(kind)

    def run(x: Any) -> Any:
        interpreter.set_tensor(entry["index"], whole(x))
        interpreter.invoke()
        y = interpreter.get_tensor(end["index"])
        scale, zero = end["quantization"]
        if y.dtype == np.float32:
            return y
        return (y.astype(np.float32) - zero) * np.float32(scale)

    return run
