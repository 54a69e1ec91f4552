"""Loads the compiled network of this folder with PyTorch, as it was measured."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def load(folder: Path, settings: Mapping[str, Any], threads: int) -> Callable[[Any], Any]:
    """Return the network: one batch of float32 in, float32 out."""
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    package = str(folder / "package")
    loader = torch._C._aoti.AOTIModelPackageLoader(package, "model", False, 1, -1)
    kind = getattr(torch, settings["precision"])
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

    def run(x: Any) -> Any:
        with torch.inference_mode():
            images = torch.from_numpy(x).to(kind)
            return loader.boxed_run([images])[0].to(torch.float32).contiguous().numpy()

    return run
