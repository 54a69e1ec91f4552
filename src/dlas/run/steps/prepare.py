"""prepare: the network of a model for a data set, with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlas.core import registry
from dlas.core.keys import Json
from dlas.core.stack import Choice
from dlas.run.measure.args import JobArgs, read_args
from dlas.run.steps.inspect import inspect_network
from dlas.run.steps.saved import recipe, save_network


@dataclass(frozen=True)
class PrepareArgs:
    """What the step is asked for."""

    dataset: Choice
    model: Choice
    folder: Path


def run(args: JobArgs) -> dict[str, Json]:
    """Write the network folder; return its facts (params, macs, ...)."""
    given = read_args(PrepareArgs, args)
    dataset, model = registry.dataset(given.dataset), registry.model(given.model)
    network = model.build(dataset)
    save_network(network, given.folder, recipe(given.dataset, given.model))
    weights = model.weights(dataset)
    facts = inspect_network(network).to_json()
    return {**facts, "weights": "none: random" if weights is None else weights.name}
