"""From `torch.export` or ONNX to a `Graph`, through TVM's Relax importers.

Relax gives every operator a type and a default definition; so an operator that has no kernel here
still runs. Operators get the names of the modules whose weights they hold.
"""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import tvm
from tvm import relax

from dlas.kernels.graph.graph import Graph, Node, Value
from dlas.kernels.graph.onnx_gather import slice_gathers
from dlas.kernels.graph.onnx_pools import window_pools
from dlas.kernels.graph.relax import relax_module
from dlas.kernels.ground.errors import UnsupportedError

Env = dict[Any, Any]
OWN = "tir."
"""What kinds of operators begin with that are functions of TVM's importer, no operators."""


def import_program(program: Any) -> Graph:
    """Return the graph of a `torch.export.ExportedProgram` in float32.

    Raises:
        UnsupportedError: no exported program, an input or output that is no tensor of fixed shape,
            or a program that TVM's importer refuses.
    """
    # Who holds an exported program has imported torch; for anything else it need not be.
    export = sys.modules.get("torch.export")
    if export is None or not isinstance(program, export.ExportedProgram):
        raise UnsupportedError(
            f"a torch.export.ExportedProgram is needed, got {type(program).__qualname__}: pass "
            "torch.export.export(model.eval(), inputs), where inputs is a tuple of example tensors"
        )
    module, program = relax_module(program)
    return _read(module, _module_names(program))


def import_onnx(model: Any) -> Graph:
    """Return the graph of an ONNX model: a file, or an `onnx.ModelProto`.

    Raises:
        UnsupportedError: no such file, or a model that TVM's importer refuses.
    """
    import onnx
    from tvm.relax.frontend.onnx import from_onnx

    if not isinstance(model, onnx.ModelProto):
        try:
            model = onnx.load(model)
        except Exception as error:  # protobuf has no error of its own for a file of other content
            raise UnsupportedError(
                f"{model} is no ONNX model that can be read: {error}"
            ) from error
    try:
        ready = window_pools(slice_gathers(model))
        module = from_onnx(ready, keep_params_in_input=False)
    except Exception as error:
        raise UnsupportedError(f"TVM cannot import this ONNX model: {error}") from error
    return _read(module, _initializer_names(model))


def _initializer_names(model: Any) -> dict[str, list[str]]:
    """Map the digest of each stored weight to the modules that hold it, in order of use."""
    from onnx import numpy_helper

    names: dict[str, list[str]] = defaultdict(list)
    for tensor in model.graph.initializer:
        module, _, leaf = tensor.name.removesuffix("_quantized").rpartition(".")
        if leaf == "weight" and len(tensor.dims) > 1:
            names[_digest(numpy_helper.to_array(tensor))].append(module)
    return names


def _read(module: Any, modules: dict[str, list[str]]) -> Graph:
    """Return the graph of a Relax module whose weights belong to these modules of torch's."""
    reader, function = _Importer(modules, module), module["main"]
    inputs = [reader.parameter(p) for p in function.params]
    for block in function.body.blocks:
        for binding in block.bindings:
            reader.bind(binding.var, binding.value)
    outputs = reader.flat(reader.read(function.body.body))
    return Graph(inputs, outputs, reader.nodes, reader.values, reader.constants, reader.labels)


