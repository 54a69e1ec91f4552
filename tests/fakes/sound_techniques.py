"""Small techniques that keep every promise of their layer; broken ones derive from them."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dlas.core.protocols import (
    HardwareTechnique,
    Network,
    Optimization,
    Optimized,
    Ran,
    Software,
    unavailable,
)


@dataclass(frozen=True, kw_only=True)
class Zeroing(Optimization):
    """Sets the smallest half of each matrix of weights to zero, and keeps every promise."""

    name: ClassVar[str] = "zeroing"
    requires: ClassVar[tuple[str, ...]] = ("torch",)
    sparse: ClassVar[bool] = True

    def why_not(self, stack: Any) -> Any:
        return unavailable("zeroing needs a torch model") if stack.model.form == "onnx" else None

    def apply(self, network: Network, data: Any, folder: Path) -> Optimized:
        module = copy.deepcopy(network.module)
        return Optimized(replace(network, module=module), {"sparsity": self.zero(module)})

    def zero(self, module: Any) -> float:
        zeros = size = 0
        for weight in (p.data for p in module.parameters() if p.dim() > 1):
            weight[weight.abs() < weight.abs().median()] = 0
            zeros, size = zeros + int((weight == 0).sum()), size + weight.numel()
        return zeros / size


class Session:
    """ONNX Runtime in the hands of a technique that may spoil what it gives."""

    def __init__(self, technique: Any, model: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options)
        self._name = self._session.get_inputs()[0].name
        self._technique, self._threads = technique, threads

    def __call__(self, x: Any) -> Any:
        return self._technique.spoil(self._session.run(None, {self._name: x})[0])

    def observe(self, x: Any) -> Any:
        return self._technique.ran(self._threads)


@dataclass(frozen=True, kw_only=True)
class Sound(Software):
    """ONNX Runtime in float32, with one thread of its own; it keeps every promise."""

    name: ClassVar[str] = "sound"
    form: ClassVar[Any] = "onnx"
    requires: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    preload: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    def why_not(self, stack: Any) -> Any:
        if stack.precision != "float32" or stack.algorithm.chooses:
            return unavailable("sound runs its own kernels in float32")
        return None

    def build(self, program: Any, hardware: Any, folder: Path) -> Any:
        (folder / "model.onnx").write_bytes(program.onnx().read_bytes())
        return {"stored": "model.onnx"}

    def load(self, folder: Path, hardware: Any) -> Any:
        return Session(self, (folder / "model.onnx").read_bytes(), hardware.threads)

    def spoil(self, y: Any) -> Any:
        return y

    def ran(self, threads: int) -> Any:
        return Ran(precision="float32")


@dataclass(frozen=True, kw_only=True)
class Here(HardwareTechnique):
    """This machine's processors; it keeps every promise."""

    name: ClassVar[str] = "here"
    threads: Annotated[int, Field(ge=1)] = 1

    def describe(self) -> dict[str, Any]:
        return {"device": "cpu"}

    def missing(self) -> Any:
        there = len(os.sched_getaffinity(0))
        return f"{there} processors are there" if self.threads > there else None

    def target(self) -> Any:
        return {"machine": os.uname().machine}
