"""What goes to the suites' child processes and what comes back: both sides' words, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

from dlas.core.keys import Json


class Picked(TypedDict):
    """A technique by name, with its parameters."""

    name: str
    params: Mapping[str, Json]


class PlanJob(Picked):
    """A technique to plan with."""

    place: str
    """Where its class is found, ``module:name``."""
    layer: str


class Planned(TypedDict):
    """What a process did that only planned with a technique."""

    imported: list[str]
    """Heavy libraries that importing its class loaded."""
    planned: list[str]
    """Those that planning loaded, too."""
    identity: Json
    missing: NotRequired[str | None]
    """What hardware says is missing."""
    target: NotRequired[Json]
    """What hardware says that builds depend on."""


class BuildJob(TypedDict):
    """An artefact to build."""

    args: dict[str, Json]
    """Those of the step ``build``."""
    classes: list[str]
    """Where the techniques are found that no package declares."""


class BuildFacts(TypedDict):
    """The facts that a build returned, or what it returned that is no JSON."""

    facts: Json
    not_json: NotRequired[str]


class InferJob(TypedDict):
    """An artefact to infer with."""

    classes: list[str]
    software: Picked
    hardware: Picked
    folder: str
    images: str
    outputs: str
    """Where the outputs go, a ``.npy`` file."""
    threads: int
    batch: int


class RanFacts(TypedDict):
    """A :class:`~dlas.protocols.Ran` as JSON."""

    precision: str | None
    threads: int | None
    isa: str | None
    kernels: dict[str, str]
    fallbacks: list[str]
    sparsity: float | None


class Inferred(TypedDict):
    """What was seen in a process that inferred."""

    session: bool
    """Whether ``load`` gave a Session."""
    type: str
    dtype: str
    shape: list[int]
    overwritten: bool
    """Whether an inference changed the outputs of the one before."""
    repeatable: float | None
    """The largest difference between two runs; None: some are not finite."""
    after_observe: float | None
    """The same, before and after ``observe``."""
    busy: list[float] | None
    """Processor seconds of each thread while inferring; None: not told."""
    ran_type: str
    ran: RanFacts
    tasks: int
    """Threads of the process."""
    torch: bool
    """Whether it was loaded."""
