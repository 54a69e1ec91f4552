"""A network in the forms that software takes: an ONNX file, a ``torch.export`` program."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.core.errors import StepError, StorageError
from dlas.core.protocols import Network
from dlas.networks.export import OPSET, copy_onnx, export_onnx, export_program

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

__all__ = ["OPSET", "load_exported", "to_exported", "to_onnx"]

# What torch.export.save writes for a program of tensors; everything else could hold a pickle.
_EXPECTED = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/weights/(model_weights_config\.json|weight_\d+)"
    r"|data/constants/(model_constants_config\.json|tensor_\d+)"
)


def to_onnx(network: Network, path: Path) -> None:
    """Write a network as one ONNX file: float32 at operator set ``OPSET``, or QDQ for int8.

    The batch is static, the weights are inside; the same network gives the same bytes. A network
    that already has an ONNX file (int8, or the user's own) keeps it as it is.
    """
    if network.onnx is not None:
        copy_onnx(network.onnx, path, network.spec)
    else:
        export_onnx(_module(network), network.spec, path)


def to_exported(network: Network, path: Path) -> None:
    """Write a network's module as a ``.pt2`` file (``torch.export``, float32, static batch).

    Raises:
        StepError: the network has no torch module.
    """
    import torch

    # Through a buffer, since an archive holds the name of the file it was written to.
    buffer = io.BytesIO()
    torch.export.save(export_program(_module(network), network.spec), buffer)
    path.write_bytes(buffer.getvalue())


def load_exported(path: Path) -> ExportedProgram:
    """Return the ``torch.export.ExportedProgram`` of a file that :func:`to_exported` wrote.

    What is trusted: ``torch.export.load`` unpickles some parts of an archive and lets sympy
    evaluate symbolic shapes in its graph. So an archive is read only where none of its tensors and
    inputs is pickled (:func:`to_exported` writes none); its graph is trusted, and must therefore
    come from dlas itself (the store compares hashes). Never give it a file from elsewhere.

    Raises:
        StorageError: the file is not an archive that :func:`to_exported` could have written.
    """
    import torch

    _check_archive(path)
    return torch.export.load(path)


def _module(network: Network) -> nn.Module:
    if network.module is None:
        raise StepError(
            f"a torch module is needed, and this {network.precision} network is an ONNX file only"
        )
    return network.module


def _check_archive(path: Path) -> None:
    """Raise unless an archive holds only what a program of plain tensors needs."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                inner = name.partition("/")[2]
                if not _EXPECTED.fullmatch(inner):
                    raise StorageError(f"{path}: {name} is not expected there: it is not loaded")
                content = archive.read(name) if inner.endswith((".json", ".pt")) else b""
                if _pickled(inner, content):
                    raise StorageError(f"{path}: {name} needs unpickling: it is not loaded")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StorageError(f"{path}: not an exported program: {error}") from error


def _pickled(name: str, content: bytes) -> bool:
    if name.endswith(".pt"):
        return bool(content)
    if name.endswith("_config.json"):
        return any(entry["use_pickle"] for entry in json.loads(content)["config"].values())
    return False
