"""prepare: the network of a model for a data set, with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlas.core import registry
from dlas.run.steps.inspect import inspect_network
from dlas.run.steps.saved import save_network


def run(args: dict[str, Any]) -> dict[str, Any]:
    """Write the network folder; return its facts (params, macs, ...)."""
    dataset = registry.dataset(args["dataset"])
    model = registry.model(args["model"])
    network = model.build(dataset)
    recipe = {"dataset": args["dataset"], "model": args["model"]}
    save_network(network, Path(args["folder"]), recipe)
    weights = model.weights(dataset)
    facts = inspect_network(network).to_json()
    return {**facts, "weights": "none: random" if weights is None else weights.name}
