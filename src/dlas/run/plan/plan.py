"""Stacks -> keyed steps. Shared prefixes of stacks become one step.

    inputs ------------------------------.
    prepare -> optimize* -> reference ---+-> evaluate, memory, measure (keyed by content, see run)
                       `-> lower -> build'

A step's key is the hash of the step, the choices up to its layer with their versions and
libraries, and the keys of what it needs. Evaluations and measurements are keyed by the *content*
of the artefact they look at, which is known once it is built.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from dlas.core import registry
from dlas.core.keys import Json, key
from dlas.core.protocols import Ran, Refusal, Software, Techniques, unavailable
from dlas.core.records import MeasureSettings, Stage
from dlas.core.registry import installed_version
from dlas.core.stack import Stack
from dlas.run.process.interpreters import Interpreter, probe
from dlas.run.process.isolate import Server
from dlas.study.study import Study

NO_SERVER = Server()
NETWORK_SERVER = Server(preload=("torch", "timm"), environment=(("OMP_NUM_THREADS", "1"),))
"""Where networks are made: one thread, so that fine-tuning does not depend on the machine."""

LOWER_LIBRARIES = {"exported": ("torch",), "onnx": ("torch", "onnx", "onnxscript")}


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of work before measuring: artefacts in, one artefact out.

    ``args`` is the JSON given to ``task``; ``inputs`` maps further argument names to the keys of
    the steps whose artefact folders they stand for. ``samples``: how many test images the step
    evaluates; a finished step with fewer is taken up where it stopped. ``alone``: it measures, so
    no other step, and no other study's measurement, runs at the same time.
    """

    key: str
    stage: Stage
    task: str
    args: Mapping[str, Any]
    inputs: Mapping[str, str]
    server: Server
    text: str
    samples: int = 0
    launch: Literal["fork", "exec"] = "fork"
    cpus: tuple[int, ...] | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class CellPlan:
    """One stack with the keys of its steps, or why it cannot be."""

    stack: Stack
    techniques: Techniques | None = None
    refusal: Refusal | None = None
    steps: tuple[str, ...] = ()
    inputs: str = ""
    prepared: str = ""
    network: str = ""
    reference: str = ""
    build: str = ""
    server: Server = NO_SERVER

    @property
    def cell(self) -> str:
        """The cell's hash."""
        return self.stack.cell


@dataclass(frozen=True, slots=True)
class Plan:
    """All cells of a study and all their steps, each step once, in an order that works."""

    study: Study
    cells: tuple[CellPlan, ...]
    steps: Mapping[str, Step]

    @property
    def runnable(self) -> tuple[CellPlan, ...]:
        """The cells that no rule refuses."""
        return tuple(c for c in self.cells if c.refusal is None)


Seen = Callable[[Stack, Techniques], Ran | None]
"""What the software of a stack was seen to run of its precision here; None: nobody looked."""


def nobody_looked(stack: Stack, techniques: Techniques) -> Ran | None:
    """Return None: rules then go by what is expected of the CPU's flags."""
    return None


def make(study: Study, stacks: Iterable[Stack] | None = None, seen: Seen = nobody_looked) -> Plan:
    """Return the plan of a study (of some of its stacks). Loads no runtime."""
    steps: dict[str, Step] = {}
    cells = []
    for stack in study.stacks if stacks is None else stacks:
        cells.append(plan_cell(stack, steps, seen))
    return Plan(study, tuple(cells), steps)


def plan_cell(stack: Stack, steps: dict[str, Step], seen: Seen = nobody_looked) -> CellPlan:
    """Return the plan of one stack; its steps are added to those that are there."""
    techniques = registry.resolve(stack)
    techniques = replace(techniques, probed=seen(stack, techniques))
    refusal = registry.refusal(techniques)
    interpreter = None
    if refusal is None and techniques.software.python:
        interpreter = probe(techniques.software.python, techniques.software.requires)
        if interpreter.problem:
            refusal = unavailable(interpreter.problem)
    if refusal is not None:
        return CellPlan(stack, techniques, refusal)
    return _Chain(stack, techniques, interpreter, steps).cell()


