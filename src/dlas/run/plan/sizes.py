"""How much disk a plan would take: by the networks' weights, by a store, or as a pilot took.

A network has the bytes of its weights as float32 where the model names a file of them, else those
that the same one had in the pilot, else ``UNKNOWN_NETWORK``. What is made of it has as many bytes
for each of its own as the most similar steps of the pilot yielded; without one they are guessed,
by what optimizations leave of the weights, the type, and how the algorithm's kernels pack them.
Steps whose artefact a store knows count with their real size. The least that a disk budget may be
is the most that is held at once when steps run one by one in the plan's order, each intermediate
artefact dropped after the last step that reads it.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlas.core.errors import DlasError
from dlas.core.protocols import DataSpec, KernelChoice, Optimization, Techniques
from dlas.core.records import Stage
from dlas.kernels import Conv2d
from dlas.run.plan.lacking import weights_file
from dlas.run.plan.pilot import Named, Pilot
from dlas.run.plan.plan import Plan, Runnable, Step
from dlas.run.steps.sampling import fixed_count
from dlas.store.artifacts import ArtifactStore
from dlas.store.budget import INTERMEDIATE, Inventory, Known

UNKNOWN_NETWORK = 10_000_000
"""Bytes of a network without a file of weights."""
WIDTH = {"float32": 1.0, "float16": 0.5, "bfloat16": 0.5, "int8": 0.3}
"""Bytes of a built network by its precision, as a share of float32."""
STORED = {"int8": 0.3}
"""Bytes of an optimized one likewise: halves are made by the build, zeros are stored."""
CHANNELS, ZEROS = "ratio", "sparsity"
"""Parameters of optimizations: the share of channels that go, of weights that become zero."""
CSR = 2.0
"""Bytes of a weight that is stored with its position, as a share of float32."""
WINOGRAD = 1.8
"""Bytes of transformed 3x3 filters: 16 / 9, or 36 / 9 where the tile is large, of each."""
A_CONVOLUTION = Conv2d(1, 64, 16, 16, 64, (3, 3), padding=(1, 1, 1, 1))
"""Which kernel an algorithm has for such a one tells how weights are packed."""
CODE = {"module": 10_000, "onnx": 20_000, "exported": 700_000}
"""Bytes of a build beside the weights, by the form that the software takes."""
ONE_OPERATOR = 200_000
"""Bytes of what is built to measure the overhead of one operator."""
UNKNOWN_SPEC = DataSpec(classes=100, channels=3, height=64, width=64)


def disk(plan: Plan, store: Path | None, pilot: Pilot) -> dict[str, Any]:
    """Return the megabytes that a plan's artefacts would take, whole, by stage and at the least.

    Raises:
        UserError: ``store`` is no artefact store.
    """
    known: Mapping[str, Known] = {}
    if store is not None and store.is_dir():
        inventory = Inventory(ArtifactStore(store, create=False))
        inventory.sizes()
        known = {k: v for k, v in inventory.steps().items() if k in plan.steps and v.bytes}
    guessed = _Sizes(pilot)
    for cell in plan.runnable:
        guessed.add(cell, plan.steps)
    sizes = guessed.bytes | {key: step.bytes for key, step in known.items()}
    names: dict[str, str] = {}
    for key in plan.steps:
        same = guessed.same.get(key, key)
        names[key] = known[key].content if key in known else names.get(same, key)
    beside = _beside(plan)
    first = {names[key]: key for key in reversed([*plan.steps])}
    by_stage: Counter[str] = Counter()
    for key in first.values():
        by_stage[str(plan.steps[key].stage)] += sizes[key]
    networks = {cell.prepared for cell in plan.runnable}
    return {
        "expected_mb": _mb(sum(by_stage.values()) + beside),
        "mb_by_stage": {stage: _mb(size) for stage, size in by_stage.most_common()},
        "least_disk_mb": _mb(_least(plan, names, sizes) + beside),
        "sizes_known": len(known),
        "sizes_of_pilot": len(guessed.of_pilot - set(known)),
        "networks": len(networks),
        "networks_unknown": len(guessed.unknown - set(known)),
        "unknown_network_mb": _mb(UNKNOWN_NETWORK),
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
    """Expects the bytes of every step's artefact."""

    pilot: Pilot
    bytes: dict[str, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    """Steps that prepare a network of unknown size."""
    of_pilot: set[str] = field(default_factory=set)
    """Steps whose size the pilot tells."""
    same: dict[str, str] = field(default_factory=dict)
    """Steps that yield what another one yields, as it is: stored once."""
    _specs: dict[str, DataSpec] = field(default_factory=dict)

    def add(self, cell: Runnable, steps: Mapping[str, Step]) -> None:
        """Expect what the steps of one cell yield."""
        t, of = cell.techniques, Named(cell.stack)
        if cell.prepared not in self.bytes:
            self.bytes[cell.prepared] = self._network(cell.prepared, t, of)
        weights, optimized = self.bytes[cell.prepared], _optimized(t)
        for key in cell.steps:
            stage = steps[key].stage
            guess = next(optimized) if stage is Stage.OPTIMIZE else _share(stage, t)
            if key in self.bytes:
                continue
            if stage in (Stage.INPUTS, Stage.REFERENCE):
                self.bytes[key] = self._arrays(stage, cell)
                continue
            known = self.pilot.yielded(stage, of)
            if known is None:
                self.bytes[key] = round(guess * weights) + _code(stage, t)
                continue
            self.bytes[key] = round(known.share * weights)
            self.of_pilot.add(key)
            if known.given in steps[key].inputs:
                self.same[key] = steps[key].inputs[known.given]

    def _network(self, key: str, t: Techniques, of: Named) -> int:
        """Return the bytes of a network as it is prepared."""
        size = weights_bytes(t)
        if size is None and (known := self.pilot.network(of)) is not None:
            self.of_pilot.add(key)
            return round(known)
        if size is None:
            self.unknown.add(key)
        return UNKNOWN_NETWORK if size is None else size

    def _arrays(self, stage: Stage, cell: Runnable) -> int:
        """Return the bytes of the fixed images, or of a network's outputs on them."""
        if cell.inputs not in self._specs:
            self._specs[cell.inputs] = _spec(cell.techniques)
        spec = self._specs[cell.inputs]
        image = spec.channels * spec.height * spec.width
        each = image if stage is Stage.INPUTS else spec.classes
        return 4 * fixed_count(spec.batch) * each


def _optimized(t: Techniques) -> Iterator[float]:
    """Give for each step of the pipeline the bytes of its network, over those of the first."""
    kept = 1.0
    for last in t.optimization:
        for each in _chain(last):
            yield kept * _kept(each) * STORED.get(each.precision or "", 1.0)
        kept *= _kept(last)


def _chain(technique: Optimization) -> list[Optimization]:
    """Return an optimization after what it goes on from; nothing where it changes nothing."""
    if technique.changes_nothing:
        return []
    before = technique.before()
    return [*(_chain(before) if before else []), technique]


def _kept(technique: Optimization) -> float:
    """Return about what share of the weights is left: filters lose inputs and outputs alike."""
    gone = getattr(technique, CHANNELS, 0.0)
    return (1 - gone) ** 2 if isinstance(gone, float) else 1.0


def _share(stage: Stage, t: Techniques) -> float:
    """Return the bytes of a lowered or built network over those of the one that was prepared."""
    kept = math.prod(_kept(each) for each in t.optimization)
    if stage is Stage.LOWER:
        return kept
    return kept * WIDTH[t.asked_precision or "float32"] * _packed(t)


def _packed(t: Techniques) -> float:
    """Return by what factor an algorithm's kernels store weights, as they are chosen by name."""
    try:
        asked = t.algorithm.kernel(A_CONVOLUTION, "native") if t.algorithm.chooses else None
    except Exception:  # anyone's algorithm: a build says what is wrong with it
        return 1.0
    kernel = KernelChoice(asked) if isinstance(asked, str) else asked
    if kernel is None:
        return 1.0
    if kernel.weights == "csr":
        zeros = max((getattr(o, ZEROS, 0.0) for o in t.optimization if o.sparse), default=0.0)
        return CSR * (1 - zeros) if zeros >= kernel.threshold else 1.0
    return WINOGRAD if kernel.primitive == "winograd" else 1.0


def _code(stage: Stage, t: Techniques) -> int:
    """Return the bytes beside weights."""
    if stage is Stage.LOWER:
        return 5 * CODE["onnx"]
    return CODE[t.software.form] if stage is Stage.BUILD else 0


def _spec(t: Techniques) -> DataSpec:
    try:
        return t.dataset.spec()
    except (DlasError, NotImplementedError):  # no data yet: what a run says, not a plan
        return UNKNOWN_SPEC


def weights_bytes(t: Techniques) -> int | None:
    """Return the bytes of a network's weights as float32; None where no file tells.

    A file that cannot be read is what a run says, not a guess of its size.
    """
    file = weights_file(t)
    try:
        return _float32_bytes(file) if file is not None and file.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
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
