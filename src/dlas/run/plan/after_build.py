"""The steps that look at a built artefact: keyed by its content and by the host's class.

Evaluations and memory readings are shared by all cells that run the same artefact the same way;
a measurement belongs to one cell, round and control.
"""

from __future__ import annotations

from dlas.core import registry
from dlas.core.keys import Json, key
from dlas.core.records import MeasureSettings, Stage
from dlas.run.plan.identities import software_identity
from dlas.run.plan.plan import Runnable, Step
from dlas.run.plan.servers import NETWORK_SERVER
from dlas.store.artifacts import StepRecord

PROTOCOL = ("min_runs", "min_seconds", "warmup_runs", "warmup_seconds", "warmup_max_seconds")
"""The settings that enter a measurement's key; the number of rounds or samples never does."""


def _runtime(plan: Runnable) -> Json:
    return software_identity(plan.techniques.software, plan.interpreter)


def _hardware(plan: Runnable) -> Json:
    return registry.identity(plan.techniques.hardware)


TOLD = ("model", "optimization", "algorithm", "software", "hardware")
"""The layers that tell cells apart for people who watch."""


def baseline_step(plan: Runnable, settings: MeasureSettings, host: str) -> Step:
    """Return the step that predicts with the unoptimized network in PyTorch, float32."""
    source = registry.source_version("dlas.run.steps.evaluate")
    return Step(
        key=key("baseline", plan.prepared, host, source, registry.installed_version("torch")),
        stage=Stage.EVALUATE,
        task="dlas.run.steps.evaluate:run_baseline",
        args={"dataset": plan.stack.dataset[0].to_json()},
        inputs={"network": plan.prepared},
        server=NETWORK_SERVER,
        text=f"baseline {plan.stack.text('dataset')} {plan.stack.text('model')}",
        samples=settings.accuracy_samples,
        host=host,
    )


def evaluate_step(plan: Runnable, built: StepRecord, settings: MeasureSettings, host: str) -> Step:
    """Return the step that checks an artefact's outputs and predicts the evaluated subset.

    Accuracy can depend on the instruction set, so the host's class is in the key; it does not
    depend on the thread count, so cells that differ in it alone share the step.
    """
    source = registry.source_version("dlas.run.steps.evaluate")
    target = [plan.stack.hardware[0].name, plan.techniques.hardware.target()]
    return Step(
        key=key("evaluate", built.content, plan.reference, _runtime(plan), target, host, source),
        stage=Stage.EVALUATE,
        task="dlas.run.steps.evaluate:run",
        args={
            "dataset": plan.stack.dataset[0].to_json(),
            "software": plan.stack.software[0].to_json(),
            "hardware": plan.stack.hardware[0].to_json(),
        },
        inputs={"artifact": plan.build, "inputs": plan.inputs, "reference": plan.reference},
        server=plan.server,
        text=plan.text(*TOLD),
        samples=settings.accuracy_samples,
        host=host,
    )


def memory_step(plan: Runnable, built: StepRecord, host: str) -> Step:
    """Return the step that reads one artefact's memory in a process of its own."""
    source = registry.source_version("dlas.run.measure.memory")
    return Step(
        key=key("memory", built.content, _runtime(plan), _hardware(plan), host, source),
        stage=Stage.MEMORY,
        task="dlas.run.measure.memory:run",
        args={
            "software": plan.stack.software[0].to_json(),
            "hardware": plan.stack.hardware[0].to_json(),
            "batch": plan.techniques.dataset.spec().batch,
        },
        inputs={"artifact": plan.build, "inputs": plan.inputs},
        server=plan.server,
        text=plan.text(*TOLD),
        launch="exec",
        placed=plan.threads if plan.threads > 1 else 0,
        host=host,
    )


def measure_key(plan: Runnable, built: StepRecord, settings: MeasureSettings, host: str) -> str:
    """Return the key of a cell's measurements on a host: the protocol and what is measured."""
    chosen = {name: getattr(settings, name) for name in PROTOCOL}
    source = registry.source_version("dlas.run.measure.latency")
    return key("measure", built.content, _runtime(plan), _hardware(plan), host, chosen, source)
