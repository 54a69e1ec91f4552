"""reference: the outputs that a lowered network has to reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dlas.run.steps.forward import forward, in_batches
from dlas.run.steps.saved import load_network


def run(args: dict[str, Any]) -> dict[str, Any]:
    """Write ``outputs.npy``: the optimized network's outputs on the fixed images, unlowered."""
    network = load_network(Path(args["network"]))
    images = np.load(Path(args["inputs"]) / "samples.npy")
    outputs = in_batches(forward(network), images, network.spec.batch)
    np.save(Path(args["folder"]) / "outputs.npy", outputs)
    return {"images": len(images), "finite": bool(np.isfinite(outputs).all())}
