"""A quantized ONNX model (QDQ) read for PyTorch: eight bits where it has them, floats between.

A QDQ model says what is computed in eight bits by float operators between DequantizeLinear and
QuantizeLinear. Such a triple becomes one operation that reads and writes eight bits; what PyTorch
has no eight-bit operator for stays a float one, between a ``dequantize`` and a ``quantize``.

It is read from the file, not put together from the exported float network, whose tensors would
have to be matched by name: the file is what all runtimes share, it is there for pruned networks
and for a user's own ONNX file, too, and it holds the weights as they were rounded.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from dlas.core.errors import StepError, listed
from dlas.layers.software.shared.qdq_parts import (
    CLAMP,
    LEVELS,
    QUANTIZE,
    Listing,
    Operation,
    QdqReading,
    attributes,
)
from dlas.layers.software.shared.qdq_patterns import CUT, add_narrow, narrow
from dlas.layers.software.shared.torch_operators import OPERATORS
from dlas.networks.onnx_file import data_inputs, in_order, opset

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET = 13
"""Before it QuantizeLinear has no axis, and Softmax another meaning."""
_KNOWN = {*OPERATORS, "QuantizeLinear", "DequantizeLinear", "Constant"}


def read_listing(model: ModelProto) -> Listing:
    """Return the operations of a quantized model; the given one is not changed.

    Raises:
        StepError: it holds operators that are not read here, all by name.
    """
    plain = in_order(model)
    unknown = Counter(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        for node in plain.graph.node
        if node.domain not in ("", "ai.onnx") or node.op_type not in _KNOWN
    )
    if unknown:
        named = listed([f"{name} x{count}" for name, count in sorted(unknown.items())], 8)
        raise StepError(
            f"the quantized model is read into PyTorch operator by operator, and {named} "
            f"{'is' if len(unknown) == 1 else 'are'} not among those that dlas reads"
        )
    if opset(plain) < OPSET:
        raise StepError(
            f"the quantized model is written in opset {opset(plain)}, and is read from {OPSET} on"
        )
    return _ModelReader(plain).listing()


class _ModelReader:
    """One model on its way to operations."""

    def __init__(self, model: ModelProto) -> None:
        from onnx import numpy_helper

        graph, self.known = model.graph, QdqReading()
        self.known.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.nodes = [node for node in graph.node if not self._is_constant(node)]
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        (given,), (made,) = data_inputs(graph), graph.output
        self.given, self.made = str(given.name), str(made.name)
        self.readers = Counter(name for node in self.nodes for name in node.input)
        self.readers[self.made] += 1

    def _is_constant(self, node: NodeProto) -> bool:
        """Whether a node is a constant, which is then known."""
        from onnx import numpy_helper

        if node.op_type != "Constant":
            return False
        ((kind, value),) = attributes(node).items()
        made = numpy_helper.to_array(value) if kind == "value" else np.array(value)
        wide = {"f": np.float32, "i": np.int64}.get(made.dtype.kind, made.dtype)
        self.known.constants[node.output[0]] = made if kind == "value" else made.astype(wide)
        return True

    def listing(self) -> Listing:
        """Read all operators and leave out what nothing reads."""
        for node in self.nodes:
            if node.op_type == "DequantizeLinear":
                self.known.dequantized(node)
        chains = {id(node): self._chain(node) for node in self.nodes}
        inside = {id(each) for chain in chains.values() for each in chain[:-1]}
        for node in self.nodes:
            if node.op_type == "QuantizeLinear":
                self._quantize(chains[id(node)])
            elif node.op_type != "DequantizeLinear" and id(node) not in inside:
                self.known.widened(node.input)
                self.known.operations.append(
                    Operation(
                        node.op_type, tuple(node.input), tuple(node.output), attributes(node)
                    )
                )
        self.known.widened([self.made])
        return self._pruned()

    def _chain(self, last: NodeProto) -> list[NodeProto]:
        """Return the operators up to a QuantizeLinear that are one operation in eight bits."""
        if last.op_type != "QuantizeLinear":
            return []
        becomes, node = self.known.meaning(last), self._before(last)
        if node is not None and node.op_type in ("Relu", "Clip") and self._ends(node):
            before = self._before(node)
            if (
                before is not None
                and before.op_type in CUT
                and narrow(self.known, before, becomes)
            ):
                return [before, node, last]
        if node is not None and narrow(self.known, node, becomes):
            return [node, last]
        return [last]

    def _before(self, node: NodeProto) -> NodeProto | None:
        """Return the operator that makes what a node reads, where nobody else reads it."""
        name = node.input[0]
        return self.makers.get(name) if self.readers[name] == 1 else None

    def _ends(self, node: NodeProto) -> tuple[float, float] | None:
        """Return between what a Relu or Clip cuts; None: that is computed."""
        if node.op_type == "Relu":
            return 0.0, np.inf
        ends = []
        for at, missing in ((1, -np.inf), (2, np.inf)):
            name = node.input[at] if len(node.input) > at else ""
            value = self.known.value(name) if name else np.array(missing)
            if value is None:
                return None
            ends.append(float(value.reshape(-1)[0]))
        return ends[0], ends[1]

    def _quantize(self, chain: list[NodeProto]) -> None:
        """Add the operation that a QuantizeLinear ends, or the quantizing alone."""
        last = chain[-1]
        meaning, output = self.known.meaning(last), last.output[0]
        if len(chain) == 1:
            self.known.widened(last.input[:1])
            self.known.add(QUANTIZE, last.input[:1], output, meaning.attrs())
            return
        ends = self._ends(chain[1]) if len(chain) == 3 else None
        low, high = map(meaning.level, ends) if ends else (0, LEVELS)
        relu = low > 0 and high == LEVELS and low == meaning.zero
        cut = not relu and (low > 0 or high < LEVELS)
        inner = f"{output}, before it is cut" if cut else output
        add_narrow(self.known, chain[0], inner, {**meaning.attrs(), "relu": relu})
        if cut:
            ends_of = {"low": low, "high": high}
            self.known.add(CLAMP, [inner], output, {**meaning.attrs(), **ends_of})

    def _pruned(self) -> Listing:
        wanted, kept = {self.made}, []
        for each in reversed(self.known.operations):
            if wanted.intersection(each.outputs):
                wanted.update(each.inputs)
                kept.append(each)
        made = {name for each in kept for name in each.outputs}
        constants = {
            name: value for name, value in self.known.constants.items() if name in wanted - made
        }
        return Listing(tuple(reversed(kept)), constants, self.given, self.made)