def _module_names(program: Any) -> dict[str, list[str]]:
    """Map the digest of each parameter to the modules that hold it, in order of use."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, tensor in program.state_dict.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "weight":
            names[_digest(tensor.detach().cpu().numpy())].append(module)
    return names


def _digest(array: Any) -> str:
    """Return a short name of an array's shape and of a few thousand of its numbers."""
    flat = np.ascontiguousarray(array).reshape(-1)
    sample = np.ascontiguousarray(flat[:: max(1, flat.size // 4096)])
    return f"{array.shape}{hashlib.sha1(sample.tobytes(), usedforsecurity=False).hexdigest()}"


class _Importer:
    """Walks the bindings of the Relax function once."""

    def __init__(self, modules: dict[str, list[str]], module: Any) -> None:
        self.modules, self.module = modules, module
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self.constants: dict[str, Any] = {}
        self.env: Env = {}
        self.taken: set[str] = set()
        self.labels: dict[str, str] = {}

    def parameter(self, var: Any) -> str:
        name = str(var.name_hint) if hasattr(var, "name_hint") else str(var.name)
        self.values[name] = _value(var.ty, name)
        self.env[var] = name
        return name

    def bind(self, var: Any, value: Any) -> None:
        if isinstance(value, relax.Call):
            self.env[var] = self._call(var, value)
        else:
            self.env[var] = self.read(value)

    def read(self, expr: Any) -> Any:
        """Return the value's name, or a list of them for a tuple."""
        if isinstance(expr, tvm.ir.Tuple):
            return [self.read(f) for f in expr.fields]
        if isinstance(expr, tvm.ir.TupleGetItem):
            return self.read(expr.tuple_value)[int(expr.index)]
        if isinstance(expr, tvm.ir.GenericConst):
            return self._constant(expr.value.numpy())
        if expr in self.env:
            return self.env[expr]
        raise UnsupportedError(f"an expression of type {type(expr).__name__} is not supported")

    def flat(self, names: Any) -> list[str]:
        """Return the names in a (nested) tuple."""
        return (
            [names] if isinstance(names, str) else [n for part in names for n in self.flat(part)]
        )

    def _constant(self, array: Any) -> str:
        name = f"constant#{len(self.constants)}"
        self.constants[name] = array
        self.values[name] = Value(tuple(array.shape), str(array.dtype))
        modules = self.modules.get(_digest(array), []) if array.ndim > 1 else []
        if modules:
            # Equal weights in two modules are used in the order of the modules.
            self.labels[name] = modules.pop(0) if len(modules) > 1 else modules[0]
        return name

    def _call(self, var: Any, call: Any) -> Any:
        inputs = [
            name
            for argument in call.args
            for tensor in _tensors(argument)
            for name in self.flat(self.read(tensor))
        ]
        outputs, names = self._outputs(var.ty, f"v{len(self.values)}")
        op = str(call.op.name).removeprefix("relax.")
        attrs = {"call": call, "kind": op}
        if op == "call_tir":  # a function of the importer's own
            given = call.args[0]
            op = str(given.name_hint).rstrip("0123456789_")
            attrs |= {"kind": f"{OWN}{op}", "function": self.module[given]}
        self.nodes.append(Node(self._name(op), "relax", inputs, outputs, attrs))
        return names

    def _outputs(self, ty: Any, hint: str) -> tuple[list[str], Any]:
        if hasattr(ty, "fields"):
            parts = [self._outputs(t, f"{hint}.{i}") for i, t in enumerate(ty.fields)]
            return [n for flat, _ in parts for n in flat], [names for _, names in parts]
        self.values[hint] = _value(ty, hint)
        return [hint], hint

    def _name(self, op: str) -> str:
        stem = op.removeprefix("nn.")
        name, count = stem, 1
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name


def _tensors(argument: Any) -> Iterator[Any]:
    """Yield the tensors of an argument: a tuple may hold numbers, which stay in the call."""
    if isinstance(argument, tvm.ir.Tuple):
        for field in argument.fields:
            yield from _tensors(field)
    elif isinstance(argument, (relax.Var, tvm.ir.Var, tvm.ir.GenericConst, tvm.ir.TupleGetItem)):
        yield argument


def _value(ty: Any, name: str) -> Value:
    shape = getattr(ty, "shape", None)
    if not hasattr(ty, "dtype"):
        raise UnsupportedError(
            f"{name} is no tensor but a shape, which is known when it runs: {ty}"
        )
    try:
        extents = tuple(int(extent) for extent in (shape.values if shape is not None else ()))
    except (TypeError, AttributeError) as error:
        raise UnsupportedError(f"{name} has no fixed shape: {ty}") from error
    return Value(extents, str(ty.dtype))
