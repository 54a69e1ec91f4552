"""A network of one operator: what an inference costs that does next to nothing.

It is built by the same software as a study's cells and measured in the same region, so that its
time is what the software, the wrapping of arrays and a second thread cost before any work is
done. The operator is a mean over each image: no weights, one pass over the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

FILE = "one-operator.onnx"
_OPSET = 17
_IR = 8


@dataclass(frozen=True)
class OneOperator:
    """The network as a build sees it (:class:`dlas.protocols.Program`)."""

    spec: DataSpec
    algorithm: Algorithm
    folder: Path
    precision: Precision = "float32"

    def network(self) -> Network:
        """The network as a torch module."""
        return Network(self.spec, _module())

    def onnx(self) -> Path:
        """The network as an ONNX file, written without torch."""
        path = self.folder / FILE
        path.write_bytes(_onnx(self.spec))
        return path

    def exported(self) -> ExportedProgram:
        """The network as a ``torch.export.ExportedProgram``."""
        from dlas.networks.export import export_program

        return export_program(_module(), self.spec)

    def calibration(self) -> None:
        """There is nothing to quantize."""


@dataclass(frozen=True)
class OneOperatorArgs:
    """What :func:`build` is asked for; ``spec`` is that of a data set."""

    software: Software
    algorithm: Algorithm
    hardware: HardwareTechnique
    spec: DataSpec
    folder: Path


def build(args: JobArgs) -> dict[str, Json]:
    """Build it into ``folder``, for the given software, algorithm and hardware."""
    given = read_args(OneOperatorArgs, args)
    program = OneOperator(given.spec, given.algorithm, given.folder)
    given.software.build(program, given.hardware, given.folder)
    return {}


def _module() -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def _onnx(spec: DataSpec) -> bytes:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["y"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(spec.shape))
    told = helper.make_tensor_value_info("y", TensorProto.FLOAT, [spec.batch, spec.channels])
    model = helper.make_model(
        helper.make_graph(nodes, "one-operator", [given], [told]),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
    )
    return bytes(model.SerializeToString())
