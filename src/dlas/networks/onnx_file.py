"""An ONNX file as people have it: read, put in order, and told what type it computes in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from dlas.core.errors import StepError
from dlas.core.protocols import DataSpec
from dlas.networks.onnx_operators import PASSING, operand, product

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

QUANTIZES = ("QuantizeLinear", "DequantizeLinear")
ONNX_ML_IR = 8
"""Version of the format for what dlas writes of a file of an older one."""
_FLOAT = 1  # onnx.TensorProto.FLOAT
_NARROW_FIRST = ("int8", "float16", "bfloat16", "float32", "float64")


def data_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """Return the inputs that a caller has to give: those that no stored tensor fills."""
    stored = {t.name for t in graph.initializer} | {
        t.values.name for t in graph.sparse_initializer
    }
    return [value for value in graph.input if value.name not in stored]


def names_twice(graph: GraphProto) -> bool:
    """Whether two operators have one name, with which ONNX Runtime takes no file."""
    names = [node.name for node in graph.node if node.name]
    return len(set(names)) < len(names)


def states_shape(value: ValueInfoProto) -> bool:
    """Whether an input or output says how many axes it has."""
    return bool(value.type.tensor_type.HasField("shape"))


def opset(model: ModelProto) -> int:
    """Return the version of ONNX's own operator set that a model is written in."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def in_order(model: ModelProto) -> ModelProto:
    """Return a model with the same meaning in the plainest form; the given one is not changed.

    Operators stand after those that they read and have no name twice, functions of the file's own
    are written out, and stored tensors are no inputs. Other tools demand each of it, and files
    come without.
    """
    import onnx
    from onnx import inliner

    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    if plain.functions:
        plain = inliner.inline_local_functions(plain)
    keep = data_inputs(plain.graph)
    if len(keep) != len(plain.graph.input):
        kept = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in keep]
        del plain.graph.input[:]
        plain.graph.input.extend(kept)
    plain.ir_version = max(plain.ir_version, 4)  # the first that lets stored ones be no inputs
    nodes = _sorted(plain.graph)
    names: set[str] = set()
    for at, node in enumerate(nodes):
        if node.name in names:
            node.name = f"{node.name}_{at}"
        if node.name:
            names.add(node.name)
    del plain.graph.node[:]
    plain.graph.node.extend(nodes)
    return plain


