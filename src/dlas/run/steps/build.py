"""build: what a runtime loads, made ahead so that a measured process compiles nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from dlas.core import registry
from dlas.core.keys import Json
from dlas.core.protocols import (
    Algorithm,
    DataSpec,
    HardwareTechnique,
    Network,
    Precision,
    Software,
)
from dlas.run.measure.args import JobArgs, read_args
from dlas.run.steps.lower import FILES
from dlas.run.steps.saved import NetworkInfo, load_network, read_network_info

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from dlas.core.protocols import Array


@dataclass(frozen=True)
class StoredProgram:
    """A lowered network on disk (:class:`dlas.protocols.Program`)."""

    folder: Path
    lowered: Path | None
    algorithm: Algorithm

    @cached_property
    def _info(self) -> NetworkInfo:
        return read_network_info(self.folder)

    @property
    def spec(self) -> DataSpec:
        """The shape of the problem."""
        return DataSpec(**self._info["spec"])

    @property
    def precision(self) -> Precision:
        """The precision asked of the runtime."""
        return self._info["precision"]

    def network(self) -> Network:
        """The network itself (needs torch)."""
        return load_network(self.folder)

    def onnx(self) -> Path:
        """The ONNX file: lowered from the network, or its own (int8, ONNX-only)."""
        if self.lowered is not None:
            return self.lowered / FILES["onnx"]
        path = load_network(self.folder).onnx
        if path is None:
            raise ValueError("this network has neither been lowered to ONNX nor has a file")
        return path

    def exported(self) -> ExportedProgram:
        """The ``torch.export.ExportedProgram``."""
        from dlas.run.steps.convert import load_exported

        if self.lowered is None:
            raise ValueError("this network has not been lowered to the form 'exported'")
        return load_exported(self.lowered / FILES["exported"])

    def calibration(self) -> Array | None:
        """The training images on which the runtime is to quantize; None: it is not to."""
        picked = self._info.get("calibration")
        if not picked:
            return None
        dataset = registry.dataset(self._info["recipe"]["dataset"])
        return dataset.load("train").images(picked)


@dataclass(frozen=True)
class BuildArgs:
    """What the step is asked for."""

    software: Software
    algorithm: Algorithm
    hardware: HardwareTechnique
    network: Path
    folder: Path
    lowered: Path | None = None


class BuildAnswer(TypedDict):
    """What a build came to."""

    build_s: float
    artifact_mb: float
    facts: Json


def run(args: JobArgs) -> BuildAnswer:
    """Fill the artefact's folder; return build seconds, size on disk and the build's facts."""
    given = read_args(BuildArgs, args)
    program = StoredProgram(given.network, given.lowered, given.algorithm)
    start = time.perf_counter()
    facts = given.software.build(program, given.hardware, given.folder)
    seconds = time.perf_counter() - start
    size = sum(p.stat().st_size for p in given.folder.rglob("*") if p.is_file())
    return {"build_s": seconds, "artifact_mb": size / 1e6, "facts": facts or {}}
