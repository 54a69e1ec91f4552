"""Stacks -> keyed steps. Shared prefixes of stacks become one step.

    inputs ------------------------------.
    prepare -> optimize* -> reference ---+-> evaluate, memory, measure (keyed by content, see run)
                       `-> lower -> build'

A step's key is the hash of the step, the choices up to its layer with their versions and
libraries, and the keys of what it needs. Evaluations and measurements are keyed by the *content*
of the artefact they look at, which is known once it is built.

Where a file of weights is missing, the key of the network is not known, nor are those of what is
made of it. A run is refused then; a plan that only counts names such steps (``keys.unknown``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.keys import Json, is_unknown, key, unknown
from dlas.core.protocols import Optimization, Ran, Refusal, Techniques
from dlas.core.records import Stage
from dlas.core.registry import installed_version
from dlas.core.stack import Choice, Stack
from dlas.run.plan.elsewhere import interpreter_of, lacking, needed
from dlas.run.plan.identities import Identities, int8_by, software_identity, versioned
from dlas.run.plan.servers import NETWORK_SERVER, build_server, runtime_server
from dlas.run.process.interpreters import Asked, Interpreter, Interpreters
from dlas.run.process.tasks import Server
from dlas.study.study import Study

LOWER_LIBRARIES = {"exported": ("torch",), "onnx": ("torch", "onnx", "onnxscript")}


TASKS: Mapping[Stage, str] = {
    Stage.INPUTS: "dlas.run.steps.inputs:run",
    Stage.PREPARE: "dlas.run.steps.prepare:run",
    Stage.OPTIMIZE: "dlas.run.steps.optimize:run",
    Stage.LOWER: "dlas.run.steps.lower:run",
    Stage.REFERENCE: "dlas.run.steps.reference:run",
    Stage.BUILD: "dlas.run.steps.build:run",
}
"""What a child calls for each step that is planned before anything is built."""


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of work before measuring: artefacts in, one artefact out.

    ``args`` is the JSON given to ``task``; ``inputs`` maps further argument names to the keys of
    the steps whose artefact folders they stand for. ``samples``: how many test images the step
    evaluates; a finished step with fewer is taken up where it stopped. ``alone``: it measures, so
    no other step, and no other study's measurement, runs at the same time. ``placed``: it gets the
    processors of so many threads, 0: all. ``host``: the class of the hosts that may do it, empty:
    whichever would give it the same key.
    """

    key: str
    stage: Stage
    task: str
    args: Mapping[str, Json]
    inputs: Mapping[str, str]
    server: Server
    text: str
    samples: int = 0
    launch: Literal["fork", "exec"] = "fork"
    placed: int = 0
    alone: bool = False
    host: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """One stack that a rule refuses."""

    stack: Stack
    refusal: Refusal

    @property
    def cell(self) -> str:
        """The cell's hash."""
        return self.stack.cell


@dataclass(frozen=True, slots=True)
class Runnable:
    """One stack with its techniques and the keys of its steps."""

    stack: Stack
    techniques: Techniques
    interpreter: Interpreter | None
    """Where its software runs; None: in dlas's own interpreter."""
    steps: tuple[str, ...]
    inputs: str
    prepared: str
    network: str
    reference: str
    build: str
    server: Server

    @property
    def cell(self) -> str:
        """The cell's hash."""
        return self.stack.cell

    @property
    def threads(self) -> int:
        """How many threads it asks for."""
        return self.techniques.hardware.threads

    def text(self, *layers: str) -> str:
        """Return its choices at some layers, as people read them."""
        return " ".join(self.stack.text(layer) for layer in layers)


CellPlan = Runnable | Refused
"""What is planned for one stack."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All cells of a study and all their steps, each step once, in an order that works."""

    study: Study
    cells: tuple[CellPlan, ...]
    steps: Mapping[str, Step]

    @property
    def runnable(self) -> tuple[Runnable, ...]:
        """The cells that no rule refuses."""
        return tuple(c for c in self.cells if isinstance(c, Runnable))

    @property
    def refused(self) -> tuple[Refused, ...]:
        """The others."""
        return tuple(c for c in self.cells if isinstance(c, Refused))


