"""optimize: one step of an optimization pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dlas.core import registry
from dlas.run.steps.inspect import inspect_network
from dlas.run.steps.saved import load_network, read_network_info, save_network


def run(args: dict[str, Any]) -> dict[str, Any]:
    """Write the optimized network's folder; return its facts and what was achieved."""
    technique = registry.optimization(args["technique"])
    dataset = registry.dataset(args["dataset"])
    given = Path(args["network"])
    folder = Path(args["folder"])
    data = dataset.load("train") if technique.data == "train" else None
    done = technique.apply(load_network(given), data, folder)
    save_network(done.network, folder, read_network_info(given)["recipe"])
    achieved = {**done.achieved, "technique": technique.name}
    (folder / "achieved.json").write_text(json.dumps(achieved, indent=1))
    return {**inspect_network(done.network).to_json(), "achieved": achieved}