class _Chain:
    """Writes one stack's steps into the shared dictionary, from the top layer down."""

    def __init__(
        self,
        stack: Stack,
        techniques: Techniques,
        interpreter: Interpreter | None,
        steps: dict[str, Step],
    ) -> None:
        self.stack = stack
        self.techniques = techniques
        self.interpreter = interpreter
        self.steps = steps
        self.mine: list[str] = []

    def add(self, stage: Stage, identity: Json, step: dict[str, Any]) -> str:
        source = registry.source_version(step["task"].partition(":")[0])
        inputs: Mapping[str, str] = step["inputs"]
        found = key(stage, identity, source, sorted(inputs.items()))
        if found not in self.steps:
            self.steps[found] = Step(key=found, stage=stage, **step)
        self.mine.append(found)
        return found

    def cell(self) -> CellPlan:
        data = self.stack.dataset[0]
        t = self.techniques
        dataset = registry.identity(t.dataset)
        inputs = self.add(
            Stage.INPUTS,
            dataset,
            {
                "task": "dlas.run.steps.inputs:run",
                "args": {"dataset": data.to_json()},
                "inputs": {},
                "server": Server(preload=("numpy",)),
                "text": data.text,
            },
        )
        prepared = self.prepare(dataset)
        network = self.optimize(prepared)
        reference = self.add(
            Stage.REFERENCE,
            [installed_version("torch")],
            {
                "task": "dlas.run.steps.reference:run",
                "args": {},
                "inputs": {"network": network, "inputs": inputs},
                "server": NETWORK_SERVER,
                "text": f"{self.stack.text('model')} {self.stack.text('optimization')}",
            },
        )
        build = self.build(network)
        return CellPlan(
            stack=self.stack,
            techniques=t,
            steps=tuple(self.mine),
            inputs=inputs,
            prepared=prepared,
            network=network,
            reference=reference,
            build=build,
            server=runtime_server(t),
        )

    def prepare(self, dataset: Json) -> str:
        data, model = self.stack.dataset[0], self.stack.model[0]
        return self.add(
            Stage.PREPARE,
            [dataset, registry.identity(self.techniques.model)],
            {
                "task": "dlas.run.steps.prepare:run",
                "args": {"dataset": data.to_json(), "model": model.to_json()},
                "inputs": {},
                "server": NETWORK_SERVER,
                "text": f"{data.text} {model.text}",
            },
        )

    def optimize(self, network: str) -> str:
        data = self.stack.dataset[0]
        model = self.stack.text("model")
        for made, technique in zip(
            self.stack.optimization, self.techniques.optimization, strict=True
        ):
            if technique.changes_nothing:
                continue
            network = self.add(
                Stage.OPTIMIZE,
                registry.identity(technique),
                {
                    "task": "dlas.run.steps.optimize:run",
                    "args": {"technique": made.to_json(), "dataset": data.to_json()},
                    "inputs": {"network": network},
                    "server": NETWORK_SERVER,
                    "text": f"{model} {made.text}",
                },
            )
        return network

    def lower(self, network: str) -> str | None:
        form = self.techniques.software.form
        has_onnx = self.techniques.precision == "int8" or self.techniques.model.form == "onnx"
        if form == "module" or has_onnx:
            return None
        versions: list[Json] = [installed_version(d) for d in LOWER_LIBRARIES[form]]
        return self.add(
            Stage.LOWER,
            [form, versions],
            {
                "task": "dlas.run.steps.lower:run",
                "args": {"form": form},
                "inputs": {"network": network},
                "server": NETWORK_SERVER,
                "text": f"{self.stack.text('model')} {self.stack.text('optimization')} to {form}",
            },
        )

    def build(self, network: str) -> str:
        t, software = self.techniques, self.techniques.software
        lowered = self.lower(network)
        hardware = self.stack.hardware[0]
        identity: list[Json] = [
            self.software_identity(),
            registry.identity(t.algorithm),
            [hardware.name, t.hardware.target()],
            t.hardware.threads if software.bakes_threads else None,
        ]
        return self.add(
            Stage.BUILD,
            identity,
            {
                "task": "dlas.run.steps.build:run",
                "args": {
                    "software": self.stack.software[0].to_json(),
                    "algorithm": self.stack.algorithm[0].to_json(),
                    "hardware": hardware.to_json(),
                    "form": software.form,
                },
                "inputs": {"network": network} | ({"lowered": lowered} if lowered else {}),
                "server": build_server(t),
                "alone": software.build_measures,
                "text": " ".join(
                    self.stack.text(n) for n in ("model", "optimization", "algorithm", "software")
                ),
            },
        )

    def software_identity(self) -> Json:
        """The software's identity; another interpreter counts by its versions, not its path."""
        return software_identity(self.techniques.software, self.interpreter)


def software_identity(software: Software, interpreter: Interpreter | None = None) -> Json:
    """Return what a key must know of a software technique."""
    if interpreter is None and software.python:
        interpreter = probe(software.python, software.requires)
    return registry.identity(software, interpreter.versions if interpreter else None)


def runtime_server(techniques: Techniques) -> Server:
    """Return the server whose children load and run a stack's artefact."""
    software = techniques.software
    variables = tuple(sorted(software.environment(techniques.hardware).items()))
    return Server(software.preload, variables, software.python)


def build_server(techniques: Techniques) -> Server:
    """Return the server whose children build: torch is ready where the program is torch's."""
    runtime = runtime_server(techniques)
    preload = NETWORK_SERVER.preload if techniques.software.form != "onnx" else runtime.preload
    return Server(preload, runtime.environment, runtime.python)


# ---------------------------------------------------------------- what it comes to


def threads(plan: CellPlan) -> int:
    """Return how many threads a runnable cell asks for."""
    assert plan.techniques is not None
    return plan.techniques.hardware.threads


def stratum(plan: CellPlan) -> tuple[str, int]:
    """Return the runtime and thread count within which noise is pooled."""
    return plan.stack.software[0].name, threads(plan)


def control_count(strata: Collection[int], settings: MeasureSettings) -> int:
    """Return how many cells are measured twice (A/A), given the sizes of the strata.

    max(``min_controls``, ``controls`` x cells), and at least two for each stratum; none where both
    settings are zero.
    """
    if settings.controls == 0 and settings.min_controls == 0:
        return 0
    cells = sum(strata)
    wanted = max(settings.min_controls, math.ceil(settings.controls * cells))
    return max(min(wanted, cells), sum(min(2, size) for size in strata))


def measurement_count(cells: Iterable[CellPlan], settings: MeasureSettings) -> int:
    """Return how many measurements a study makes, A/A controls included, repetitions not."""
    strata = Counter(stratum(cell) for cell in cells).values()
    return settings.rounds * (sum(strata) + control_count(strata, settings))


def explain(plan: Plan, done: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a row per step: stage, text, key, and whether it is there already (``done``)."""
    return [
        {"stage": str(s.stage), "text": s.text, "key": s.key, "state": done.get(s.key, "to do")}
        for s in plan.steps.values()
    ]