def _sorted(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes so that each stands after what it reads, else as they stand."""
    makers = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
    order: list[int] = []
    state = [0] * len(graph.node)  # 1: begun, 2: done
    for start in range(len(graph.node)):
        stack = [start]
        while stack:
            at = stack[-1]
            if state[at] == 2:
                stack.pop()
                continue
            reads = [makers[n] for n in _read(graph.node[at]) if n in makers]
            ahead = [m for m in reads if state[m] == 0]
            if state[at] == 0 and ahead:
                state[at] = 1
                stack += reversed(ahead)
                continue
            state[at] = 2
            order.append(at)
            stack.pop()
    return [graph.node[at] for at in order]


def _read(node: NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, those that its subgraphs take from outside included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from _read(inner)


def raised(model: ModelProto, version: int, name: str) -> ModelProto:
    """Return a model written in an operator set of at least ``version``, by ONNX's converter.

    ``name`` stands in the message. A model that is new enough is returned as it is.

    Raises:
        StepError: the converter cannot do it: the file has to be exported anew.
    """
    from onnx import version_converter

    now = opset(model)
    if now >= version:
        return model
    way_out = f"export it anew with opset {version} or later"
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if foreign:
        raise StepError(
            f"{name} is written in opset {now}, and opset {version} is needed: ONNX's version "
            f"converter does not take its operators of {', '.join(sorted(foreign))}; {way_out}"
        )
    try:
        newer = version_converter.convert_version(model, version)
    except Exception as error:  # what its adapters raise is not documented
        raise StepError(
            f"{name} is written in opset {now}, and opset {version} is needed: ONNX's version "
            f"converter cannot raise it; {way_out}"
        ) from error
    newer.ir_version = max(newer.ir_version, ONNX_ML_IR)
    return newer


def with_stated_ends(model: ModelProto, spec: DataSpec) -> ModelProto:
    """Return a model whose input and output state a shape, the problem's where they stated none.

    ONNX's checker and shape inference demand it; runtimes do not. The given one may be changed.
    """
    ends = (
        *((value, spec.shape) for value in data_inputs(model.graph)),
        *((value, (spec.batch, spec.classes)) for value in model.graph.output),
    )
    for value, shape in ends:
        tensor = value.type.tensor_type
        if not states_shape(value):
            for size in shape:
                tensor.shape.dim.add().dim_value = size
        tensor.elem_type = tensor.elem_type or _FLOAT
    return model


def with_float32_ends(model: ModelProto) -> ModelProto | None:
    """Return a model that takes and gives float32, None: it does so already.

    Floating-point inputs and outputs of other types are converted inside.
    """
    import onnx
    from onnx import TensorProto, helper

    others = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    inputs = [v for v in data_inputs(model.graph) if v.type.tensor_type.elem_type in others]
    outputs = [v for v in model.graph.output if v.type.tensor_type.elem_type in others]
    if not inputs and not outputs:
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    casts: dict[str, NodeProto] = {}
    for value in inputs:
        inside, kind = f"{value.name}/as_given", value.type.tensor_type.elem_type
        casts[value.name] = helper.make_node("Cast", [value.name], [inside], inside, to=kind)
    for value in outputs:
        inside = f"{value.name}/before_float32"
        casts[value.name] = helper.make_node(
            "Cast", [inside], [value.name], inside, to=TensorProto.FLOAT
        )
    ahead = {value.name: f"{value.name}/as_given" for value in inputs}
    behind = {value.name: f"{value.name}/before_float32" for value in outputs}
    for node in copy.graph.node:
        _rename(node, {**ahead, **behind})
    nodes = (
        [casts[v.name] for v in inputs],
        list(copy.graph.node),
        [casts[v.name] for v in outputs],
    )
    del copy.graph.node[:]
    copy.graph.node.extend(node for part in nodes for node in part)
    names = {value.name for value in (*inputs, *outputs)}
    for value in (*copy.graph.input, *copy.graph.output):
        if value.name in names:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return copy


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    """Give values other names in what a node reads and makes, in its subgraphs too."""
    for field in (node.input, node.output):
        for at, name in enumerate(field):
            field[at] = names.get(name, name)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                _rename(inner, names)


# ---------------------------------------------------------------- what it computes in


def precision_of(model: ModelProto) -> str:
    """Return the type that most convolutions and matrix products of a model are written in.

    ``int8``: of quantized operators, or between DequantizeLinear on both sides (weights that are
    stored in eight bits and widened before a product leave it a float one). Else the type of the
    weights: float32, float16, bfloat16 or float64. Of types with as many products the narrower
    one is taken, as for what ran.
    """
    plain = in_order(model) if model.functions else model
    types = _Types(plain.graph)
    count = Counter(kind for node in plain.graph.node if (kind := types.of(node)))
    if not count:
        count = types.stored_floats()
    if not count:
        return "float32"
    return max(count, key=lambda kind: (count[kind], -_NARROW_FIRST.index(kind)))


class _Types:
    """The types of operands in a graph."""

    def __init__(self, graph: GraphProto) -> None:
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._stored = {t.name: (int(t.data_type), _size(t.dims)) for t in graph.initializer}
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    tensor = attribute.t
                    self._stored[node.output[0]] = int(tensor.data_type), _size(tensor.dims)
        values = (*graph.value_info, *graph.input, *graph.output)
        self._said = {v.name: int(v.type.tensor_type.elem_type) for v in values}

    def of(self, node: NodeProto) -> str | None:
        """Return the type of a product's operands, None: no product, or nothing says it."""
        place = product(node)
        if place is None:
            return None
        if place.integer:
            return "int8"
        left, right = operand(node, place.left), operand(node, place.right)
        if self._eight_bits(left) and self._eight_bits(right):
            return "int8"
        return self._float(right) or self._float(left)

    def stored_floats(self) -> Counter[str]:
        """Return the elements of stored floating-point tensors by their type."""
        count: Counter[str] = Counter()
        for kind, size in self._stored.values():
            if name := _float_name(kind):
                count[name] += size
        return count

    def _eight_bits(self, name: str) -> bool:
        """Whether a value is dequantized from at most eight bits."""
        node = self._behind(name)
        if node is None or node.op_type != "DequantizeLinear":
            return False
        return self._bits(node.input[0], node) <= 8

    def _bits(self, name: str, dequantize: NodeProto) -> int:
        from onnx import TensorProto

        kind = self._stored.get(name, (0, 0))[0] or self._said.get(name, 0)
        maker = self._made_by.get(name)
        if not kind and maker is not None and maker.op_type == "QuantizeLinear":
            given = next((a.i for a in maker.attribute if a.name == "output_dtype"), 0)
            kind = given or self._stored.get(operand(maker, 2), (0, 0))[0] or TensorProto.UINT8
        if not kind:
            kind = self._stored.get(operand(dequantize, 2), (0, 0))[0] or TensorProto.UINT8
        return _INTEGER_BITS.get(TensorProto.DataType.Name(kind), 32)

    def _float(self, name: str) -> str | None:
        """Return the floating-point type of a value, None: nothing says it."""
        node = self._made_by.get(name)
        while name not in self._stored and name not in self._said and node is not None:
            if node.op_type == "Cast":
                return _float_name(next(a.i for a in node.attribute if a.name == "to"))
            if node.op_type in QUANTIZES:
                name = operand(node, 1)  # the scale's type is the result's
            elif node.op_type in PASSING:
                name = node.input[0]
            else:
                return None
            node = self._made_by.get(name)
        return _float_name(self._stored.get(name, (0, 0))[0] or self._said.get(name, 0))

    def _behind(self, name: str) -> NodeProto | None:
        """Return what made a value, looking through operators that only hand it on."""
        node = self._made_by.get(name)
        while node is not None and node.op_type in PASSING and node.op_type != "Cast":
            node = self._made_by.get(node.input[0])
        return node


_INTEGER_BITS: Mapping[str, int] = {
    "INT8": 8, "UINT8": 8, "INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2,
}  # fmt: skip
_FLOATS: Mapping[str, str] = {
    "FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "DOUBLE": "float64",
}  # fmt: skip


def _float_name(kind: int) -> str | None:
    from onnx import TensorProto

    return _FLOATS.get(TensorProto.DataType.Name(kind))


def _size(dims: object) -> int:
    count = 1
    for size in dims:  # type: ignore[attr-defined]
        count *= size
    return count
