"""What every runtime promises: built in one process, loaded and run in others, as in a run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import SkipTest

from dlas.core import registry
from dlas.core.keys import Json
from dlas.core.protocols import (
    Algorithm,
    HardwareTechnique,
    Network,
    Precision,
    Ran,
    Refusal,
    Software,
    Technique,
    Techniques,
    unavailable,
)
from dlas.core.stack import Choice
from dlas.run.measure.verdict import asked_and_ran, compare_outputs, output_problem
from dlas.testing import parent
from dlas.testing.check import Judge, Suite
from dlas.testing.jobs import Inferred
from dlas.testing.model import outputs_of
from dlas.testing.stand_ins import PRECISIONS, NamedKernels, OwnKernels, asking, stack_of

if TYPE_CHECKING:
    from dlas.core.protocols import Array

IMAGES = 32
THREADS = (1, 2)
OWN = "own int8"
"""Int8 by the runtime's own quantization: ``int8: {route: own}``."""
STILL = 0.2
"""Beyond this share of the busiest thread's processor time another one counts as busy."""

_LOWERED = {"onnx": "model.onnx", "exported": "model.pt2"}


@dataclass(frozen=True)
class _Seen:
    """What a runtime did with a network: outputs and facts by number of threads."""

    facts: Json
    files: tuple[str, ...]
    reference: Array
    results: Mapping[int, tuple[Array, Inferred]]


def _hardware() -> HardwareTechnique:
    return registry.hardware(Choice("cpu", {"threads": 1}))


def _algorithm(suite: Suite) -> Algorithm:
    """Return the algorithm to build with: the runtime's own, or one by name where it must be."""
    software = suite.technique
    stack = stack_of(suite.on.dataset, suite.on.model, OwnKernels(), software, _hardware())
    refused = software.why_not(stack)
    named = software.why_not(replace(stack, algorithm=NamedKernels()))
    return NamedKernels() if refused is not None and named is None else OwnKernels()


def _refused(suite: Suite, algorithm: Algorithm, way: str) -> Refusal | None:
    if way == OWN and not suite.technique.quantizer:
        return unavailable(f"{suite.name} has no int8 quantization of its own")
    said: Refusal | None = suite.technique.why_not(_stack(suite, algorithm, way))
    return said


def _kind(way: str) -> Precision:
    """Return the precision that is asked for in one of the ways to ask for one."""
    return "int8" if way == OWN else next(kind for kind in PRECISIONS if kind == way)


def _stack(suite: Suite, algorithm: Algorithm, way: str) -> Techniques:
    step = () if way == "float32" else (asking(_kind(way), left_to_runtime=way == OWN),)
    return stack_of(
        *(suite.on.dataset, suite.on.model, *step, algorithm, suite.technique, _hardware())
    )


def _seen(suite: Suite, way: str = "float32", algorithm: Algorithm | None = None) -> _Seen:
    """Return what the runtime does in a precision; skip where it refuses that with a reason."""
    suite.needs("torch", "safetensors")
    chosen = algorithm or _algorithm(suite)
    refused = _refused(suite, chosen, way)
    if refused is not None:
        raise SkipTest(refused.reason)
    return suite.once(f"seen {way} {chosen.name}", lambda: _build_and_run(suite, way, chosen))


def _build_and_run(suite: Suite, way: str, algorithm: Algorithm) -> _Seen:
    software: Software = suite.technique
    home = suite.folder(way.replace(" ", "-"))
    network = _network(suite, way, home)
    images = suite.on.dataset.load("test").images(range(IMAGES))
    reference = outputs_of(network, images)
    stored, lowered = _lower(suite, network, software, home)
    built = home / "built"
    built.mkdir()
    args: dict[str, Json] = {
        "network": str(stored),
        **({"lowered": str(lowered)} if lowered else {}),
        **parent.choices(software=software, algorithm=algorithm, hardware=_hardware()),
        "folder": str(built),
    }
    involved: list[type[Technique]] = [
        *(type(suite.on.dataset), type(suite.on.model), type(algorithm), type(software))
    ]
    said = parent.build(software, _hardware(), args, involved)
    suite.demand(
        "not_json" not in said, f"build() returns what is no JSON: {said.get('not_json')}"
    )
    files = tuple(sorted(p.name for p in built.rglob("*") if p.is_file()))
    # The artefact must stand alone: it moves, and what it was built from goes.
    artefact = suite.folder("artefact") / "moved"
    built.rename(artefact)
    for source in (stored, lowered, network.onnx):
        _remove(source)
    results = parent.infer(
        software,
        artefact,
        images,
        home,
        hardware=_hardware(),
        threads=THREADS,
        batch=network.spec.batch,
        others=involved,
    )
    return _Seen(said["facts"], files, reference, results)


