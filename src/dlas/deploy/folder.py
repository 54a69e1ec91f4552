"""A complete cell -> a folder that runs without dlas, with the proof that it does."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dlas.core import registry
from dlas.core.errors import StepError, StorageError, UserError
from dlas.core.keys import folder_manifest
from dlas.core.protocols import Dataset, Software, Techniques
from dlas.deploy.card import card, readme
from dlas.deploy.picked import Located, pick
from dlas.deploy.shipping import Deployment, class_names, deployment
from dlas.run.measure.verdict import compare_outputs, output_problem
from dlas.run.process.interpreters import no_program, probe
from dlas.tables import intake

SAMPLES = 16
"""Inputs that are stored with their outputs; a whole number of batches."""
ALWAYS = ("numpy", "pillow")
CARD = "stack.json"
PROOF = """
import numpy as np
from predict import outputs
np.save("samples/outputs.npy", outputs(np.load("samples/inputs.npy")))
"""
PROOF_S = 600
UNSHIPPED = "venv\n__pycache__\n*.pyc\n"
"""What an image leaves out: the environment that the README makes beside the files."""
PREPROCESSING = ("size", "resize", "channels", "mean", "std", "interpolation")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported, and where it is."""

    folder: Path
    cell: str
    card: Mapping[str, Any]
    """``stack.json``."""


def export(
    folder: Path, cell: str, to: Path, store: Path | None = None, metric: str | None = None
) -> Exported:
    """Write the folder ``to`` for a cell of an output folder (``best``: of the study's goals).

    It is run once here, in a process of its own: elsewhere the same outputs are expected.
    ``metric`` is what the best is judged by; None: latency undisturbed.

    Raises:
        UserError: no such cell, one that is not complete, of another machine, or whose artefact is
            gone; a runtime that cannot be exported; ``to`` holds other things.
        StorageError: the disk refuses, or a file is damaged.
    """
    _check_free(to)
    picked = pick(folder, cell, store, metric)
    try:
        to.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to.absolute().parent, prefix=f".{to.name}.") as made:
            inner = Path(made) / "folder"
            told = _fill(inner, picked)
            if to.exists():
                shutil.rmtree(to)
            inner.rename(to)
    except OSError as error:
        raise StorageError(f"{to} cannot be written: {error.strerror or error}") from error
    return Exported(to, picked.cell, told)


def _check_free(to: Path) -> None:
    """Refuse to write over anything but an earlier export.

    Raises:
        UserError: the folder holds other things.
    """
    if not to.exists() or (to.is_dir() and not any(to.iterdir())) or (to / CARD).is_file():
        return
    what = "is a file" if to.is_file() else "is not empty and no exported folder"
    raise UserError(f"--to {to}: {what}; give a new folder, or one that was exported before")


# ---------------------------------------------------------------- what stands in it


def _fill(made: Path, picked: Located) -> dict[str, Any]:
    techniques = registry.resolve(picked.stack)
    with contextlib.chdir(intake.study_folder(picked.folder)):
        software = _placed(techniques.software)
        names, preprocessing = _of_data(techniques.dataset)
        spec = techniques.dataset.spec()
    needs = deployment(software, picked.artifact)
    versions = _versions(software, needs)
    shutil.copytree(picked.artifact, made / "artefact")
    _copy_module("dlas.deploy.standalone.predict", made / "predict.py")
    _copy_module("dlas.deploy.standalone.verify", made / "verify.py")
    _copy_module("dlas.layers.dataset.shared.upright", made / "upright.py")
    _copy_module(needs.loader, made / "runtime.py")
    for place, data in needs.beside.items():
        (made / place).parent.mkdir(parents=True, exist_ok=True)
        (made / place).write_bytes(data)
    told = card(
        picked,
        needs,
        shape=spec.shape,
        labels=names,
        labelled=techniques.dataset.labelled,
        preprocessing=preprocessing,
        environment=software.environment(techniques.hardware),
        versions=versions,
        precision=techniques.precision,
    )
    _write(made, told, needs)
    _prove(made, picked, techniques, software.python or sys.executable)
    told["files"] = {n: h for n, h in folder_manifest(made).items() if n != CARD}
    (made / CARD).write_text(_json(told), encoding="utf-8")
    return told


