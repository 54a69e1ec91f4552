"""The child side of the suites: what must be seen in a process of its own.

``plan`` imports a technique, plans with it and says what that loaded; ``build`` builds an
artefact; ``infer`` infers with it. Each is the task of a job (:mod:`dlas.run.process.worker`). A
technique comes by its class, so that one that no package declares is found too.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dlas.core import registry
from dlas.core.errors import StepError
from dlas.core.keys import Json
from dlas.core.protocols import HardwareTechnique, Session, Technique
from dlas.core.stack import Choice
from dlas.testing.fakes import SmallImages, SmallNet, registered
from dlas.testing.jobs import BuildFacts, BuildJob, InferJob, Inferred, Picked, PlanJob, Planned

if TYPE_CHECKING:
    from dlas.core.protocols import Array

Args = Mapping[str, Any]
"""A job as JSON."""
HEAVY = (
    *("torch", "torchvision", "timm", "torch_pruning", "safetensors.torch", "tvm", "tvm_ffi"),
    *("onnx", "onnxruntime", "onnxscript", "openvino", "tensorflow", "jax", "ncnn"),
    *("executorch", "ai_edge_litert", "ai_edge_quantizer", "litert_torch"),
    *("pandas", "scipy", "sklearn", "matplotlib", "plotly"),
)
"""Libraries that planning a study must not wait for."""

BUSY_SECONDS, BUSY_WALL = 0.15, 5.0
"""Processor seconds in which threads are watched, all together, and the seconds it may take."""


def _loaded(more: tuple[str, ...] = ()) -> list[str]:
    return [name for name in dict.fromkeys((*HEAVY, *more)) if name in sys.modules]


def plan(args: Args) -> Planned:
    """Import a technique's class, then do with it what planning does; say what that loaded."""
    job = cast(PlanJob, args)
    before = _loaded()
    cls = _found(job["place"])
    facts: Planned = {
        "imported": sorted({*_loaded(cls.requires)} - {*before}),
        "planned": [],
        "identity": None,
    }
    with registered(SmallImages, SmallNet, cls):
        technique = registry.make(job["layer"], job["name"], job["params"])
        facts["identity"] = registry.identity(technique)
        if isinstance(technique, HardwareTechnique):
            facts["missing"] = technique.missing()
            facts["target"] = technique.target()
    facts["planned"] = sorted({*_loaded()} - {*before})
    return facts


def _found(place: str) -> type[Technique]:
    module, _, name = place.partition(":")
    found: type[Technique] = attrgetter(name)(importlib.import_module(module))
    return found


def build(args: Args) -> BuildFacts:
    """Build an artefact as a run does."""
    job = cast(BuildJob, args)
    from dlas.run.steps import build as step

    with registered(*(_found(c) for c in job["classes"])):
        facts = step.run(dict(job["args"]))["facts"]
    try:
        json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        return {"facts": None, "not_json": f"{error}: {facts!r}"}
    return {"facts": facts}


# ---------------------------------------------------------------- inferring


def infer(args: Args) -> Inferred:
    """Load an artefact and infer with it; say what was seen.

    Raises:
        StepError: whatever the technique raised, with the stage in which it did.
    """
    job, stage = cast(InferJob, args), ["start"]
    with registered(*(_found(c) for c in job["classes"])):
        try:
            return _infer(job, stage)
        except Exception as error:  # what a stranger's technique raises is unknown
            raise StepError(f"{stage[-1]}: {type(error).__name__}: {error}") from error


def _infer(job: InferJob, stage: list[str]) -> Inferred:
    import numpy as np

    software = registry.software(_choice(job["software"]))
    hardware = registry.hardware(_choice(job["hardware"], threads=job["threads"]))
    images = np.load(job["images"])
    images.flags.writeable = False  # as it is where images are mapped from a file
    batches = [images[at : at + job["batch"]] for at in range(0, len(images), job["batch"])]
    stage.append("load")
    session = software.load(Path(job["folder"]), hardware)
    is_session = isinstance(session, Session)
    stage.append("infer")
    first = session(batches[0])
    kept = np.array(first)
    results = [np.array(session(batch)) for batch in batches]
    overwritten = not np.array_equal(first, kept, equal_nan=True)
    backwards = [np.array(session(batch)) for batch in reversed(batches)][::-1]
    repeatable = _apart(results, backwards)
    busy = _busy(session, batches[0])
    stage.append("observe")
    ran = session.observe(batches[0])
    facts: Inferred = {
        "session": is_session,
        "type": type(first).__name__,
        "dtype": str(getattr(first, "dtype", None)),
        "shape": list(getattr(first, "shape", ())),
        "overwritten": overwritten,
        "repeatable": repeatable,
        "busy": busy,
        "ran_type": type(ran).__name__,
        "ran": json.loads(json.dumps(asdict(ran))),
        "after_observe": _apart(results[:1], [np.array(session(batches[0]))]),
        "tasks": len(list(Path("/proc/self/task").iterdir())),
        "torch": "torch" in sys.modules,
    }
    np.save(job["outputs"], np.concatenate(results))
    return facts


def _choice(made: Picked, **more: Json) -> Choice:
    return Choice(made["name"], {**made["params"], **more})


def _apart(one: list[Array], two: list[Array]) -> float | None:
    """The largest difference, 0.0 for the same bits; None where one is not a number."""
    import numpy as np

    a, b = np.concatenate(one).astype(np.float64), np.concatenate(two).astype(np.float64)
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    largest = float(np.abs(a - b).max())
    return largest if np.isfinite(largest) else None


def _busy(session: Session, x: Array) -> list[float] | None:
    """Processor seconds of each thread while inferring, the busiest first; None: not told."""
    before = _times()
    # Not by the clock on the wall: on a busy machine only one thread had its turn by then.
    end, last = time.process_time() + BUSY_SECONDS, time.perf_counter() + BUSY_WALL
    while time.process_time() < end and time.perf_counter() < last:
        session(x)
    after = _times()
    if not after:
        return None
    return sorted((s - before.get(task, 0.0) for task, s in after.items()), reverse=True)


def _times() -> dict[str, float]:
    times = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            times[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            continue
    return times
