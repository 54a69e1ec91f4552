"""Loads the program of this folder with ExecuTorch, as it was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def load(folder: Path, settings: Mapping[str, Any], threads: int) -> Callable[[Any], Any]:
    """Return the network: one batch of float32 in, float32 out."""
    import numpy as np
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(threads)
    program = Runtime.get().load_program(str(folder / "model.pte"))
    method = program.load_method("forward")
    kind = np.float16 if settings["half"] else np.float32

    def run(x: Any) -> Any:
        given = torch.from_numpy(x.astype(kind, copy=False))
        (output,) = method.execute((given,))
        return output.numpy().astype("float32")

    return run
