"""Loads the network of this folder with TVM's runtime library, as it was measured.

The folder `kernel_loader` beside it is the loader of `dlas.kernels`; it holds the runtime library,
so that neither TVM's compiler nor the package `apache-tvm` is needed.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def load(folder: Path, settings: Mapping[str, Any], threads: int) -> Callable[[Any], Any]:
    """Return the network: one batch of float32 in, float32 out."""
    os.environ["TVM_NUM_THREADS"] = str(threads)
    program = importlib.import_module("kernel_loader.program").load(folder, threads=threads)
    run: Callable[[Any], Any] = program.run
    return run
