"""What each runtime executes of each type on this host: looked at once, then known.

Neither a CPU's flags nor a runtime's own list of capabilities decide this. OpenVINO leaves BF16
out of its list on a CPU with AVX-512 and no bfloat16 instructions, and executes it; asked for
float16 it executes bfloat16 on one CPU and float32 on another. So a small network is built in the
type and run once, and what ran is read back. The steps are those of any cell, and one more
(``steps/probe``); they are kept in a store of their own, keyed by host and versions, so that every
study on this machine finds the answer. Rules ask the answer
(:func:`dlas.core.registry.other_type`); where there is none they go by what is expected of
the flags.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

from dlas.core import registry
from dlas.core.errors import DlasError
from dlas.core.keys import key
from dlas.core.protocols import Optimization, Precision, Ran, Techniques
from dlas.core.records import MeasureSettings, Stage, Status
from dlas.core.stack import Choice, Stack
from dlas.kernels.ground.records import kept_in
from dlas.run.engines.local import LocalEngine
from dlas.run.measure import host as hosts
from dlas.run.plan.identities import Identities, software_identity
from dlas.run.plan.plan import Live, Refused, Runnable, Step, live, plan_cell
from dlas.run.process.interpreters import Interpreters
from dlas.run.process.isolate import Pool
from dlas.store.artifacts import ArtifactStore, StepRecord

VARIABLE = "DLAS_PROBE_DIR"
"""The environment's name for the folder where answers are kept."""
DATASET, MODEL, ALGORITHM = "digits", "resnet-8", "native"
"""The small network, and its images: what ships with dlas and is built in a second or two."""
ALGORITHMS = (ALGORITHM, "spatial-pack")
"""What a survey asks for in turn: some types run by kernels that have to be named alone."""
HELD_BY = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "LD_PRELOAD")
"""Variables that can keep libraries from what the CPU has: an answer holds under them only."""


def default_folder() -> Path:
    """Return where answers are kept: ``$DLAS_PROBE_DIR``, else below the user's cache."""
    return kept_in(VARIABLE, "probes")


def question(stack: Stack, techniques: Techniques) -> Stack | None:
    """Return the small stack whose run says what a stack's software executes of its type.

    None where the answer would be of no use: the type does not depend on the CPU.
    """
    if techniques.asked_precision not in techniques.software.cpu_decides:
        return None
    pairs = zip(stack.optimization, techniques.optimization, strict=True)
    asking = [made for made, technique in pairs if technique.precision]
    hardware = registry.choice(replace(techniques.hardware, threads=1))
    return _small(asking[-1], stack.software[0], hardware)


def _small(step: Choice, software: Choice, hardware: Choice, algorithm: str = ALGORITHM) -> Stack:
    return Stack(
        dataset=(_plain("dataset", DATASET),),
        model=(_plain("model", MODEL),),
        optimization=(step,),
        algorithm=(_plain("algorithm", algorithm),),
        software=(software,),
        hardware=(hardware,),
    )


def _plain(layer: str, name: str) -> Choice:
    return registry.choice(registry.make(layer, name))


def probe_step(cell: Runnable, host: str) -> Step:
    """Return the step that runs a built small network once and reads back what ran."""
    held = {name: value for name in HELD_BY if (value := os.environ.get(name))}
    runtime = software_identity(cell.techniques.software, cell.interpreter)
    hardware = registry.identity(cell.techniques.hardware)
    source = registry.source_version("dlas.run.steps.probe")
    return Step(
        key=key("probe", cell.build, cell.inputs, runtime, hardware, host, held, source),
        stage=Stage.PROBE,
        task="dlas.run.steps.probe:run",
        args={
            "software": cell.stack.software[0].to_json(),
            "hardware": cell.stack.hardware[0].to_json(),
        },
        inputs={"artifact": cell.build, "inputs": cell.inputs},
        server=cell.server,
        text=cell.text("optimization", "software"),
    )