Live = tuple[Stack, Techniques]
"""A stack and its techniques, which are made once."""


Seen = Callable[[Stack, Techniques], Ran | None]
"""What the software of a stack was seen to run of its precision here; None: nobody looked."""


def nobody_looked(stack: Stack, techniques: Techniques) -> Ran | None:
    """Return None: rules then go by what is expected of the CPU's flags."""
    return None


def live(stacks: Iterable[Stack]) -> list[Live]:
    """Return stacks with their techniques. Loads no runtime."""
    return [(stack, registry.resolve(stack)) for stack in stacks]


def questions(stacks: Iterable[Live]) -> set[Asked]:
    """Return what other interpreters have to be asked before steps of stacks can run."""
    made = (techniques for _, techniques in stacks if techniques.software.python)
    return {(each.software.python, needed(each)) for each in made}


def make(
    study: Study,
    stacks: Sequence[Live] | None = None,
    seen: Seen = nobody_looked,
    interpreters: Interpreters = MappingProxyType({}),
    without_weights: bool = False,
) -> Plan:
    """Return the plan of a study (of some of its stacks). Loads no runtime, starts no process.

    ``interpreters`` are the answers of other interpreters that are known; of one that was not
    asked the versions are not known, and nor are then the keys of what it builds.
    ``without_weights``: files of weights may be missing, and what rests on one has no key.

    Raises:
        UserError: files that techniques name are missing or damaged: all of them.
    """
    identities = Identities(without_weights)
    steps: dict[str, Step] = {}
    cells: list[CellPlan] = []
    problems: dict[str, None] = {}
    for each in live(study.stacks) if stacks is None else stacks:
        try:
            cells.append(plan_cell(each, steps, identities, seen, interpreters))
        except UserError as error:
            problems |= dict.fromkeys((*error.problems, *identities.problems(*each)))
    if problems:
        raise UserError(tuple(problems))
    return Plan(study, tuple(cells), steps)


def plan_cell(
    each: Live,
    steps: dict[str, Step],
    identities: Identities,
    seen: Seen,
    interpreters: Interpreters,
) -> CellPlan:
    """Return the plan of one stack; its steps are added to those that are there.

    Raises:
        UserError: a file that a technique names is missing or damaged.
    """
    stack, techniques = each
    techniques = replace(techniques, probed=seen(stack, techniques))
    refusal = registry.refusal(techniques)
    interpreter = interpreter_of(techniques.software, interpreters)
    if refusal is None and interpreter is not None:
        refusal = lacking(techniques, interpreter)
    if refusal is not None:
        return Refused(stack, refusal)
    return _Chain(stack, techniques, interpreter, steps, identities).cell()


