"""evaluate: is the artefact's output right, and how accurate is it, on real test images?

``run`` looks at a built artefact in its own runtime; ``run_baseline`` at the unoptimized network
in PyTorch. What counts as right stands in :mod:`dlas.run.measure.verdict`. Both write
``evaluation.json`` and go on from an earlier one (``previous``), so that more evaluated samples
only add.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlas.core import registry
from dlas.core.protocols import Dataset
from dlas.run.measure.verdict import compare_outputs
from dlas.run.steps import sampling
from dlas.run.steps.forward import forward, in_batches
from dlas.run.steps.saved import load_network

if TYPE_CHECKING:
    from dlas.core.protocols import Array

CHUNK = 256


def run(args: dict[str, Any]) -> dict[str, Any]:
    """Compare with the lowering reference, then predict the evaluated subset."""
    software = registry.software(args["software"])
    hardware = registry.hardware(args["hardware"])
    dataset = registry.dataset(args["dataset"])
    session = software.load(Path(args["artifact"]), hardware)
    images = np.load(Path(args["inputs"]) / "samples.npy")
    reference = np.load(Path(args["reference"]) / "outputs.npy")
    outputs = in_batches(session, images, dataset.spec().batch)
    facts = {"comparison": compare_outputs(outputs, reference)}
    return _predict(session, dataset, args) | facts


def run_baseline(args: dict[str, Any]) -> dict[str, Any]:
    """Predict the evaluated subset with the unoptimized network, float32, in PyTorch."""
    dataset = registry.dataset(args["dataset"])
    network = load_network(Path(args["network"]))
    return _predict(forward(network), dataset, args)


def _predict(
    run_one: Callable[[Array], Array], dataset: Dataset, args: dict[str, Any]
) -> dict[str, Any]:
    known: dict[str, list[int]] = {"labels": [], "correct": []}
    if args.get("previous"):
        known = json.loads((Path(args["previous"]) / "evaluation.json").read_text())
    samples = dataset.load("test")
    start = len(known["labels"])
    wanted = sampling.order(len(samples.labels))[: args["samples"]]
    spec = dataset.spec()
    for at in range(start, len(wanted), CHUNK):
        part = wanted[at : at + CHUNK].tolist()
        outputs = in_batches(run_one, samples.images(part), spec.batch)
        known["labels"] += outputs.argmax(axis=1).tolist()
        right = dataset.correct(outputs, samples.labels[part])
        known["correct"] += [int(r) for r in right]
    (Path(args["folder"]) / "evaluation.json").write_text(json.dumps(known))
    return {"n": len(known["labels"]), "of": len(samples.labels), "content": samples.content}
