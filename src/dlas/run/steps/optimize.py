"""optimize: one step of an optimization pipeline."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dlas.core.keys import Json
from dlas.core.protocols import Dataset, Optimization
from dlas.run.measure.args import JobArgs, read_args
from dlas.run.steps.inspect import inspect_network
from dlas.run.steps.saved import load_network, read_network_info, save_network


@dataclass(frozen=True)
class OptimizeArgs:
    """What the step is asked for."""

    technique: Optimization
    dataset: Dataset
    network: Path
    folder: Path


def run(args: JobArgs) -> dict[str, Json]:
    """Write the optimized network's folder; return its facts and what was achieved."""
    given = read_args(OptimizeArgs, args)
    technique = given.technique
    data = given.dataset.load("train") if technique.data == "train" else None
    done = technique.apply(load_network(given.network), data, given.folder)
    save_network(done.network, given.folder, read_network_info(given.network)["recipe"])
    achieved = {**done.achieved, "technique": technique.name}
    (given.folder / "achieved.json").write_text(json.dumps(achieved, indent=1))
    return {**inspect_network(done.network).to_json(), "achieved": achieved}
