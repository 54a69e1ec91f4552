"""The user's own network as an ONNX file."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from dlas.core.errors import StepError, UserError
from dlas.core.keys import file_hash, key
from dlas.core.protocols import Dataset, DataSpec, Model, Network, Refusal, Techniques, impossible


@dataclass(frozen=True, kw_only=True)
class OnnxModel(Model):
    """Your network as an ONNX file: one float32 input (n, c, h, w), one output (n, classes).

    What needs a torch model (pruning, PyTorch itself) skips it and says so.
    """

    name: ClassVar[str] = "onnx"
    form: ClassVar[Literal["torch", "onnx"]] = "onnx"
    requires: ClassVar[tuple[str, ...]] = ("onnx",)
    extra: ClassVar[str] = "onnx"
    libraries: ClassVar[tuple[str, ...]] = ("onnx",)
    places: ClassVar[tuple[str, ...]] = ("path",)
    path: str

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse a data set whose images or classes the file does not take."""
        if importlib.util.find_spec("onnx") is None:
            return None  # unavailable: the registry says so
        reason = _mismatch(_load(self._file()), stack.dataset.spec())
        return impossible(f"{Path(self.path).name}: {reason}") if reason else None

    def build(self, dataset: Dataset) -> Network:
        """Return a network that is only the file.

        Raises:
            UserError: there is no such file, or it is no ONNX.
            StepError: its input or output does not fit the data set.
        """
        spec = dataset.spec()
        if reason := _mismatch(_load(self._file()), spec):
            raise StepError(f"{Path(self.path).name}: {reason}")
        return Network(spec, onnx=self._file())

    def weights(self, dataset: Dataset) -> Path | None:
        """Return the file itself."""
        return self._file()

    def fingerprint(self) -> Any:
        """Return the hash of the file and of the tensors it keeps beside itself."""
        file = self._file()
        beside = _external(file) if importlib.util.find_spec("onnx") else []
        return key([file_hash(p) for p in (file, *beside)])

    def _file(self) -> Path:
        file = Path(self.path).expanduser()
        if not file.is_file():
            raise UserError(
                f"onnx.path: {self.path!r}: no such file (looked at {file.absolute()}). "
                "Give a path to an .onnx file."
            )
        return file


def _load(file: Path) -> Any:
    """Return the graph without the tensors kept outside the file."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(file), load_external_data=False)
    except DecodeError as error:
        raise UserError(f"onnx.path: {file} is no ONNX file: {error}") from error
    if not model.graph.node:
        raise UserError(f"onnx.path: {file} holds no operators: it is no ONNX network.")
    return model


def _external(file: Path) -> list[Path]:
    names = {
        entry.value
        for tensor in _load(file).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [file.parent / name for name in sorted(names)]


def _mismatch(model: Any, spec: DataSpec) -> str:
    """Return why a graph does not fit a problem, or an empty text."""
    from onnx import TensorProto

    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    outputs = list(model.graph.output)
    if len(inputs) != 1 or len(outputs) != 1:
        return (
            f"it has {len(inputs)} inputs and {len(outputs)} outputs; an image classifier has "
            "one of each"
        )
    if inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        return f"its input {inputs[0].name!r} is not float32"
    taken, given = _shape(inputs[0]), spec.shape
    if not _fits(taken, given):
        return f"it takes images of {_text(taken)}, the data set gives {_text(given)}"
    returned, wanted = _shape(outputs[0]), (spec.batch, spec.classes)
    if not _fits(returned, wanted):
        return f"it returns {_text(returned)}, the data set needs {_text(wanted)}"
    return ""


def _shape(value: Any) -> tuple[int | None, ...] | None:
    """Return a tensor's shape, None for a free dimension; None where no shape is stated."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


def _fits(stated: tuple[int | None, ...] | None, given: tuple[int, ...]) -> bool:
    return stated is None or (
        len(stated) == len(given)
        and all(s is None or s == g for s, g in zip(stated, given, strict=True))
    )


def _text(shape: tuple[int | None, ...] | None) -> str:
    return " x ".join("?" if n is None else str(n) for n in shape or ())
