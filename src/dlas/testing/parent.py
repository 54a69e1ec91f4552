"""The parent side of the suites' child processes (:mod:`dlas.testing.child`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlas.core import registry
from dlas.core.keys import Json
from dlas.core.protocols import HardwareTechnique, Software, Technique
from dlas.testing.jobs import BuildJob, InferJob, Inferred, Picked, PlanJob, Planned

if TYPE_CHECKING:
    from dlas.core.protocols import Array


def place(cls: type[Technique]) -> str:
    """Return where a class is found, ``module:name``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def run(
    mode: str,
    job: PlanJob | BuildJob | InferJob,
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = 600,
) -> Path:
    """Do a job in a process of its own; return where its answer lies.

    Raises:
        AssertionError: it ended by a signal, with an error, or not in time; with its last words.
    """
    file = folder / f"{mode}.json"
    file.write_text(json.dumps(job))
    # What can be imported here can be imported there.
    paths = os.pathsep.join(p for p in (str(Path.cwd()), *sys.path) if p)
    process = subprocess.Popen(
        [sys.executable, "-m", "dlas.testing.child", mode, str(file)],
        env={**os.environ, **(environment or {}), "PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{mode}: not done after {seconds:g} s") from None
    finally:
        _kill_all_of(process)
    if process.returncode < 0:
        raise AssertionError(f"{mode}: ended by {signal.Signals(-process.returncode).name}")
    if process.returncode:
        raise AssertionError(f"{mode} failed: {_last(said)}")
    return file.with_suffix(".answer")


def answer(path: Path) -> Any:
    """Return the answer of a job.

    Raises:
        AssertionError: the process ended with status 0 and left none.
    """
    if not path.is_file():
        raise AssertionError(f"{path.stem}: the process ended with status 0 before it was done")
    return json.loads(path.read_text())


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

    counts = [t for t in threads if t <= len(os.sched_getaffinity(0))]
    np.save(folder / "images.npy", images)
    job: InferJob = {
        "classes": [place(c) for c in (type(software), type(hardware), *others)],
        "software": _chosen(software),
        "hardware": _chosen(hardware),
        "preload": list(software.preload),
        "folder": str(artefact),
        "images": str(folder / "images.npy"),
        "threads": counts,
        "batch": batch,
    }
    environment = software.environment(hardware)
    file = run("infer", job, folder, environment=environment, seconds=300)
    return {count: _read(file.with_name(f"{file.stem}-{count}.json"), count) for count in counts}


def _read(file: Path, threads: int) -> tuple[Array, Inferred]:
    import numpy as np

    facts = answer(file)
    if "error" in facts:
        raise AssertionError(f"{facts['stage']} with {threads} threads: {facts['error']}")
    return np.load(file.with_suffix(".npy")), facts


def choices(**techniques: Technique) -> dict[str, Json]:
    """Return techniques as the arguments of a step."""
    return {name: registry.choice(made).to_json() for name, made in techniques.items()}


def _chosen(technique: Technique) -> Picked:
    made = registry.choice(technique)
    return {"name": made.name, "params": made.params}


def planned(
    cls: type[Technique], layer: str, name: str, params: Mapping[str, Json], folder: Path
) -> Planned:
    """Return what a process of its own says that only plans with a technique."""
    job: PlanJob = {"place": place(cls), "layer": layer, "name": name, "params": params}
    said: Planned = answer(run("plan", job, folder, seconds=120))
    return said


def _kill_all_of(process: subprocess.Popen[str]) -> None:
    """Kill a process and what it left in its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # the usual: nothing is left of it
    finally:
        process.wait()


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1][:600] if lines else "it said nothing"
