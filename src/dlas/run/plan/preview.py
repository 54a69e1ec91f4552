"""What a run of a study would do and cost: counts from the plan, seconds and bytes as guesses.

Sizes: a network has the bytes of its weights as float32 where the model names a file of weights,
``UNKNOWN_NETWORK`` where it does not; what is made of it follows from that. Steps whose artefact a
store knows count with their real size. The least that a disk budget may be is the most that is
held at once when steps run one by one in the plan's order, each intermediate artefact dropped
after the last step that reads it.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlas.core.errors import DlasError
from dlas.core.keys import Json
from dlas.core.protocols import Dataset, DataSpec, Optimization, Precision, Techniques
from dlas.core.records import Stage
from dlas.run.plan.durations import Pilot, by_dataset, read_pilot
from dlas.run.plan.plan import (
    Plan,
    Refused,
    Runnable,
    Seen,
    Step,
    make,
    measurement_count,
    nobody_looked,
)
from dlas.run.steps.sampling import fixed_count
from dlas.store.artifacts import ArtifactStore
from dlas.store.budget import INTERMEDIATE, Inventory, Known
from dlas.study.study import Study

UNKNOWN_NETWORK = 10_000_000
"""Bytes of a network without a file of weights."""
WIDTH = {"float32": 1.0, "float16": 0.5, "bfloat16": 0.5, "int8": 0.3}
"""Bytes of a stored network by its precision, as a share of float32; zeros are stored."""
CODE = {"module": 10_000, "onnx": 20_000, "exported": 700_000}
"""Bytes of a build beside the weights, by the form that the software takes."""
ONE_OPERATOR = 200_000
"""Bytes of what is built to measure the overhead of one operator."""
UNKNOWN_SPEC = DataSpec(classes=100, channels=3, height=64, width=64)


def preview(
    study: Study,
    store: Path | None = None,
    seen: Seen = nobody_looked,
    pilot: Path | None = None,
) -> dict[str, Any]:
    """Return what a run would do: cells by status, steps with and without sharing, cost.

    Evaluations (one per artefact) are counted as steps, measurements apart. Seconds and megabytes
    are guesses from typical values, not readings, but for artefacts that ``store`` knows already
    and for steps like those of ``pilot``, the output folder of an earlier run.

    Raises:
        UserError: ``store`` is no artefact store, ``pilot`` holds no results.
    """
    plan = make(study, seen=seen)
    runnable = plan.runnable
    status = Counter(
        c.refusal.status if isinstance(c, Refused) else "runnable" for c in plan.cells
    )
    stages = Counter(str(step.stage) for step in plan.steps.values())
    artefacts = {c.build for c in runnable}
    stages["evaluate"] = len(artefacts)
    known = read_pilot(pilot, study.measure.min_seconds) if pilot else Pilot()
    parts = by_dataset(plan, known)
    return {
        "study": study.name,
        "hash": study.hash,
        "data": data_read(runnable),
        "cells": len(plan.cells),
        "cells_by_status": dict(sorted(status.items())),
        "steps": sum(stages.values()),
        "steps_unshared": sum(len(c.steps) + 1 for c in runnable),
        "by_stage": dict(stages),
        "measurements": measurement_count(runnable, study.measure),
        "expected_s": sum(part["expected_s"] for part in parts),
        "by_dataset": parts,
        "pilot": str(pilot) if pilot else None,
        **_disk(plan, store),
        "refusals": _reasons(plan),
        "not_looked_at": _not_looked_at(runnable),
    }


def data_read(cells: Iterable[Runnable]) -> list[dict[str, Any]]:
    """Return what each data set was found to hold (:class:`dlas.core.contents.Contents`).

    Choices that hold the same, at another size say, stand together in ``datasets``. One that
    cannot tell has a ``problem`` instead: what was read is information and stops nothing.
    """
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    for cell in cells:
        text = cell.stack.text("dataset")
        if text in seen:
            continue
        seen.add(text)
        told = _told(cell.techniques.dataset)
        same = next((each for each in found if each == each | told), None)
        if same is None:
            found.append({"datasets": [text], **told})
        else:
            same["datasets"].append(text)
    return found


def _told(dataset: Dataset) -> dict[str, Json]:
    try:
        return dataset.contents().to_json()
    except Exception as error:  # anyone's data set: a run says what is wrong with it
        return {"problem": str(error) or type(error).__name__}


def _reasons(plan: Plan) -> list[dict[str, Any]]:
    counted = Counter((c.refusal.status, c.refusal.reason) for c in plan.refused)
    return [
        {"status": status, "reason": reason, "cells": n}
        for (status, reason), n in counted.most_common()
    ]


def _not_looked_at(cells: Iterable[Runnable]) -> list[str]:
    """Return the interpreters that a run will ask first: a plan starts no process."""
    found = (
        c.techniques.software.python for c in cells if c.interpreter and not c.interpreter.asked
    )
    return sorted(set(found))


# ---------------------------------------------------------------- disk


def _disk(plan: Plan, store: Path | None) -> dict[str, Any]:
    known: Mapping[str, Known] = {}
    if store is not None and store.is_dir():
        inventory = Inventory(ArtifactStore(store, create=False))
        inventory.sizes()
        known = {k: v for k, v in inventory.steps().items() if k in plan.steps and v.bytes}
    guessed = _Sizes()
    for cell in plan.runnable:
        guessed.add(cell, plan.steps)
    sizes = guessed.bytes | {key: step.bytes for key, step in known.items()}
    names = {key: known[key].content if key in known else key for key in plan.steps}
    beside = _beside(plan)
    total = sum({names[key]: sizes[key] for key in plan.steps}.values()) + beside
    networks = {cell.prepared for cell in plan.runnable}
    return {
        "expected_mb": _mb(total),
        "least_disk_mb": _mb(_least(plan, names, sizes) + beside),
        "sizes_known": len(known),
        "networks": len(networks),
        "networks_unknown": len(guessed.unknown - set(known)),
    }


def _mb(size: float) -> float:
    """Return bytes as megabytes, rounded up: a tenth from 1 MB on, else a kilobyte."""
    parts = 10 if size >= 1e6 else 1000
    return math.ceil(size / 1e6 * parts) / parts


def _beside(plan: Plan) -> int:
    """Return the bytes of evaluations and of what is built to measure the machine."""
    settings, runnable = plan.study.measure, plan.runnable
    size = len({cell.build for cell in runnable}) * (200 + 10 * settings.accuracy_samples)
    layers = ("dataset", "software", "hardware")
    places = {tuple(cell.stack.text(layer) for layer in layers) for cell in runnable}
    return size + settings.ceilings * len(places) * ONE_OPERATOR


def _least(plan: Plan, names: Mapping[str, str], sizes: Mapping[str, int]) -> int:
    """Return the most that is held at once, of steps that run one by one and drop what they can.

    ``names`` tells objects apart: steps that yield the same share one.
    """
    readers: Counter[str] = Counter()
    steps = sorted(plan.steps.values(), key=lambda step: step.alone)  # as the engine has them run
    for step in steps:
        readers.update(step.inputs.values())
    for cell in plan.runnable:  # evaluations read these
        readers.update((cell.inputs, cell.prepared, cell.reference, cell.build))
    owners: dict[str, set[str]] = defaultdict(set)
    most = 0
    for step in steps:
        owners[names[step.key]].add(step.key)
        most = max(most, sum(sizes[next(iter(keys))] for keys in owners.values() if keys))
        readers.subtract(step.inputs.values())
        for key in (*step.inputs.values(), step.key):
            if readers[key] <= 0 and plan.steps[key].stage in INTERMEDIATE:
                owners[names[key]].discard(key)
    return most


@dataclass
class _Sizes:
    """Guesses the bytes of every step's artefact."""

    bytes: dict[str, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    """Steps that prepare a network of unknown size."""
    _specs: dict[str, DataSpec] = field(default_factory=dict)
    _networks: dict[str, int] = field(default_factory=dict)

    def add(self, cell: Runnable, steps: Mapping[str, Step]) -> None:
        """Guess for the steps of one cell."""
        t = cell.techniques
        if cell.inputs not in self._specs:
            self._specs[cell.inputs] = _spec(t)
        spec = self._specs[cell.inputs]
        if cell.prepared not in self._networks:
            self._networks[cell.prepared] = self._network(cell.prepared, t)
        weights = self._networks[cell.prepared]
        images = fixed_count(spec.batch)
        changes = iter([p for o in t.optimization for p in _precisions(o)])
        width = 1.0
        for key in cell.steps:
            stage = steps[key].stage
            if stage is Stage.INPUTS:
                size = images * 4 * spec.channels * spec.height * spec.width
            elif stage is Stage.REFERENCE:
                size = images * 4 * spec.classes
            elif stage is Stage.LOWER:
                size = weights + CODE["onnx"] * 5
            elif stage is Stage.BUILD:
                size = round(width * weights) + CODE[t.software.form]
            else:
                width = WIDTH[next(changes) or "float32"] if stage is Stage.OPTIMIZE else 1.0
                size = round(width * weights)
            self.bytes[key] = size

    def _network(self, key: str, t: Techniques) -> int:
        size = weights_bytes(t)
        if size is None:
            self.unknown.add(key)
        return UNKNOWN_NETWORK if size is None else size


def _precisions(technique: Optimization) -> list[Precision | None]:
    """Return the precision asked by each step of an optimization: what it goes on from, itself."""
    if technique.changes_nothing:
        return []
    before = technique.before()
    return [*(_precisions(before) if before else []), technique.precision]


def _spec(t: Techniques) -> DataSpec:
    try:
        return t.dataset.spec()
    except (DlasError, NotImplementedError):  # no data yet: what a run says, not a plan
        return UNKNOWN_SPEC


def weights_bytes(t: Techniques) -> int | None:
    """Return the bytes of a network's weights as float32; None where no file tells.

    A file that cannot be read is what a run says, not a guess of its size.
    """
    try:
        file = t.model.weights(t.dataset)
        return _float32_bytes(file) if file is not None and file.is_file() else None
    except (DlasError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _float32_bytes(file: Path) -> int:
    """Return the bytes of a file's weights as float32; of safetensors its header tells."""
    size = file.stat().st_size
    if file.suffix != ".safetensors":
        return size
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(min(length, size)))
    shapes: Iterable[list[int]] = [v["shape"] for k, v in header.items() if k != "__metadata__"]
    return 4 * sum(math.prod(shape) for shape in shapes)
