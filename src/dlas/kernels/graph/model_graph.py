"""From a model to the simplified graph that kernels are chosen for."""

import os
import sys
from typing import Any

from dlas.kernels.graph import islands, qdq
from dlas.kernels.graph.bounds import name_clips
from dlas.kernels.graph.graph import Graph
from dlas.kernels.graph.heads import find_attention
from dlas.kernels.graph.importer import import_onnx, import_program
from dlas.kernels.graph.simplify import simplify


def read_model(model: Any) -> Graph:
    """Return the graph of an exported program, or of an ONNX model (or its file, `.onnx`).

    Raises:
        UnsupportedError: neither, or one that cannot be imported.
    """
    # Who holds an ONNX model has imported onnx; for anything else it need not be.
    onnx = sys.modules.get("onnx")
    held = onnx is not None and isinstance(model, onnx.ModelProto)
    if held or (isinstance(model, str | os.PathLike) and str(model).endswith(".onnx")):
        matched = qdq.match(name_clips(import_onnx(model)))
        return simplify(islands.fuse(find_attention(matched)))
    return simplify(import_program(model))


def stored_as(graph: Graph, dtype: str) -> None:
    """Let convolutions and linear layers store their weights in a type of floats.

    What is quantized stays so.
    """
    for node in graph.nodes:
        if node.op in ("conv2d", "linear"):
            node.attrs["dtype"] = dtype
