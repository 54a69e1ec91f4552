"""The words of the Deep Learning Acceleration Stack: layers, choices, stacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dlas.core.keys import Json, key

LAYERS = ("dataset", "model", "optimization", "algorithm", "software", "hardware")
DEFAULTS = {"optimization": "none", "algorithm": "native", "hardware": "cpu"}
"""What a stack has at a layer of which nothing is said; the other layers must be given."""

TITLES = {
    "dataset": "Datasets & Problem Spaces",
    "model": "Models & Neural Architectures",
    "optimization": "Model Optimizations",
    "algorithm": "Algorithms & Data Formats",
    "software": "Systems Software",
    "hardware": "Hardware",
}


def _plain(value: Json) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(_plain(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_plain(v)}" for k, v in value.items()) + "}"
    return "null" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """A technique with its parameters fixed.

    ``params`` holds every parameter, defaults included; ``shown`` names those that differ from
    their default and therefore stand in the canonical text ``name(p=v,q=w)``.
    """

    name: str
    params: Mapping[str, Json] = field(default_factory=dict, hash=False)
    shown: tuple[str, ...] = field(default=(), compare=False)

    @property
    def text(self) -> str:
        """The canonical text, e.g. ``weight-pruning(sparsity=0.8)``."""
        if not self.shown:
            return self.name
        inner = ",".join(f"{name}={value}" for name, value in self.written.items())
        return f"{self.name}({inner})"

    @property
    def written(self) -> dict[str, str]:
        """The parameters that stand in the canonical text, each as it is written there."""
        return self.texts(sorted(self.shown))

    def texts(self, names: Iterable[str]) -> dict[str, str]:
        """Some parameters as they would be written in the canonical text."""
        return {name: _plain(self.params[name]) for name in names}

    def identity(self) -> Json:
        """What the choice is, for keys: its name and all of its parameters."""
        return [self.name, dict(self.params)]

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form that :meth:`from_json` reads."""
        return {"name": self.name, "params": dict(self.params), "shown": list(self.shown)}

    @classmethod
    def from_json(cls, data: Any) -> Choice:
        """Rebuild a choice from :meth:`to_json`."""
        return cls(data["name"], data["params"], tuple(data["shown"]))


@dataclass(frozen=True, slots=True)
class Stack:
    """One choice at every layer: one cell of a study.

    A layer holds a tuple of choices: a pipeline, of length one everywhere but at
    ``optimization``. ``sublayers`` says which sub-layer of the study file gave which choice
    (``{"optimization.pruning": "none"}``); it names columns and is no part of the identity.
    """

    dataset: tuple[Choice, ...]
    model: tuple[Choice, ...]
    optimization: tuple[Choice, ...]
    algorithm: tuple[Choice, ...]
    software: tuple[Choice, ...]
    hardware: tuple[Choice, ...]
    sublayers: Mapping[str, str] = field(default_factory=dict, compare=False, hash=False)

    def layer(self, name: str) -> tuple[Choice, ...]:
        """Return the pipeline at a layer."""
        steps: tuple[Choice, ...] = getattr(self, name)
        return steps

    def text(self, layer: str) -> str:
        """Return the canonical text of a layer: steps joined by ``+``."""
        return "+".join(choice.text for choice in self.layer(layer))

    def identity(self) -> Json:
        """What the stack is, on any host."""
        return {name: [c.identity() for c in self.layer(name)] for name in LAYERS}

    @property
    def cell(self) -> str:
        """The hash of the stack alone, the same on every host (16 hex digits)."""
        return key("cell", self.identity())[:16]

    @property
    def label(self) -> str:
        """The label of the machine that it is to run on; empty: the one that runs the study."""
        return str(self.hardware[0].params.get("on", ""))

    def factors(self) -> dict[str, Json]:
        """Return ``{column: value}`` of every sub-layer and parameter.

        A parameter is the column ``layer.parameter``; where two techniques of this stack share
        the name within a layer, ``layer.technique.parameter``.
        """
        columns: dict[str, Json] = dict(self.sublayers)
        for layer in LAYERS:
            steps = self.layer(layer)
            count = Counter(p for choice in steps for p in choice.params)
            for choice in steps:
                for param, value in choice.params.items():
                    middle = f"{choice.name}." if count[param] > 1 else ""
                    columns[f"{layer}.{middle}{param}"] = value
        return columns

    def to_json(self) -> dict[str, Json]:
        """Return a JSON form that :meth:`from_json` reads."""
        data: dict[str, Json] = {n: [c.to_json() for c in self.layer(n)] for n in LAYERS}
        data["sublayers"] = dict(self.sublayers)
        return data

    @classmethod
    def from_json(cls, data: Any) -> Stack:
        """Rebuild a stack from :meth:`to_json`."""
        layers = {n: tuple(Choice.from_json(c) for c in data[n]) for n in LAYERS}
        return cls(**layers, sublayers=data.get("sublayers", {}))
