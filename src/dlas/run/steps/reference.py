"""reference: the outputs that a lowered network has to reproduce."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlas.core.keys import Json
from dlas.run.measure.args import JobArgs, read_args
from dlas.run.steps.forward import forward, in_batches
from dlas.run.steps.saved import load_network


@dataclass(frozen=True)
class ReferenceArgs:
    """What the step is asked for."""

    network: Path
    inputs: Path
    folder: Path


def run(args: JobArgs) -> dict[str, Json]:
    """Write ``outputs.npy``: the optimized network's outputs on the fixed images, unlowered."""
    given = read_args(ReferenceArgs, args)
    network = load_network(given.network)
    images = np.load(given.inputs / "samples.npy")
    outputs = in_batches(forward(network), images, network.spec.batch)
    np.save(given.folder / "outputs.npy", outputs)
    return {"images": len(images), "finite": bool(np.isfinite(outputs).all())}
