"""inputs: the fixed test images on which every artefact is checked and timed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlas.core.keys import Json
from dlas.core.protocols import Dataset
from dlas.run.measure.args import JobArgs, read_args
from dlas.run.steps import sampling


@dataclass(frozen=True)
class InputsArgs:
    """What the step is asked for."""

    dataset: Dataset
    folder: Path


def run(args: JobArgs) -> dict[str, Json]:
    """Write ``samples.npy`` (float32 NCHW), ``labels.npy`` and ``ids.json``."""
    given = read_args(InputsArgs, args)
    dataset, folder = given.dataset, given.folder
    spec = dataset.spec()
    samples = dataset.load("test")
    order = sampling.order(len(samples.labels))
    wanted = sampling.fixed_count(spec.batch)
    chosen = np.resize(order, wanted)  # a small test split is gone through again
    images = np.ascontiguousarray(samples.images(chosen.tolist()), dtype=np.float32)
    np.save(folder / "samples.npy", images)
    np.save(folder / "labels.npy", samples.labels[chosen])
    (folder / "ids.json").write_text(json.dumps([samples.ids[i] for i in chosen.tolist()]))
    return {
        "content": samples.content,
        "test_images": len(samples.labels),
        "distinct": min(wanted, len(order)),
        "shape": list(spec.shape),
        "licence": dataset.licence,
    }
