"""The parent side of the suites' child processes: they are started as a run's are.

What the children do is :mod:`dlas.testing.child`. All suites of a process share one
:class:`~dlas.run.process.isolate.Pool`, so that torch and the runtimes are imported once for all.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dlas.core import registry
from dlas.core.keys import Json
from dlas.core.protocols import HardwareTechnique, Software, Technique
from dlas.core.records import MeasureSettings
from dlas.run.process.isolate import Pool
from dlas.run.process.tasks import Job, Launch, Server
from dlas.testing.jobs import BuildFacts, BuildJob, InferJob, Inferred, Picked, PlanJob, Planned

if TYPE_CHECKING:
    from dlas.core.protocols import Array

BUILD_S, INFER_S, PLAN_S = 600.0, 300.0, 120.0
"""Seconds after which a child is taken to hang."""


def place(cls: type[Technique]) -> str:
    """Return where a class is found, ``module:name``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def planned(
    cls: type[Technique],
    layer: str,
    name: str,
    params: Mapping[str, Json],
    cpus: tuple[int, ...] | None = None,
) -> Planned:
    """Return what a process of its own says that only plans with a technique.

    ``cpus``: the processors that it is held to, from its start.

    Raises:
        AssertionError: it ended without an answer; says how.
    """
    job: PlanJob = {"place": place(cls), "layer": layer, "name": name, "params": params}
    server = _server(("dlas.testing.child",), ())
    said: Planned = _done("plan", job, server, PLAN_S, cpus, "fork" if cpus is None else "exec")
    return said


def build(
    software: Software,
    hardware: HardwareTechnique,
    args: Mapping[str, Json],
    involved: Iterable[type[Technique]],
) -> BuildFacts:
    """Build an artefact as a run does: torch is ready where the program is torch's.

    Raises:
        AssertionError: the build failed; says how.
    """
    job: BuildJob = {"args": dict(args), "classes": [place(c) for c in involved]}
    preload = software.preload if software.form == "onnx" else ("torch",)
    server = _server(preload, _variables(software.environment(hardware)))
    said: BuildFacts = _done("build", job, server, BUILD_S)
    return said


def infer(
    software: Software,
    artefact: Path,
    images: Array,
    folder: Path,
    *,
    hardware: HardwareTechnique,
    threads: Sequence[int] = (1, 2),
    batch: int = 1,
    others: Iterable[type[Technique]] = (),
) -> dict[int, tuple[Array, Inferred]]:
    """Infer as a run does: a server preloads the runtime, a child is forked per thread count.

    Returns for each count the outputs, ``(len(images), classes)``, and the facts. Counts beyond
    the processors of this machine are left out. ``folder`` is for files.

    Raises:
        AssertionError: a process failed; the sentence says in what stage.
    """
    import numpy as np

    there = sorted(os.sched_getaffinity(0))
    np.save(folder / "images.npy", images)
    server = _server(software.preload, _variables(software.environment(hardware)))
    results: dict[int, tuple[Array, Inferred]] = {}
    for count in (t for t in threads if t <= len(there)):
        job: InferJob = {
            "classes": [place(c) for c in (type(software), type(hardware), *others)],
            "software": _chosen(software),
            "hardware": _chosen(hardware),
            "folder": str(artefact),
            "images": str(folder / "images.npy"),
            "outputs": str(folder / f"outputs-{count}.npy"),
            "threads": count,
            "batch": batch,
        }
        results[count] = _inferred(job, server, tuple(there[-count:]))
    return results


def _inferred(job: InferJob, server: Server, cpus: tuple[int, ...]) -> tuple[Array, Inferred]:
    """Return the outputs and the facts of one child."""
    import numpy as np

    what = f"inferring with {job['threads']} threads"
    facts: Inferred = _done("infer", job, server, INFER_S, cpus, what=what)
    return np.load(job["outputs"]), facts


def choices(**techniques: Technique) -> dict[str, Json]:
    """Return techniques as the arguments of a step."""
    return {name: registry.choice(made).to_json() for name, made in techniques.items()}


def _chosen(technique: Technique) -> Picked:
    made = registry.choice(technique)
    return {"name": made.name, "params": made.params}


# ---------------------------------------------------------------- processes


@cache
def _pool() -> Pool:
    """Return the pool of this process, which ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="dlas-testing-jobs-"))
    pool, mine = Pool(folder), os.getpid()

    @atexit.register
    def close() -> None:
        if os.getpid() == mine:  # torch forks processes that end as if they were this one
            pool.close()
            shutil.rmtree(folder, ignore_errors=True)

    return pool


@cache
def _server(preload: tuple[str, ...], variables: tuple[tuple[str, str], ...]) -> Server:
    """Return a server that finds what this process found when it was first asked for."""
    return Server(preload, (*variables, ("PYTHONPATH", os.pathsep.join(_paths()))))


def _paths() -> tuple[str, ...]:
    """Return where this process looks for modules: what it can import, its children can."""
    return tuple(dict.fromkeys(p for p in (str(Path.cwd()), *sys.path) if p))


def _variables(more: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(more.items()))


def _done(
    mode: str,
    job: PlanJob | BuildJob | InferJob,
    server: Server,
    seconds: float,
    cpus: tuple[int, ...] | None = None,
    launch: Launch = "fork",
    what: str = "",
) -> Any:
    """Have a job done in a process of its own; return its answer."""
    outcome = _pool().run(
        server,
        Job(
            task=f"dlas.testing.child:{mode}",
            args=cast(Mapping[str, Json], job),
            stage=mode,
            timeout_s=seconds,
            memory_limit_mb=MeasureSettings.model_validate({}).memory_limit_mb,
            cpus=cpus,
            paths=_paths(),
        ),
        launch,
    )
    if not outcome.ok:
        raise AssertionError(f"{what or mode} failed: {outcome.reason}")
    return outcome.value
