"""A torch module as a ``torch.export`` program and as an ONNX file: same module, same bytes.

Here and not beside the step that lowers, since ``int8`` has to export too and a technique imports
nothing above itself.
"""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.core.errors import StepError
from dlas.core.protocols import DataSpec
from dlas.networks.onnx_file import (
    data_inputs,
    in_order,
    names_twice,
    states_shape,
    with_float32_ends,
    with_stated_ends,
)

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto
    from torch import nn
    from torch.export import ExportedProgram

OPSET = 20
"""The ONNX operator set: the first one with Gelu as one operator (LayerNormalization is 17)."""

ONNX_FILE = "model.onnx"
"""The name of a network's ONNX file in its folder."""

INPUT, OUTPUT = "input", "output"
"""Names of the input and the output of every ONNX file that dlas writes."""


def export_program(module: nn.Module, spec: DataSpec) -> ExportedProgram:
    """Return the ``torch.export.ExportedProgram`` of a module in eval mode, its batch fixed.

    The module is not changed. What differs between machines (the paths in stack traces) is taken
    out, and so are the example inputs, which could only be stored pickled.
    """
    import torch

    example = torch.zeros(spec.shape)
    with _quiet(), torch.no_grad():
        program = torch.export.export(copy.deepcopy(module).eval(), (example,))
    for graph_module in program.graph_module.modules():
        for node in getattr(graph_module, "graph", torch.fx.Graph()).nodes:
            node.meta.pop("stack_trace", None)
            node.meta.pop("from_node", None)
    program._example_inputs = None  # its setter demands inputs
    return program


def export_onnx(module: nn.Module, spec: DataSpec, path: Path) -> None:
    """Write a float32 module as one ONNX file, weights inside, static batch.

    The file says nothing of where and when it was made: same module and libraries, same bytes.
    """
    import torch

    example = torch.zeros(spec.shape)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            copy.deepcopy(module).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
    write_onnx(program.model_proto, path)


def write_onnx(model: ModelProto, path: Path) -> None:
    """Check an ONNX model and write it, without remarks of its producer, as the same bytes."""
    import onnx

    _strip(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def copy_onnx(source: Path, target: Path, spec: DataSpec) -> None:
    """Copy an ONNX file as every runtime takes it; one that already is so byte for byte.

    Weights that lie in files beside it are taken in; inputs and outputs in other floating-point
    types than float32 are converted inside; functions of its own are written out; an input that
    states no shape states the problem's; no two operators have one name.

    Raises:
        StepError: its weights cannot be read, or are more than one file of ONNX holds.
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    if source.resolve() == target.resolve():
        return
    model = onnx.load(source, load_external_data=False)
    outside = any(uses_external_data(tensor) for tensor in _tensors(model.graph))
    if outside:
        try:
            model = onnx.load(source)
        except Exception as error:  # ValidationError, FileNotFoundError, ...
            raise StepError(
                f"{source.name} keeps weights in files beside it that cannot be read; copy them "
                "there, too"
            ) from error
    adapted = with_float32_ends(model) or model
    stated = all(states_shape(value) for value in data_inputs(adapted.graph))
    if adapted.functions or names_twice(adapted.graph) or not stated:
        adapted = with_stated_ends(in_order(adapted), spec)
    if adapted is model and not outside:
        shutil.copyfile(source, target)
        return
    try:
        content = adapted.SerializeToString(deterministic=True)
    except ValueError as error:  # protobuf holds 2 GB
        raise StepError(
            f"{source.name} has 2 GB of weights or more, which do not fit into one ONNX file: "
            "not implemented in dlas"
        ) from error
    target.write_bytes(content)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    for part in _graphs(graph):
        yield from part.initializer
        for node in part.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)


def _strip(model: ModelProto) -> None:
    """Take stack traces, documentation and versions of the producer out of a model, in place."""
    model.producer_version = ""
    model.doc_string = ""
    del model.metadata_props[:]
    for graph in _graphs(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node)
        for value in values:
            value.doc_string = ""
            del value.metadata_props[:]


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' deprecation remarks about their own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=DeprecationWarning)
        warnings.simplefilter("ignore", category=FutureWarning)
        yield