class _Chain:
    """Writes one stack's steps into the shared dictionary, from the top layer down."""

    def __init__(
        self,
        stack: Stack,
        techniques: Techniques,
        interpreter: Interpreter | None,
        steps: dict[str, Step],
        identities: Identities,
    ) -> None:
        self.stack = stack
        self.techniques = techniques
        self.interpreter = interpreter
        self.steps = steps
        self.identities = identities
        self.mine: list[str] = []

    def add(
        self,
        stage: Stage,
        identity: Json,
        text: str,
        args: Mapping[str, Json],
        inputs: Mapping[str, str],
        server: Server = NETWORK_SERVER,
        alone: bool = False,
        known: bool = True,
    ) -> str:
        task = TASKS[stage]
        source = registry.source_version(task.partition(":")[0])
        known = known and not any(map(is_unknown, inputs.values()))
        found = (key if known else unknown)(stage, identity, source, sorted(inputs.items()))
        if found not in self.steps:
            self.steps[found] = Step(found, stage, task, args, inputs, server, text, alone=alone)
        self.mine.append(found)
        return found

    def cell(self) -> Runnable:
        data = self.stack.dataset[0]
        dataset = self.identities.of(data, self.techniques.dataset)
        args = {"dataset": data.to_json()}
        inputs = self.add(
            Stage.INPUTS, dataset, data.text, args, {}, server=Server(preload=("numpy",))
        )
        prepared = self.prepare(dataset)
        network = self.optimize(prepared)
        reference = self.add(
            Stage.REFERENCE,
            [installed_version("torch")],
            self.text("model", "optimization"),
            {},
            {"network": network, "inputs": inputs},
        )
        build = self.build(network)
        return Runnable(
            stack=self.stack,
            techniques=self.techniques,
            interpreter=self.interpreter,
            steps=tuple(self.mine),
            inputs=inputs,
            prepared=prepared,
            network=network,
            reference=reference,
            build=build,
            server=runtime_server(self.techniques),
        )

    def text(self, *layers: str) -> str:
        return " ".join(self.stack.text(layer) for layer in layers)

    def prepare(self, dataset: Json) -> str:
        data, model = self.stack.dataset[0], self.stack.model[0]
        lacks = self.identities.lacks_weights(self.techniques)
        of = model.identity() if lacks else self.identities.of(model, self.techniques.model)
        return self.add(
            Stage.PREPARE,
            [dataset, of],
            f"{data.text} {model.text}",
            {"dataset": data.to_json(), "model": model.to_json()},
            {},
            known=not lacks,
        )

    def optimize(self, network: str) -> str:
        data = self.stack.dataset[0]
        model = self.stack.text("model")
        for made, technique in zip(
            self.stack.optimization, self.techniques.optimization, strict=True
        ):
            if technique.changes_nothing:
                continue
            for choice, each in [*_on_the_way(technique), (made, technique)]:
                network = self.add(
                    Stage.OPTIMIZE,
                    self.identities.of(choice, each),
                    f"{model} {choice.text}",
                    {"technique": choice.to_json(), "dataset": data.to_json()},
                    {"network": network},
                )
        return network

    def lower(self, network: str) -> str | None:
        form, t = self.techniques.software.form, self.techniques
        quantized = t.precision == "int8" and not t.left_to_runtime
        has_onnx = quantized or t.model.form == "onnx"
        if form == "module" or has_onnx:
            return None
        versions: list[Json] = [installed_version(d) for d in LOWER_LIBRARIES[form]]
        return self.add(
            Stage.LOWER,
            [form, versions],
            f"{self.text('model', 'optimization')} to {form}",
            {"form": form},
            {"network": network},
        )

    def build(self, network: str) -> str:
        t, software = self.techniques, self.techniques.software
        lowered = self.lower(network)
        hardware = self.stack.hardware[0]
        identity: list[Json] = [
            software_identity(software, self.interpreter),
            registry.identity(t.algorithm),
            [hardware.name, t.hardware.target()],
            t.hardware.threads if software.bakes_threads or t.algorithm.measures else None,
            *([versioned(by, self.interpreter)] if (by := int8_by(t)) else []),
        ]
        return self.add(
            Stage.BUILD,
            identity,
            self.text("model", "optimization", "algorithm", "software"),
            {
                "software": self.stack.software[0].to_json(),
                "algorithm": self.stack.algorithm[0].to_json(),
                "hardware": hardware.to_json(),
                "form": software.form,
            },
            {"network": network} | ({"lowered": lowered} if lowered else {}),
            server=build_server(t),
            alone=software.build_measures or t.algorithm.measures,
        )


def _on_the_way(technique: Optimization) -> list[tuple[Choice, Optimization]]:
    """Return what an optimization goes on from, the first of them first."""
    found: list[tuple[Choice, Optimization]] = []
    before = technique.before()
    while before is not None:
        found.insert(0, (registry.choice(before), before))
        before = before.before()
    return found
