"""The user's own network as an ONNX file."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from dlas.core.errors import StepError, UserError
from dlas.core.keys import file_hash, key
from dlas.core.placeholders import instead_of
from dlas.core.protocols import (
    Dataset,
    DataSpec,
    Model,
    Network,
    Precision,
    Refusal,
    Techniques,
    unavailable,
)
from dlas.layers.model.shared import onnx_problem
from dlas.networks.onnx_file import in_order, precision_of
from dlas.networks.onnx_shapes import KnownShapes


@dataclass(frozen=True, kw_only=True)
class OnnxModel(Model):
    """Your network as an ONNX file: one input (n, c, h, w), one output (n, classes), in floats.

    It is measured as what it is: float32, float16, or quantized already (QDQ, QOperator or
    dynamic), which is read from the file. Of operator sets before 13, ``int8`` and ``float16``
    take what ONNX's version converter raises. What needs a torch model (pruning, PyTorch itself)
    skips it and says so.
    """

    name: ClassVar[str] = "onnx"
    form: ClassVar[Literal["torch", "onnx"]] = "onnx"
    requires: ClassVar[tuple[str, ...]] = ("onnx",)
    extra: ClassVar[str] = "onnx"
    libraries: ClassVar[tuple[str, ...]] = ("onnx",)
    sources: ClassVar[tuple[str, ...]] = (
        onnx_problem.SOURCE,
        "dlas.networks.onnx_file",
        "dlas.networks.onnx_shapes",
    )
    places: ClassVar[tuple[str, ...]] = ("path",)
    path: str

    def stored_precision(self) -> Precision:
        """Return the type that most of the file's products are written in."""
        if importlib.util.find_spec("onnx") is None:
            return "float32"  # unavailable: the registry says so
        said = self._written_in()
        return "float32" if said == "float64" else cast(Precision, said)

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse a data set whose images or classes the file does not take."""
        if importlib.util.find_spec("onnx") is None:
            return None  # unavailable: the registry says so
        refusal = self._misfit(stack.dataset)
        return refusal and Refusal(refusal.status, f"{Path(self.path).name}: {refusal.reason}")

    def build(self, dataset: Dataset) -> Network:
        """Return a network that is only the file.

        Raises:
            UserError: there is no such file, or it is no ONNX.
            StepError: its input or output does not fit the data set.
        """
        if refusal := self._misfit(dataset):
            raise StepError(f"{Path(self.path).name}: {refusal.reason}")
        network = Network(dataset.spec(), onnx=self._file(), precision=self.stored_precision())
        _check_output(self._file(), network.spec)
        return network

    def weights(self, dataset: Dataset) -> Path | None:
        """Return the file itself."""
        return self._file()

    def fingerprint(self) -> Any:
        """Return the hash of the file and of the tensors it keeps beside itself."""
        file = self._file()
        beside = _external(file) if importlib.util.find_spec("onnx") else []
        return key([file_hash(p) for p in (file, *beside)])

    def _misfit(self, dataset: Dataset) -> Refusal | None:
        if refusal := onnx_problem.misfit(_load(self._file()), dataset.spec()):
            return refusal
        if self._written_in() == "float64":
            return unavailable(
                "its convolutions and matrix products are float64, for which the runtimes here "
                "have no kernels. Export the network in float32"
            )
        return None

    def _written_in(self) -> str:
        return precision_of(_load(self._file()))

    def _file(self) -> Path:
        file = Path(self.path).expanduser()
        if not file.is_file():
            raise UserError(
                f"onnx.path: {self.path!r}: no such file (looked at {file.absolute()}). "
                "Give a path to an .onnx file."
            )
        return file


def _check_output(file: Path, spec: DataSpec) -> None:
    """Raise where a file that leaves its output's shape open returns no row of scores an image.

    Raises:
        StepError: it returns something else for the data set's images.
    """
    import onnx

    model = in_order(onnx.load(str(file)))
    name = model.graph.output[0].name
    returned, wanted = KnownShapes(model, spec, {name}).of(name), (spec.batch, spec.classes)
    if returned not in (None, wanted):
        raise StepError(
            f"{file.name} returns {returned} for images of {spec.shape}, and the data set needs "
            f"{wanted}: a row of scores for each image, a column for each class"
        )


def _load(file: Path) -> Any:
    """Return the graph without the numbers of its tensors; it is not to be changed."""
    seen = file.stat()
    return _graph_of(file.absolute(), seen.st_mtime_ns, seen.st_size)


@lru_cache(maxsize=128)
def _graph_of(file: Path, _changed: int, _size: int) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(file), load_external_data=False)
    except (DecodeError, OSError) as error:
        why = instead_of(file) or error
        raise UserError(f"onnx.path: {file} is no ONNX file: {why}") from error
    if not model.graph.node and (why := instead_of(file)):
        raise UserError(f"onnx.path: {file} is no ONNX file: {why}")
    if not model.graph.node:
        raise UserError(f"onnx.path: {file} holds no operators: it is no ONNX network.")
    for tensor in _tensors(model.graph):
        tensor.ClearField("raw_data")  # rules ask for types and shapes only
    return model


def _external(file: Path) -> list[Path]:
    """Return the files that hold tensors beside an ONNX file.

    Raises:
        UserError: one of them is not there.
    """
    names = {
        entry.value
        for tensor in _tensors(_load(file).graph)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    found = [file.parent / name for name in sorted(names)]
    if missing := [str(path) for path in found if not path.is_file()]:
        raise UserError(
            f"onnx.path: {file} keeps weights in files beside it, and they are not there: "
            f"{', '.join(missing)}. Copy them there, too."
        )
    return found


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _tensors(inner)
