"""The child side of the suites: what must be seen in a process of its own.

    python -m dlas.testing.child plan FILE     import a technique, plan with it, say what it loaded
    python -m dlas.testing.child build FILE    build an artefact
    python -m dlas.testing.child infer FILE    preload, fork a child per thread count, infer there

FILE is a job (JSON); the answer is written beside it. A technique comes by its class, so that one
that no package declares is found too.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.core import registry
from dlas.core.keys import Json
from dlas.core.protocols import HardwareTechnique, Session, Technique
from dlas.core.stack import Choice
from dlas.testing.fakes import SmallImages, SmallNet, registered
from dlas.testing.jobs import BuildJob, InferJob, Inferred, Picked, PlanJob, Planned

if TYPE_CHECKING:
    from dlas.core.protocols import Array

HEAVY = (
    *("torch", "torchvision", "timm", "torch_pruning", "safetensors.torch", "tvm", "tvm_ffi"),
    *("onnx", "onnxruntime", "onnxscript", "openvino", "tensorflow", "jax", "ncnn"),
    *("pandas", "scipy", "sklearn", "matplotlib", "plotly"),
)
"""Libraries that planning a study must not wait for."""

BUSY_SECONDS = 0.15


def _loaded(more: tuple[str, ...] = ()) -> list[str]:
    return [name for name in dict.fromkeys((*HEAVY, *more)) if name in sys.modules]


def plan(job: PlanJob, answer: Path) -> None:
    """Import a technique's class, then do with it what planning does; say what that loaded."""
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
    answer.write_text(json.dumps(facts))


def _found(place: str) -> type[Technique]:
    module, _, name = place.partition(":")
    found: type[Technique] = attrgetter(name)(importlib.import_module(module))
    return found


def build(job: BuildJob, answer: Path) -> None:
    """Build an artefact as a run does."""
    from dlas.run.steps import build as step

    with registered(*(_found(c) for c in job["classes"])):
        facts = step.run(dict(job["args"]))["facts"]
    try:
        text = json.dumps({"facts": facts}, allow_nan=False)
    except (TypeError, ValueError) as error:
        text = json.dumps({"facts": None, "not_json": f"{error}: {facts!r}"})
    answer.write_text(text)


# ---------------------------------------------------------------- inferring


def infer(job: InferJob, answer: Path) -> None:
    """Preload a runtime, then fork a child for each thread count; each writes its answer."""
    for module in ("numpy", *job["preload"]):
        importlib.import_module(module)
    with registered(*(_found(c) for c in job["classes"])):
        for threads in job["threads"]:
            out = answer.with_name(f"{answer.stem}-{threads}.json")
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
                    _infer(job, threads, out)
                    code = 0
                except BaseException as error:
                    said = f"{type(error).__name__}: {error}"
                    _say(out, {"error": said, "stage": _STAGE[-1]})
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            status = os.waitpid(pid, 0)[1]
            if os.WIFSIGNALED(status):
                _say(out, {"error": f"ended by signal {os.WTERMSIG(status)}", "stage": ""})


_STAGE = ["start"]


def _say(out: Path, facts: Mapping[str, object]) -> None:
    out.write_text(json.dumps(facts))


def _infer(job: InferJob, threads: int, out: Path) -> None:
    import numpy as np

    software = registry.software(_choice(job["software"]))
    hardware = registry.hardware(_choice(job["hardware"], threads=threads))
    images = np.load(job["images"])
    images.flags.writeable = False  # as it is where images are mapped from a file
    batches = [images[at : at + job["batch"]] for at in range(0, len(images), job["batch"])]
    _STAGE.append("load")
    session = software.load(Path(job["folder"]), hardware)
    is_session = isinstance(session, Session)
    _STAGE.append("infer")
    first = session(batches[0])
    kept = np.array(first)
    results = [np.array(session(batch)) for batch in batches]
    overwritten = not np.array_equal(first, kept, equal_nan=True)
    backwards = [np.array(session(batch)) for batch in reversed(batches)][::-1]
    repeatable = _apart(results, backwards)
    busy = _busy(session, batches[0])
    _STAGE.append("observe")
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
    np.save(out.with_suffix(".npy"), np.concatenate(results))
    _say(out, facts)


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
    end = time.perf_counter() + BUSY_SECONDS
    while time.perf_counter() < end:
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


def main(argv: list[str]) -> None:
    """Do one job."""
    mode, file = argv
    job = json.loads(Path(file).read_text())
    {"plan": plan, "build": build, "infer": infer}[mode](job, Path(file).with_suffix(".answer"))


if __name__ == "__main__":
    main(sys.argv[1:])
