"""inputs: the fixed test images on which every artefact is checked and timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dlas.core import registry
from dlas.run.steps import sampling


def run(args: dict[str, Any]) -> dict[str, Any]:
    """Write ``samples.npy`` (float32 NCHW), ``labels.npy`` and ``ids.json``."""
    dataset = registry.dataset(args["dataset"])
    folder = Path(args["folder"])
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