def _remove(source: Path | None) -> None:
    if source is not None and source.is_dir():
        shutil.rmtree(source)
    elif source is not None:
        source.unlink(missing_ok=True)


def _network(suite: Suite, way: str, home: Path) -> Network:
    """Return the suite's network in a precision, by dlas's own optimization of that name."""
    network = suite.on.model.build(suite.on.dataset)
    if way == "float32":
        return network
    precision = _kind(way)
    params: dict[str, Json] = {"images": 16} if precision == "int8" else {}
    params |= {"route": "own"} if way == OWN else {}
    cls = registry.find("optimization", precision)
    absent = registry.missing(cls)
    if absent is not None:
        raise SkipTest(absent.reason)
    step = registry.optimization(Choice(precision, params))
    folder = home / "optimized"
    folder.mkdir()
    data = suite.on.dataset.load("train") if step.data == "train" else None
    return step.apply(network, data, folder).network


def _lower(
    suite: Suite, network: Network, software: Software, home: Path
) -> tuple[Path, Path | None]:
    """Store the network and, where the runtime takes another form, that; return their folders."""
    from dlas.run.steps.convert import to_exported, to_onnx
    from dlas.run.steps.saved import recipe, save_network

    stored = home / "network"
    made_by = recipe(registry.choice(suite.on.dataset), registry.choice(suite.on.model))
    save_network(network, stored, made_by)
    if software.form == "module":
        return stored, None
    if software.form == "onnx" and network.onnx is None:
        suite.needs("onnx", "onnxscript")
    lowered = home / "lowered"
    lowered.mkdir()
    (to_onnx if software.form == "onnx" else to_exported)(
        network, lowered / _LOWERED[software.form]
    )
    return stored, lowered


# ---------------------------------------------------------------- the checks


def it_builds_an_artefact(suite: Suite) -> None:
    """``build`` fills the folder that it is given and returns facts as JSON."""
    seen = _seen(suite)
    suite.demand(seen.files, "build() left no file in its folder")


def the_artefact_stands_alone(suite: Suite) -> None:
    """The folder can be moved, what it was built from can go, and another process loads it."""
    for threads, (_, facts) in _seen(suite).results.items():
        suite.demand(
            facts["session"], f"load() with {threads} threads gives no Session (call, observe)"
        )


def outputs_are_float32_rows(suite: Suite) -> None:
    """A session returns a float32 numpy array ``(batch, classes)``."""
    spec = suite.on.dataset.spec()
    for outputs, facts in _seen(suite).results.values():
        said = f"a {facts['type']} of {facts['dtype']}, {facts['shape']}"
        good = (facts["type"], facts["dtype"]) == ("ndarray", "float32")
        good = good and facts["shape"] == [spec.batch, spec.classes]
        suite.demand(
            good, f"a session returns {said}; needed float32 {(spec.batch, spec.classes)}"
        )
        suite.demand(len(outputs) == IMAGES, f"{IMAGES} images gave {len(outputs)} outputs")


def _judges(way: str) -> tuple[Judge, Judge]:
    precision = _kind(way)

    def outputs(suite: Suite) -> None:
        seen = _seen(suite, way)
        for threads, (found, _) in seen.results.items():
            problem = output_problem(compare_outputs(found, seen.reference), precision)
            suite.demand(problem is None, f"{way}, {threads} threads: {problem}")

    def ran(suite: Suite) -> None:
        for threads, (_, facts) in _seen(suite, way).results.items():
            suite.demand(facts["ran_type"] == "Ran", f"observe() gives a {facts['ran_type']}")
            seen = Ran(precision=facts["ran"]["precision"])
            stack = replace(_stack(suite, _algorithm(suite), way), probed=seen)
            if refused := registry.other_type(stack):
                raise SkipTest(refused.reason)  # as a run refuses it, having looked
            problem = asked_and_ran(
                precision=precision,
                declared=suite.technique.executes,
                threads=threads,
                ran={"precision": facts["ran"]["precision"]},
            )
            suite.demand(problem is None, f"{problem}")

    unless = "" if way == "float32" else ", unless refused"
    called = way.replace("own ", "its_own_")
    outputs.__name__ = f"outputs_are_right_in_{called}"
    outputs.__doc__ = f"{way}{unless}: the outputs are within the tolerance of a run."
    ran.__name__ = f"what_ran_in_{called}_was_asked_for"
    ran.__doc__ = f"{way}{unless}: `observe` says that it ran, or a declared other type."
    return outputs, ran


