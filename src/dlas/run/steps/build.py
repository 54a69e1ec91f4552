"""build: what a runtime loads, made ahead so that a measured process compiles nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dlas.core import registry
from dlas.core.protocols import (
    Algorithm,
    DataSpec,
    Network,
    Precision,
)
from dlas.run.steps.lower import FILES
from dlas.run.steps.saved import load_network, read_network_info


@dataclass(frozen=True)
class StoredProgram:
    """A lowered network on disk (:class:`dlas.protocols.Program`)."""

    folder: Path
    lowered: Path | None
    algorithm: Algorithm

    @cached_property
    def _info(self) -> dict[str, Any]:
        return read_network_info(self.folder)

    @property
    def spec(self) -> DataSpec:
        """The shape of the problem."""
        return DataSpec(**self._info["spec"])

    @property
    def precision(self) -> Precision:
        """The precision asked of the runtime."""
        asked: Precision = self._info["precision"]
        return asked

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

    def exported(self) -> Any:
        """The ``torch.export.ExportedProgram``."""
        from dlas.run.steps.convert import load_exported

        if self.lowered is None:
            raise ValueError("this network has not been lowered to the form 'exported'")
        return load_exported(self.lowered / FILES["exported"])


def run(args: dict[str, Any]) -> dict[str, Any]:
    """Fill the artefact's folder; return build seconds, size on disk and the build's facts."""
    software = registry.software(args["software"])
    algorithm = registry.algorithm(args["algorithm"])
    hardware = registry.hardware(args["hardware"])
    folder = Path(args["folder"])
    lowered = Path(args["lowered"]) if "lowered" in args else None
    program = StoredProgram(Path(args["network"]), lowered, algorithm)
    start = time.perf_counter()
    facts = software.build(program, hardware, folder)
    seconds = time.perf_counter() - start
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return {"build_s": seconds, "artifact_mb": size / 1e6, "facts": facts or {}}
