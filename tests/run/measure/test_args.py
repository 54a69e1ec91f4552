"""A job's JSON becomes the arguments of its task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.protocols import DataSpec, HardwareTechnique
from dlas.core.records import MeasureSettings
from dlas.core.stack import Choice
from dlas.run.measure.args import Launched, read_args


@dataclass(frozen=True)
class Wanted:
    hardware: HardwareTechnique
    model: Choice
    spec: DataSpec
    settings: MeasureSettings
    launched: Launched
    folder: Path
    cpus: Mapping[str, list[int]]
    batch: int
    lowered: Path | None = None
    previous: Path | None = None


ARGS = {
    "hardware": registry.choice(registry.make("hardware", "cpu", {"threads": 2})).to_json(),
    "model": Choice("resnet-8", {"seed": 1}, ("seed",)).to_json(),
    "spec": {"classes": 10, "channels": 1, "height": 28, "width": 28, "batch": 4},
    "settings": MeasureSettings(rounds=7).model_dump(),
    "launched": {"launch": "fork", "import_s": 0.5},
    "folder": "/here",
    "cpus": {"1": [0]},
    "batch": 4,
    "lowered": "/there",
    "not_asked_for": 1,
}


def test_each_entry_becomes_what_its_field_is() -> None:
    assert read_args(Wanted, json.loads(json.dumps(ARGS))) == Wanted(
        hardware=registry.make("hardware", "cpu", {"threads": 2}),  # type: ignore[arg-type]
        model=Choice("resnet-8", {"seed": 1}, ("seed",)),
        spec=DataSpec(10, 1, 28, 28, 4),
        settings=MeasureSettings(rounds=7),
        launched=Launched("fork", 0.5),
        folder=Path("/here"),
        cpus={"1": [0]},
        batch=4,
        lowered=Path("/there"),
    )


def test_what_is_missing_or_wrong_is_named() -> None:
    with pytest.raises(TypeError, match="'batch'"):
        read_args(Wanted, {name: value for name, value in ARGS.items() if name != "batch"})
    with pytest.raises(UserError, match="no hardware technique is called 'direct'"):
        read_args(Wanted, {**ARGS, "hardware": Choice("direct").to_json()})