def a_session_is_repeatable(suite: Suite) -> None:
    """With one thread the same image gives the same bits, in any order of images."""
    _, facts = _seen(suite).results[1]
    for what in ("repeatable", "after_observe"):
        suite.demand(
            facts[what] == 0, f"the same images give outputs that differ by {facts[what]} ({what})"
        )


def outputs_are_not_overwritten(suite: Suite) -> None:
    """What an inference returned stays as it is when the next one runs."""
    for _, facts in _seen(suite).results.values():
        suite.demand(
            not facts["overwritten"], "the next inference changed the outputs of the last"
        )


def threads_are_as_asked(suite: Suite) -> None:
    """It computes with as many threads as the hardware says, and with one there is one busy."""
    for threads, (_, facts) in _seen(suite).results.items():
        used = facts["ran"]["threads"]
        suite.demand(
            used is None or used == threads, f"asked for {threads} threads, observed {used}"
        )
        suite.demand(
            used is None or facts["tasks"] >= used,
            f"it says {used} threads and the process has {facts['tasks']}",
        )
        busy = facts["busy"] or [0.0]
        active = [s for s in busy if s > STILL * busy[0]]
        suite.demand(
            threads > 1 or len(active) == 1,
            f"asked for one thread, {len(active)} were busy: {[round(s, 3) for s in active]} s",
        )


def the_algorithm_asked_for_runs_or_is_told(suite: Suite) -> None:
    """A runtime that takes a named algorithm runs it, or tells the fallback."""
    seen = _seen(suite, algorithm=NamedKernels())
    for outputs, facts in seen.results.values():
        ran = facts["ran"]
        wanted = NamedKernels().kernel(None, "native")
        told = any(str(wanted) in str(kernel) for kernel in ran["kernels"].values())
        suite.demand(
            told or ran["fallbacks"],
            f"{wanted} was asked for; {ran['kernels']} ran and no fallback is told",
        )
        problem = output_problem(compare_outputs(outputs, seen.reference), "float32")
        suite.demand(problem is None, f"by {wanted}: {problem}")


def its_environment_is_text(suite: Suite) -> None:
    """``environment`` gives variables as text, the same twice."""
    for threads in THREADS:
        hardware = replace(_hardware(), threads=threads)
        said: object = suite.technique.environment(hardware)
        good = isinstance(said, dict) and all(
            isinstance(k, str) and isinstance(v, str) for k, v in said.items()
        )
        suite.demand(good, f"environment() must be a dict of text, it is {said!r}")
        again = suite.technique.environment(hardware)
        suite.demand(said == again, f"environment() is {said!r}, then {again!r}")


def its_declared_differences_are_precisions(suite: Suite) -> None:
    """``executes`` maps precisions to precisions; ``preload`` names modules."""
    known = {"float32", "float16", "bfloat16", "int8"}
    executes, preload = suite.technique.executes, suite.technique.preload
    strange = ({*executes} | {*executes.values()}) - known
    suite.demand(not strange, f"executes names what is no precision: {', '.join(strange)}")
    suite.demand(isinstance(preload, tuple), f"preload is {preload!r}: needed a tuple of modules")


SOFTWARE = (
    its_environment_is_text,
    its_declared_differences_are_precisions,
    it_builds_an_artefact,
    the_artefact_stands_alone,
    outputs_are_float32_rows,
    *(judge for way in (*PRECISIONS, OWN) for judge in _judges(way)),
    a_session_is_repeatable,
    outputs_are_not_overwritten,
    threads_are_as_asked,
    the_algorithm_asked_for_runs_or_is_told,
)