def _write(made: Path, told: Mapping[str, Any], needs: Deployment) -> None:
    distributions = told["runtime"]["distributions"]
    lines = [f"{name}=={version}\n" for name, version in distributions.items()]
    (made / "requirements.txt").write_text("".join(lines), encoding="utf-8")
    (made / "README.md").write_text(readme(told), encoding="utf-8")
    (made / "Dockerfile").write_text(_dockerfile(told, needs), encoding="utf-8")
    (made / ".dockerignore").write_text(UNSHIPPED, encoding="utf-8")
    (made / CARD).write_text(_json(told), encoding="utf-8")


def _json(told: Mapping[str, Any]) -> str:
    return json.dumps(told, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _dockerfile(told: Mapping[str, Any], needs: Deployment) -> str:
    python = ".".join(told["runtime"]["python"].split(".")[:2])
    packages = " ".join(needs.system)
    install = (
        f"RUN apt-get update && apt-get install -y --no-install-recommends {packages} "
        "&& rm -rf /var/lib/apt/lists/*\n"
        if packages
        else ""
    )
    return (
        "#   docker build -t stack . && docker run --rm --entrypoint python stack verify.py\n"
        "#   docker run --rm -v $PWD:/data stack /data/image.jpg\n"
        f"FROM python:{python}-slim\n"
        f"{install}"
        "WORKDIR /stack\n"
        "COPY requirements.txt .\n"
        "RUN pip install --no-cache-dir -r requirements.txt\n"
        "COPY . .\n"
        'ENTRYPOINT ["python", "predict.py"]\n'
    )


def _copy_module(module: str, to: Path) -> None:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"the module {module} that is to be copied is not installed")
    shutil.copyfile(spec.origin, to)


def _of_data(dataset: Dataset) -> tuple[tuple[str, ...], dict[str, Any] | None]:
    """Return the names of the classes, and how an image becomes an input, if it is said."""
    prepare = getattr(dataset.load("test"), "prepare", None)
    told = asdict(prepare) if is_dataclass(prepare) and not isinstance(prepare, type) else {}
    known = {name: told[name] for name in PREPROCESSING if name in told}
    return class_names(dataset), known if len(known) == len(PREPROCESSING) else None


def _placed(software: Software) -> Software:
    """Return software whose interpreter is found from anywhere, not from the study's folder alone.

    Raises:
        UserError: it is no program.
    """
    if not software.python:
        return software
    found = shutil.which(software.python)
    if found is None:
        raise UserError(no_program(software.python))
    return replace(software, python=str(Path(found).absolute()))


def _versions(software: Software, needs: Deployment) -> dict[str, str]:
    """Return the versions of what has to be installed, and of Python.

    Raises:
        UserError: something is not installed.
    """
    names = [*ALWAYS, *needs.distributions]
    if software.python:
        other = probe(software.python)
        if other.problem:
            raise UserError(other.problem)
        known = {name.lower(): version for name, version in other.versions.items()}
        found = {name: known.get(name.lower(), "absent") for name in names}
        python = other.versions["python"]
    else:
        found = {name: registry.installed_version(name) for name in names}
        python = platform.python_version()
    if absent := [name for name, version in found.items() if version == "absent"]:
        raise UserError(f"{', '.join(absent)}: not installed, so there is no version to pin")
    # A build of one's own index (2.14.1+cpu) is not on PyPI; the version without its label is.
    pinned = {name: version.partition("+")[0] for name, version in found.items()}
    return {**pinned, "python": python}


# ---------------------------------------------------------------- the proof


def _prove(made: Path, picked: Located, techniques: Techniques, program: str) -> None:
    """Store inputs, run the folder on them in a process of its own, and store the outputs.

    ``program``: the interpreter, by a path that holds anywhere.

    Raises:
        StepError: it does not run, or its outputs are not those of the network.
    """
    samples = made / "samples"
    samples.mkdir()
    batch = techniques.dataset.spec().batch
    inputs = np.load(picked.inputs / "samples.npy", mmap_mode="r", allow_pickle=False)
    count = -(-SAMPLES // batch) * batch
    np.save(samples / "inputs.npy", np.ascontiguousarray(inputs[:count]))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [program, "-c", PROOF], cwd=made, env=environment, capture_output=True, text=True,
            timeout=PROOF_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise StepError(f"the exported folder did not end within {PROOF_S} s") from error
    if done.returncode:
        end = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise StepError(f"the exported folder does not run: {end[0]}")
    if picked.reference is None:
        return
    found = np.load(samples / "outputs.npy", allow_pickle=False)
    reference = np.load(picked.reference / "outputs.npy", allow_pickle=False)[: len(found)]
    if problem := output_problem(compare_outputs(found, reference), techniques.precision):
        raise StepError(f"the exported folder gives {problem}")
