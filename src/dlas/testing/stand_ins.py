"""Whole stacks around a technique, for rules: ``why_not`` asks the other layers of a stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal

from dlas.core import registry
from dlas.core.keys import Json
from dlas.core.protocols import (
    Algorithm,
    HardwareTechnique,
    Model,
    Network,
    Optimization,
    Optimized,
    Precision,
    Samples,
    Software,
    Technique,
    Techniques,
)
from dlas.testing.fakes import SmallImages, SmallNet

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "int8")


@dataclass(frozen=True, kw_only=True)
class OwnKernels(Algorithm):
    """An algorithm that leaves every operator to the runtime, so that any runtime takes it."""

    name: ClassVar[str] = "own-kernels"
    chooses: ClassVar[bool] = False

    def kernel(self, operator: object, target: str) -> str | None:
        """Return None: the runtime's own kernel."""
        return None


@dataclass(frozen=True, kw_only=True)
class NamedKernels(Algorithm):
    """An algorithm that names the primitive ``direct`` for every operator."""

    name: ClassVar[str] = "named-kernels"

    def kernel(self, operator: object, target: str) -> str | None:
        """Return ``direct``."""
        return "direct"


@dataclass(frozen=True, kw_only=True)
class PlainRuntime(Software):
    """A runtime that refuses nothing; it is only there to be asked."""

    name: ClassVar[str] = "plain-runtime"
    quantizer: ClassVar[str] = "dlas"


@dataclass(frozen=True, kw_only=True)
class OnnxNet(SmallNet):
    """A model that says that it is only an ONNX file."""

    name: ClassVar[str] = "onnx-net"
    form: ClassVar[Literal["torch", "onnx"]] = "onnx"


@dataclass(frozen=True, kw_only=True)
class OtherDevice(HardwareTechnique):
    """A GPU that is asked about, never used."""

    name: ClassVar[str] = "other-device"
    device: ClassVar[str] = "cuda"

    def describe(self) -> dict[str, Json]:
        """Return a name and no CPU flags."""
        return {"device": "cuda", "name": "a GPU that is not there", "flags": []}


@dataclass(frozen=True, kw_only=True)
class Asking(Optimization):
    """An optimization that leaves the network alone; subclasses ask for something."""

    name: ClassVar[str] = "asking"

    def apply(self, network: Network, data: Samples | None, folder: Path) -> Optimized:
        """Return the network, its precision set."""
        return Optimized(replace(network, precision=self.precision or network.precision))


def asking(
    precision: Precision | None = None, *, sparse: bool = False, left_to_runtime: bool = False
) -> Optimization:
    """Return an optimization that asks for a precision, or leaves zeros, and does nothing else."""
    facts = {
        "precision": precision,
        "sparse": sparse,
        "left_to_runtime": left_to_runtime,
        "name": f"asking-{precision or 'nothing'}",
    }
    made: Optimization = type("Asking", (Asking,), facts)()
    return made


def stack_of(*techniques: Technique, **layers: Any) -> Techniques:
    """Return a stack of small, harmless techniques in which the given ones stand.

    Techniques go to their own layers (several optimizations: a pipeline, in this order). By
    keyword anything can stand at a layer, e.g. an object that answers what a rule asks.
    """
    made: dict[str, Any] = {
        "dataset": SmallImages(),
        "model": SmallNet(),
        "optimization": (),
        "algorithm": OwnKernels(),
        "software": PlainRuntime(),
        "hardware": registry.make("hardware", "cpu"),
    }
    for technique in techniques:
        if technique.layer == "optimization":
            made["optimization"] += (technique,)
        else:
            made[technique.layer] = technique
    return Techniques(**{**made, **layers})


def many_stacks(technique: Technique, *others: Technique) -> Iterator[Techniques]:
    """Yield stacks around a technique, in each capability that a rule may ask about.

    Precisions, zeros in the weights, a model that is an ONNX file, algorithms that choose and that
    do not, another device, an instruction set. The first is the plainest. ``others`` stand in all
    of them where nothing else is asked for.
    """
    before = [(), (asking(sparse=True),), *((asking(p),) for p in PRECISIONS[1:])]
    models: tuple[Model | None, ...] = (None, OnnxNet())
    algorithms = (OwnKernels(), NamedKernels())
    hardware = (None, OtherDevice(), registry.make("hardware", "cpu", {"isa": "avx2"}))
    for device, model, algorithm, steps in product(hardware, models, algorithms, before):
        around = (*others, *(t for t in (device, model) if t), algorithm, *steps)
        yield stack_of(
            *(t for t in around if t.layer != technique.layer), *_with(steps, technique)
        )


def _with(steps: tuple[Optimization, ...], technique: Technique) -> tuple[Technique, ...]:
    """An optimization comes after the steps of its pipeline, any other stands at its layer."""
    return (*steps, technique) if technique.layer == "optimization" else (technique,)
