"""A sample plug-in for dlas: one optimization, and a runtime that goes wrong on purpose.

``NoisePruning`` is what a third party would write: a frozen dataclass whose fields are its
parameters, and one method. ``Faulty`` runs ONNX files with ONNX Runtime and commits one planted
fault, so that tests can see that each becomes one row with the right stage and reason.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from dlas.errors import StepError
from dlas.protocols import (
    HardwareTechnique,
    Network,
    Optimization,
    Optimized,
    Program,
    Ran,
    Refusal,
    Samples,
    Software,
    Techniques,
    impossible,
    unavailable,
)

# ---------------------------------------------------------------- an optimization


@dataclass(frozen=True, kw_only=True)
class NoisePruning(Optimization):
    """Prune the smallest weights of each layer, judged by magnitude plus noise.

    With ``noise`` 0 this is magnitude pruning by layer; with more it nears random pruning. It
    shows how much of pruning's accuracy is owed to the choice of weights.
    """

    name: ClassVar[str] = "sample-noise-pruning"
    requires: ClassVar[tuple[str, ...]] = ("torch",)
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    sparse: ClassVar[bool] = True

    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the weights of convolutions and linear layers set to zero."""
    noise: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of the noise, in standard deviations of the layer's weights."""
    seed: Annotated[int, Field(ge=0)] = 0

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse a model that is only an ONNX file: its weights are not reached from torch."""
        if stack.model.form == "onnx":
            return unavailable(f"{self.name} needs a torch model, {stack.model.name} has none")
        return None

    def apply(self, network: Network, data: Samples | None, folder: Path) -> Optimized:
        """Return a pruned copy and the sparsity achieved over the pruned weights."""
        import torch

        if network.module is None:
            raise StepError(f"{self.name} needs a torch model; put it before what quantizes")
        module = copy.deepcopy(network.module)
        generator = torch.Generator().manual_seed(self.seed)
        zeros = count = 0
        for layer in module.modules():
            if not isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                continue
            weight = layer.weight.data
            spread = weight.std() if weight.numel() > 1 else 0.0
            noise = torch.randn(weight.shape, generator=generator) * self.noise * spread
            drop = int(self.sparsity * weight.numel())
            smallest = (weight.abs() + noise).flatten().argsort()[:drop]
            weight.view(-1)[smallest] = 0.0
            zeros += int((weight == 0).sum())
            count += weight.numel()
        achieved = {"sparsity": zeros / count if count else 0.0}
        return Optimized(dataclasses.replace(network, module=module), achieved)


# ---------------------------------------------------------------- a runtime with planted faults

Fault = Literal[
    "none",
    "segfault",
    "hang",
    "alloc",
    "exception",
    "wrong",
    "nan",
    "endless-output",
    "ignores-precision",
    "ignores-threads",
    "half-result",
    "spawn",
]


@dataclass(frozen=True, kw_only=True)
class Faulty(Software):
    """ONNX Runtime with one planted fault, for tests of what surrounds it."""

    name: ClassVar[str] = "faulty"
    form: ClassVar[Literal["onnx"]] = "onnx"
    requires: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    preload: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    fault: Fault = "none"
    """What goes wrong: ``spawn`` starts processes (one in a session of its own) and hangs."""
    at: Literal["build", "load", "infer"] = "infer"
    """When. ``wrong``, ``nan``, ``ignores-*`` have one moment only."""
    after: Annotated[int, Field(ge=1)] = 3
    """Which inference of a process strikes: a large number passes the evaluation."""
    only_once: str = ""
    """A file: the fault happens only while it does not exist, and makes it."""

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse named kernels, and any type but float32 (unless that is the planted fault)."""
        if stack.precision != "float32" and self.fault != "ignores-precision":
            return impossible("faulty runs float32 only")
        if stack.algorithm.chooses:
            return unavailable("faulty leaves the kernels to ONNX Runtime")
        return None

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Copy the ONNX file."""
        content = program.onnx().read_bytes()
        if self.fault == "half-result" and self.at == "build":
            (folder / "model.onnx").write_bytes(content[: len(content) // 2])
            os._exit(0)
        self._strike("build")
        (folder / "model.onnx").write_bytes(content)
        return {}

    def load(self, folder: Path, hardware: HardwareTechnique) -> FaultySession:
        """Load it into ONNX Runtime with the threads asked, or one more."""
        import onnxruntime

        self._strike("load")
        options = onnxruntime.SessionOptions()
        more = 1 if self.fault == "ignores-threads" else 0
        options.intra_op_num_threads = hardware.threads + more
        options.inter_op_num_threads = 1
        before = _threads()
        session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        return FaultySession(self, session, _threads() - before + 1)

    def _strike(self, moment: str) -> None:
        if moment != self.at or not self._armed():
            return
        if self.fault == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.fault == "hang":
            _hang()
        elif self.fault == "alloc":
            _allocate()
        elif self.fault == "exception":
            raise RuntimeError("planted exception")
        elif self.fault == "endless-output":
            _print_without_end()
        elif self.fault == "half-result":
            os._exit(0)
        elif self.fault == "spawn":
            _spawn()

    def _armed(self) -> bool:
        if not self.only_once:
            return True
        try:
            Path(self.only_once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class FaultySession:
    """A session that strikes on one of its inferences."""

    def __init__(self, technique: Faulty, session: Any, threads: int) -> None:
        self._technique = technique
        self._session = session
        self._threads = threads
        self._input = session.get_inputs()[0].name
        self._runs = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Infer, and go wrong as planted."""
        self._runs += 1
        if self._runs == self._technique.after:
            self._technique._strike("infer")
        y: np.ndarray = self._session.run(None, {self._input: x})[0]
        if self._technique.fault == "wrong":
            return y[:, ::-1] + np.float32(0.5)
        if self._technique.fault == "nan":
            return np.full_like(y, np.nan)
        return y

    def observe(self, x: np.ndarray) -> Ran:
        """Say what ran: float32, and as many threads as the session started."""
        self(x)
        return Ran(precision="float32", threads=self._threads)


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _hang() -> None:
    while True:
        time.sleep(3600)


def _allocate() -> None:
    kept = []
    while True:
        kept.append(np.ones(2**22))  # 32 MiB, written to


def _print_without_end() -> None:
    line = "x" * 1000 + "\n"
    while True:
        sys.stdout.write(line)


def _spawn() -> None:
    subprocess.Popen(["sleep", "987"])
    subprocess.Popen(["sleep", "987"], start_new_session=True)
    _hang()
