"""Loads the network of this folder with PyTorch, as it was measured.

The module is read by PyTorch's restricted unpickler, which admits the classes and functions that
stack.json lists, and nothing else. Code that no package brings lies in artefact/sources. A network
in int8 is a list of operations, which the folder `int8_operators` computes.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Copies(importlib.abc.MetaPathFinder):
    """Finds the copies of the network's own modules."""

    def __init__(self, places: Mapping[str, tuple[Path, bool]]) -> None:
        self.places = places

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """Return where the copy of a module lies, None for any other module."""
        if fullname not in self.places:
            return None
        place, package = self.places[fullname]
        inside = [str(place.parent)] if package else None
        return importlib.util.spec_from_file_location(
            fullname, place, submodule_search_locations=inside
        )


def load(folder: Path, settings: Mapping[str, Any], threads: int) -> Callable[[Any], Any]:
    """Return the network: one batch of float32 in, float32 out."""
    import torch

    narrow = settings["precision"] == "int8"
    module: Any = None if narrow else stored(folder, settings)
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    if narrow and "onednn" in torch.backends.quantized.supported_engines:
        torch.backends.quantized.engine = "onednn"  # unless an option says otherwise
    for name, value in settings["options"].items():
        *path, leaf = name.split(".")
        owner: Any = torch.backends
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, leaf, value)
    if narrow:  # behind the options, which say whose kernels its weights are packed for
        module = importlib.import_module("int8_operators.torch_int8").load_operations(folder)
    kind = torch.float32 if narrow else getattr(torch, settings["precision"])
    last = settings["layout"] == "nhwc"
    form = torch.channels_last if last else torch.contiguous_format
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

    def run(x: Any) -> Any:
        with torch.inference_mode():
            images = torch.from_numpy(x).to("cpu", kind, memory_format=form)
            return module(images).to("cpu", torch.float32).contiguous().numpy()

    return run


def stored(folder: Path, settings: Mapping[str, Any]) -> Any:
    """Return the stored module, or the graph that was exported of it."""
    import torch

    if settings["form"] == "graph":
        return torch.export.load(folder / "graph.pt2").module()
    places = {
        name: (folder / "sources" / f"{name}.py", package)
        for name, package in settings["sources"].items()
    }
    sys.meta_path.insert(0, Copies(places))
    allowed = []
    for name in settings["globals"]:
        owner, _, leaf = name.rpartition(".")
        allowed.append(getattr(importlib.import_module(owner), leaf))
    with torch.serialization.safe_globals(allowed):
        return torch.load(folder / "module.pt", map_location="cpu", weights_only=True)
