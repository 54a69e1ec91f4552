"""A cell of the sample plug-in's faulty runtime: files and jobs for tests of what surrounds it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlas.core.records import MeasureSettings
from dlas.run.process.tasks import Job, Server

sys.path.insert(0, str(Path(__file__).parents[1] / "plugin_package"))
import visible

SETTINGS = MeasureSettings(
    min_runs=5, min_seconds=0.01, warmup_runs=2, warmup_seconds=0.01, warmup_max_seconds=0.2
)


def write_network(file: Path) -> None:
    """Write an ONNX file: 16 pixels to 10 classes, one linear layer."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = np.random.default_rng(0).normal(size=(16, 10)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["y"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(file))


@dataclass(frozen=True)
class FaultyCell:
    """A built artefact, its inputs, and the plug-in on a path of its own."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> FaultyCell:
        cell = cls(folder)
        for name in ("plugin", "artifact"):
            (folder / name).mkdir()
        visible.write(folder / "plugin")
        write_network(folder / "artifact" / "model.onnx")
        images = np.random.default_rng(1).normal(size=(64, 1, 4, 4)).astype(np.float32)
        np.save(folder / "inputs.npy", images)
        return cell

    @property
    def server(self) -> Server:
        """The server of the faulty runtime."""
        return Server(("onnxruntime",), (("PYTHONPATH", str(self.folder / "plugin")),))

    def args(self, fault: str = "none", at: str = "infer", only_once: str = "") -> dict[str, Any]:
        params = {"fault": fault, "at": at, "only_once": only_once}
        return {
            "artifact": str(self.folder / "artifact"),
            "software": {"name": "faulty", "params": params, "shown": []},
            "hardware": {"name": "cpu", "params": {"threads": 1}, "shown": []},
            "inputs": str(self.folder / "inputs.npy"),
            "batch": 1,
            "settings": SETTINGS.model_dump(),
            "observe": True,
        }

    def job(
        self, fault: str = "none", at: str = "infer", timeout_s: float = 60, **changes: Any
    ) -> Job:
        fields: dict[str, Any] = {
            "task": "dlas.run.measure.latency:run",
            "args": self.args(fault, at),
            "stage": "measure",
            "timeout_s": timeout_s,
            "memory_limit_mb": 4000,
        }
        return Job(**{**fields, **changes})