@dataclass
class Answers:
    """What is known on this host, and what finds out more. Reading starts no process."""

    folder: Path = field(default_factory=default_folder)
    host: str = field(default_factory=hosts.this_class)
    interpreters: Interpreters = field(default_factory=dict)
    """What other interpreters answered."""
    _known: dict[str, Ran | None] = field(default_factory=dict)
    _probes: dict[str, Probe | Refused] = field(default_factory=dict)

    def seen(self, stack: Stack, techniques: Techniques) -> Ran | None:
        """Return what a stack's software was seen to run of its type; None: nobody looked."""
        small = question(stack, techniques)
        if small is None:
            return None
        if small.cell not in self._known:
            probe = self._probe(small)
            stored = self._stored(probe.step.key) if isinstance(probe, Probe) else None
            self._known[small.cell] = stored
        return self._known[small.cell]

    def look(
        self,
        stacks: Iterable[Live],
        note: Callable[[str], None],
        paths: tuple[str, ...] = (),
    ) -> None:
        """Find out what nobody has looked at yet of the types and software of some stacks.

        What cannot be found out is told, and left to what is expected.
        """
        wanted: dict[str, Stack] = {}
        for stack, techniques in stacks:
            small = question(stack, techniques)
            if small is not None and self.seen(stack, techniques) is None:
                wanted[small.cell] = small
        planned = (self._probe(small) for small in wanted.values())
        probes = [probe for probe in planned if isinstance(probe, Probe)]
        if not probes:
            return
        names = ", ".join(sorted({probe.step.text for probe in probes}))
        note(f"looking at what this CPU runs, with a small network: {names}")
        for probe, record in self.run(probes, note, paths):
            if record.status is not Status.COMPLETE:
                note(f"not found out: {probe.step.text}: {record.reason}")
            self._known.pop(probe.cell.cell, None)

    def run(
        self,
        probes: Iterable[Probe],
        note: Callable[[str], None],
        paths: tuple[str, ...] = (),
        done: Callable[[Step, StepRecord, bool], None] = lambda step, record, known: None,
    ) -> Iterator[tuple[Probe, StepRecord]]:
        """Run probes, what is known left out, and yield each with its record."""
        probes = list(probes)
        steps: dict[str, Step] = {}
        for probe in probes:
            steps |= {**probe.steps, probe.step.key: probe.step}
        try:
            store = ArtifactStore(self.folder)
            with store.use(), Pool(store.scratch()) as pool:
                settings = MeasureSettings.model_validate({})
                engine = LocalEngine(store, pool, settings, paths, retry=(Status.FAILED,))
                records = engine.run(steps, done)
        except DlasError as error:
            # What was not found out must not keep a study from running.
            note(f"what this CPU runs is not found out: {error}")
            return
        yield from ((probe, records[probe.step.key]) for probe in probes)

    def survey(self) -> tuple[list[Probe], dict[str, str]]:
        """Return a probe for each runtime and type on this machine's CPU.

        In every interpreter whose answers are known, too. And why a runtime that is installed has
        none at all, by its text.
        """
        cpu = _plain("hardware", "cpu")
        steps = [_ways(name) for name in ("none", *_narrow())]
        places = dict.fromkeys(["", *self.interpreters])
        software = [
            registry.choice(registry.make("software", name, {"python": python} if python else {}))
            for name in registry.names("software")
            for python in places
        ]
        probes: list[Probe] = []
        refused: dict[str, str] = {}
        for each in software:
            found = [self._first(ways, each, cpu) for ways in steps]
            mine = [probe for probe in found if isinstance(probe, Probe)]
            probes += mine
            if not mine and self._installed(each):
                refused[each.text] = next(
                    r.refusal.reason for r in found if isinstance(r, Refused)
                )
        return probes, refused

    def _installed(self, software: Choice) -> bool:
        """Return whether all that a runtime requires is there, in its interpreter."""
        made = registry.software(software)
        if made.python:
            return not self.interpreters[made.python].lacks(made.python, made.requires)
        return registry.missing(type(made)) is None

    def _first(
        self, ways: Sequence[Choice], software: Choice, hardware: Choice
    ) -> Probe | Refused | None:
        """Return the plan of the first way to a type that is not refused, or the first refusal."""
        refused = None
        for algorithm, way in product(ALGORITHMS, ways):
            found = self._probe(_small(way, software, hardware, algorithm))
            if isinstance(found, Probe):
                return found
            refused = refused or found
        return refused

    def _probe(self, small: Stack) -> Probe | Refused:
        """Return the plan of a small stack, or that another rule refuses it."""
        if small.cell not in self._probes:
            steps: dict[str, Step] = {}
            [each] = live([small])
            cell = plan_cell(each, steps, Identities(), _as_asked, self.interpreters)
            self._probes[small.cell] = (
                cell
                if isinstance(cell, Refused)
                else Probe(cell, steps, probe_step(cell, self.host))
            )
        return self._probes[small.cell]

    def _stored(self, step: str) -> Ran | None:
        try:
            record = ArtifactStore(self.folder, create=False).get(step)
        except DlasError:
            return None  # there is no store yet, or it cannot be read: nobody has looked
        if record is None or record.status is not Status.COMPLETE:
            return None
        return ran_of(record.info)


@dataclass(frozen=True)
class Probe:
    """A small stack with its steps, the last of which reads back what ran."""

    cell: Runnable
    steps: Mapping[str, Step]
    step: Step


def ran_of(info: Mapping[str, Any]) -> Ran:
    """Return what ran, from what a probe found."""
    return Ran(**{**info["ran"], "fallbacks": tuple(info["ran"]["fallbacks"])})


def _as_asked(stack: Stack, techniques: Techniques) -> Ran:
    """Let no expectation keep a probe from looking."""
    return Ran(precision=techniques.precision)


def _narrow() -> Iterator[str]:
    """Yield the names of the optimizations that ask for a type, the widest type first."""
    found = {name: _precision(name) for name in registry.names("optimization")}
    types = [each for each in get_args(Precision) if each != "float32"]
    yield from (name for each in types for name, asked in found.items() if asked == each)


def _ways(name: str) -> list[Choice]:
    """Return the choices by which an optimization's type can be asked for."""
    technique = registry.find("optimization", name)
    if not issubclass(technique, Optimization):
        return []
    made = [registry.make("optimization", name, way) for way in technique.ways]
    return [registry.choice(each) for each in made]


def _precision(name: str) -> str | None:
    technique = registry.find("optimization", name)
    return technique.precision if issubclass(technique, Optimization) else None
