"""Does an ONNX file fit a data set, and if not, what is the way out? From what it states only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlas.core.protocols import DataSpec, Refusal, impossible, unavailable
from dlas.networks.onnx_file import data_inputs

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto

SOURCE = __name__
Shape = tuple[int | None, ...]
_TO_CHANNELS_FIRST = [0, 3, 1, 2]
_ELEMENTWISE = ("Cast", "Identity", "Add", "Sub", "Mul", "Div")


def misfit(model: ModelProto, spec: DataSpec) -> Refusal | None:
    """Return why a file cannot stand for a classifier of a data set, or None.

    What it does not state is no reason. ``impossible`` is only what no adapter could mend; all
    else is ``unavailable``, with what the user can do.
    """
    graph = model.graph
    return (
        _ends(graph)
        or _types(graph)
        or _input_shape(graph, spec)
        or _output_shape(graph.output[0], spec)
    )


def _ends(graph: GraphProto) -> Refusal | None:
    inputs, outputs = data_inputs(graph), list(graph.output)
    if not inputs or not outputs:
        return impossible(f"it has no {'input' if not inputs else 'output'}: it is no classifier")
    if len(inputs) > 1:
        return unavailable(
            f"it has {len(inputs)} inputs ({_names(inputs)}), and giving more than the images is "
            "not implemented in dlas. Store the others in the file as constants, or export the "
            "network without them"
        )
    if len(outputs) > 1:
        return unavailable(
            f"it has {len(outputs)} outputs ({_names(outputs)}), and choosing one is not "
            "implemented in dlas. Keep the one that holds the scores of the classes: "
            "onnx.utils.extract_model(file, new_file, [input], [output])"
        )
    return None


def _types(graph: GraphProto) -> Refusal | None:
    (taken,), (given,) = data_inputs(graph), graph.output
    for value in (taken, given):
        if not value.type.HasField("tensor_type") and value.type.WhichOneof("value"):
            kind = str(value.type.WhichOneof("value")).removesuffix("_type")
            return unavailable(
                f"{value.name!r} is a {kind} and no tensor, which is not implemented in dlas. "
                "Export the network with plain tensors at both ends"
            )
    if not _is_float(taken):
        return unavailable(
            f"its input {taken.name!r} is {_type(taken)}: it takes pixels as they are stored, and "
            "dlas gives normalized float32 images; an adapter is not implemented. Cut off what "
            "stands before the first layer (onnx.utils.extract_model), or export the network "
            "with a float32 input"
        )
    if not _is_float(given):
        return unavailable(
            f"its output {given.name!r} is {_type(given)}: labels, and what is compared are the "
            "scores of the classes. Cut off what stands behind them (onnx.utils.extract_model)"
        )
    return None


def _input_shape(graph: GraphProto, spec: DataSpec) -> Refusal | None:
    (value,) = data_inputs(graph)
    taken, given = _shape(value), spec.shape
    if _is_channels_last(graph, value.name, taken, spec):
        return unavailable(
            "it takes images with the channels last (n, h, w, c), and dlas gives (n, c, h, w): a "
            "layout is not implemented in dlas. Put a Transpose in front, or export the network "
            "with the channels first (tf2onnx: --inputs-as-nchw)"
        )
    if taken is None or _fits(taken, given):
        return None
    if len(taken) != len(given):
        return unavailable(
            f"it takes an input of {_text(taken)}, and dlas gives {_text(given)}: reshaping it is "
            "not implemented. Export the network with images of (n, c, h, w)"
        )
    said = f"it takes images of {_text(taken)}, the data set gives {_text(given)}"
    if not _fits(taken[1:], given[1:]):
        return impossible(said)
    return unavailable(f"{said}: {_batch(taken[0])}")


def _output_shape(value: ValueInfoProto, spec: DataSpec) -> Refusal | None:
    returned, wanted = _shape(value), (spec.batch, spec.classes)
    if returned is None or _fits(returned, wanted):
        return None
    said = f"it returns {_text(returned)}, the data set needs {_text(wanted)}"
    if len(returned) == 1 or (len(returned) == 2 and returned[1] == 1):
        return unavailable(
            f"{said}: one number an image is the logit of two classes, which is not implemented "
            "in dlas. Give it a column for each class: concatenate the negative logit and the "
            "logit"
        )
    if len(returned) != 2:
        ones = all(n in (1, None) for n in returned[2:])
        way = "Put a Flatten behind it" if ones else "Put a pooling and a Flatten behind it"
        return unavailable(f"{said}: other ranks are not implemented in dlas. {way}")
    if not _fits(returned[1:], wanted[1:]):
        return impossible(said)
    return unavailable(f"{said}: {_batch(returned[0])}")


def _batch(stated: int | None) -> str:
    """Return what to do about a batch that is not the data set's."""
    if stated is None or stated < 1:
        return (
            f"a batch of {stated} is no size. Where a free one is meant it is written by a name: "
            "clear dim_value of the first dimension of input and output, and set dim_param to 'n'"
        )
    return (
        f"it was exported for a batch of {stated}. Write `batch: {stated}` at the data set, or "
        "export the network with a free batch dimension"
    )


def _is_channels_last(graph: GraphProto, name: str, taken: Shape | None, spec: DataSpec) -> bool:
    """Whether images are (n, h, w, c): by the shape, or since the network first turns them."""
    first = spec.shape[1:]
    if taken is not None and len(taken) == 4:
        last = (spec.height, spec.width, spec.channels)
        if taken[3] == spec.channels != taken[1] and taken[1] is not None:
            return True
        if not _fits(taken[1:], first) or not _fits(taken[1:], last):
            return False
    names, readers = {name}, []
    for node in graph.node:
        if names.intersection(node.input):
            if node.op_type in _ELEMENTWISE:
                names.update(node.output)
            else:
                readers.append(node)
    return bool(readers) and all(
        node.op_type == "Transpose"
        and [list(a.ints) for a in node.attribute if a.name == "perm"] == [_TO_CHANNELS_FIRST]
        for node in readers
    )


def _is_float(value: ValueInfoProto) -> bool:
    return _type(value) in ("float", "float16", "double", "bfloat16", "undefined")


def _type(value: ValueInfoProto) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(value.type.tensor_type.elem_type)).lower()


def _shape(value: ValueInfoProto) -> Shape | None:
    """Return a tensor's shape, None for a free dimension; None where no shape is stated."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


def _fits(stated: Sequence[int | None], given: Sequence[int]) -> bool:
    return len(stated) == len(given) and all(
        s is None or s == g for s, g in zip(stated, given, strict=True)
    )


def _text(shape: Sequence[int | None]) -> str:
    return " x ".join("?" if n is None else str(n) for n in shape) or "a single number"


def _names(values: Sequence[ValueInfoProto]) -> str:
    return ", ".join(repr(value.name) for value in values[:6]) + (", ..." * (len(values) > 6))
