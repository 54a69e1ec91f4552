"""evaluate: is the artefact's output right, and how accurate is it, on real test images?

``run`` looks at a built artefact in its own runtime; ``run_baseline`` at the unoptimized network
in PyTorch. What counts as right stands in :mod:`dlas.run.measure.verdict`. Both write
``evaluation.json`` and go on from an earlier one (``previous``), so that more evaluated samples
only add.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from dlas.core.protocols import Dataset, HardwareTechnique, Software
from dlas.run.measure.args import JobArgs, read_args
from dlas.run.measure.verdict import OutputComparison, compare_outputs
from dlas.run.steps import sampling
from dlas.run.steps.forward import forward, in_batches
from dlas.run.steps.saved import load_network

if TYPE_CHECKING:
    from dlas.core.protocols import Array

CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class SubsetArgs:
    """The evaluated subset, and where its predictions go."""

    dataset: Dataset
    folder: Path
    samples: int
    """Images of the subset."""
    previous: Path | None = None
    """The folder of an earlier evaluation, to go on from."""


@dataclass(frozen=True, kw_only=True)
class EvaluateArgs(SubsetArgs):
    """What :func:`run` is asked for."""

    software: Software
    hardware: HardwareTechnique
    artifact: Path
    inputs: Path
    reference: Path


@dataclass(frozen=True, kw_only=True)
class BaselineArgs(SubsetArgs):
    """What :func:`run_baseline` is asked for."""

    network: Path


class EvaluateAnswer(TypedDict):
    """How many test images were looked at, of how many."""

    n: int
    of: int
    content: str


class Checked(EvaluateAnswer):
    """The same of an artefact, whose outputs were compared."""

    comparison: OutputComparison


def run(args: JobArgs) -> Checked:
    """Compare with the lowering reference, then predict the evaluated subset."""
    given = read_args(EvaluateArgs, args)
    session = given.software.load(given.artifact, given.hardware)
    images = np.load(given.inputs / "samples.npy")
    reference = np.load(given.reference / "outputs.npy")
    outputs = in_batches(session, images, given.dataset.spec().batch)
    comparison = compare_outputs(outputs, reference)
    return {**_predict(session, given), "comparison": comparison}


def run_baseline(args: JobArgs) -> EvaluateAnswer:
    """Predict the evaluated subset with the unoptimized network, float32, in PyTorch."""
    given = read_args(BaselineArgs, args)
    return _predict(forward(load_network(given.network)), given)


def _predict(run_one: Callable[[Array], Array], asked: SubsetArgs) -> EvaluateAnswer:
    known: dict[str, list[int]] = {"labels": [], "correct": []}
    if asked.previous is not None:
        known = json.loads((asked.previous / "evaluation.json").read_text())
    dataset = asked.dataset
    samples = dataset.load("test")
    start = len(known["labels"])
    wanted = sampling.order(len(samples.labels))[: asked.samples]
    spec = dataset.spec()
    for at in range(start, len(wanted), CHUNK):
        part = wanted[at : at + CHUNK].tolist()
        outputs = in_batches(run_one, samples.images(part), spec.batch)
        known["labels"] += outputs.argmax(axis=1).tolist()
        right = dataset.correct(outputs, samples.labels[part])
        known["correct"] += [int(r) for r in right]
    (asked.folder / "evaluation.json").write_text(json.dumps(known))
    return {"n": len(known["labels"]), "of": len(samples.labels), "content": samples.content}
