"""Eight-bit integers: one calibrated, quantized model for all runtimes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.core.errors import StepError, UserError
from dlas.core.keys import Json
from dlas.core.protocols import (
    Network,
    Optimization,
    Optimized,
    Precision,
    Refusal,
    Samples,
    Techniques,
    unavailable,
)
from dlas.layers.optimization.shared import onnx_source
from dlas.layers.optimization.shared.calibration import (
    Calibration,
    correct_biases,
    write_ranges,
)
from dlas.layers.optimization.shared.refusals import refuse_second_precision
from dlas.networks.export import ONNX_FILE, export_onnx, write_onnx
from dlas.networks.fit import balanced

OPERATORS = (
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Relu",
    "Clip",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
)
"""What is computed in int8. Sums and pools too: a residual network would otherwise go back to
float between its convolutions. (Relu and Clip vanish into the range of what they cut.) Softmax,
Gelu and LayerNormalization stay float: eight bits ruin them. See also :func:`_stay_float`."""
SHARED = ("method", "per_channel", "weight_bits", "bias_correction", "first_last")
"""The parameters of the shared model alone."""
OPSET = 13
"""The first operator set whose DequantizeLinear takes a scale for each channel."""


@dataclass(frozen=True, kw_only=True)
class Int8(Optimization):
    """Static post-training quantization to int8, calibrated on training images.

    ONNX Runtime's ``quantize_static`` writes one QDQ model (operators between QuantizeLinear and
    DequantizeLinear), which every runtime executes: int8 weights, symmetric, a scale per output
    channel; uint8 activations, a scale and zero point per tensor. That is the pair of types for
    which x86 has instructions (VNNI) and both ONNX Runtime and OpenVINO integer kernels. After
    Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", 2018.

    ``route: own`` leaves it to the runtime, where that has a way of its own (OpenVINO: NNCF): the
    network stays as it is, and is quantized on the same images when it is built. ``method`` and
    ``per_channel`` are then the runtime's own.
    """

    name: ClassVar[str] = "int8"
    precision: ClassVar[Precision | None] = "int8"
    data: ClassVar[Literal["none", "train"]] = "train"
    ways: ClassVar[tuple[Mapping[str, Json], ...]] = ({}, {"route": "own"})
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    extra: ClassVar[str] = "onnx"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxruntime", "onnxscript")
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.networks.export",
        "dlas.networks.fit",
        "dlas.networks.onnx_file",
        onnx_source.SOURCE,
        "dlas.layers.optimization.shared.calibration",
    )

    images: Annotated[int, Field(ge=1)] = 256
    """How many training images to calibrate on, spread evenly over the classes."""
    method: Literal["minmax", "entropy", "percentile", "mse"] = "minmax"
    """How the range of an activation is chosen from those seen; ``mse``: by the least squared
    error."""
    per_channel: bool = True
    """Whether each output channel's weights have a scale of their own."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Which images are drawn."""
    route: Annotated[
        Literal["shared", "own"], Field(exclude_if=lambda value: value == "shared")
    ] = "shared"
    """``shared``: one quantized model for all runtimes; ``own``: that of each runtime itself."""
    weight_bits: Annotated[Literal[8, 7], Field(exclude_if=lambda value: value == 8)] = 8
    """7: weights keep to half of the range of a byte. CPUs without VNNI multiply in pairs that
    saturate at 16 bits in some runtimes (ONNX Runtime among them), which spoils 8-bit weights."""
    bias_correction: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """Whether biases make up for what rounded weights add to the mean of an output."""
    first_last: Annotated[
        Literal["int8", "float32"], Field(exclude_if=lambda value: value == "int8")
    ] = "int8"
    """In what the layers that read the image and that write the output are computed."""

    def __post_init__(self) -> None:
        asked = [name for name in SHARED if getattr(self, name) != getattr(Int8, name)]
        if self.route == "own" and asked:
            named = " and ".join(f"`{name}`" for name in asked)
            raise UserError(
                f"int8: {named} {'is' if len(asked) == 1 else 'are'} of the shared model; with "
                "`route: own` the runtime chooses: leave out what it chooses"
            )

    @property
    def left_to_runtime(self) -> bool:
        """Whether the runtime quantizes, when it is built."""
        return self.route == "own"

    def needs(self) -> tuple[str, ...]:
        """Return what makes the shared model; a runtime's own way needs nothing here."""
        return () if self.route == "own" else self.requires

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse a second precision in one pipeline, and a runtime with no way of its own."""
        said = refuse_second_precision(self, stack)
        if said is None and self.route == "own" and not stack.software.quantizer:
            return unavailable(
                f"{type(stack.software).name} has no int8 quantization of its own in dlas: take "
                "route: shared"
            )
        return said

    def apply(self, network: Network, data: Samples | None, folder: Path) -> Optimized:
        """Return the quantized network: an ONNX file, no module; the given one is not changed.

        Achieved: ``calibration_images``, ``method``; ``operators`` and ``quantized`` count the
        operators of each kind, and those of them that compute on quantized inputs;
        ``weights_int8`` and ``weights_float``: elements of weights stored as each.

        Raises:
            StepError: no training images, or the network is not float32.
        """
        if network.precision != "float32":
            raise StepError(f"int8 needs a float32 network, and got a {network.precision} one")
        if data is None:
            raise StepError("int8 is calibrated on training images, and got none")
        if self.route == "own":
            return self._left(network, data)
        import onnx

        source, ready = folder / "float32.onnx", folder / "prepared.onnx"
        target = folder / ONNX_FILE
        if network.module is not None:
            export_onnx(network.module, network.spec, source)
        elif network.onnx is not None:
            model = onnx_source.ready(network.onnx, network.spec, OPSET)
            onnx_source.refuse_foreign(model, self.name)
            onnx.save(model, source)
        _prepare(source, ready)
        reader = Calibration(
            data, self._picked(network, data), network.spec.batch, _input_name(ready)
        )
        model, told = self._quantize(ready, target, reader)
        for path in folder.iterdir():
            if path != target:
                path.unlink()  # the float model, and what the tools left beside it
        achieved = {
            "calibration_images": reader.given,
            "method": self.method,
            "per_channel": self.per_channel,
            **told,
            **_count(model),
        }
        return Optimized(Network(network.spec, None, target, "int8"), achieved)

    def _picked(self, network: Network, data: Samples) -> list[int]:
        """Return which training images to calibrate on, whole batches of them."""
        picked: list[int] = balanced(data.labels, self.images, self.seed).tolist()
        batch = network.spec.batch
        if len(picked) < batch:
            raise StepError(f"int8 needs at least one batch of {batch} images to calibrate on")
        return picked[: len(picked) // batch * batch]

    def _left(self, network: Network, data: Samples) -> Optimized:
        """Return the network as it is, with the images on which the runtime quantizes it."""
        picked = self._picked(network, data)
        left = replace(network, precision="int8", calibration=tuple(picked))
        return Optimized(left, {"calibration_images": len(picked), "route": self.route})

    def _quantize(
        self, source: Path, target: Path, reader: Calibration
    ) -> tuple[Any, dict[str, Any]]:
        """Write the quantized model; return it with what was done beside."""
        import onnx
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        methods = {
            "minmax": CalibrationMethod.MinMax,
            "percentile": CalibrationMethod.Percentile,
        }
        graph = onnx.load(source).graph
        ends = _first_and_last(graph) if self.first_last == "float32" else []
        ranges = None
        if self.method in ("mse", "entropy"):
            ranges = source.with_name("ranges.json")
            write_ranges(self.method, source, OPERATORS, reader, ranges)
        quantize_static(
            source,
            target,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=self.per_channel,
            reduce_range=self.weight_bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*_stay_float(graph), *ends],
            # Of ranges that are there already ONNX Runtime wants to hear that they are of MinMax.
            calibrate_method=methods.get(self.method, CalibrationMethod.MinMax),
            calibration_cache_path=ranges,
            # Activations need not be symmetric; weights must, or no integer kernel takes them.
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        model = onnx.load(target)
        told: dict[str, Any] = {}
        if self.first_last == "float32":
            told["float_ends"] = ends
        if self.bias_correction:
            told["biases_corrected"] = correct_biases(model, source, reader)
        write_onnx(model, target)
        return model, told


def _prepare(source: Path, target: Path) -> None:
    """Infer shapes and fold what can be folded (norms into convolutions), as quantizing needs."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        with chdir(source.parent):  # where it gives up it leaves a file in the working folder
            quant_pre_process(str(source), str(target))
    except Exception:  # of its symbolic shape inference, which not every graph is made for
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    model = onnx.load(target)
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if foreign:
        raise StepError(
            f"the prepared model holds operators of {', '.join(sorted(foreign))}, which other "
            "runtimes than ONNX Runtime do not know"
        )
    names: set[str] = set()
    for at, node in enumerate(model.graph.node):
        if not node.name or node.name in names:
            node.name = f"{node.op_type}_{at}"
        names.add(node.name)
    onnx.save(model, target)


def _stay_float(graph: Any) -> list[str]:
    """Return the names of operators that are better left float.

    Products of two activations, as in attention: OpenVINO has no integer kernel for them with
    uint8 on both sides and would compute rounded floats. Sums that a LayerNormalization reads: the
    residual stream of a transformer has outliers that one scale per tensor cannot hold, and what
    reads it is float anyway.
    """
    stored = {tensor.name for tensor in graph.initializer}
    normed = {
        name for node in graph.node if node.op_type == "LayerNormalization" for name in node.input
    }
    return [
        node.name
        for node in graph.node
        if (node.op_type == "MatMul" and not stored.intersection(node.input))
        or (node.op_type == "Add" and normed.intersection(node.output))
    ]


def _first_and_last(graph: Any) -> list[str]:
    """Return the names of the layers with weights that no other one stands before, or behind."""
    first = _outermost(graph, graph.node, "input", "output")
    last = _outermost(graph, list(reversed(graph.node)), "output", "input")
    return list(dict.fromkeys([*first, *reversed(last)]))


def _outermost(graph: Any, nodes: Sequence[Any], near_side: str, far_side: str) -> list[str]:
    """Return the layers with weights that are met first by who walks through nodes in order."""
    stored = {tensor.name for tensor in graph.initializer}
    behind: set[str] = set()
    found = []
    for node in nodes:
        met = bool(behind.intersection(getattr(node, near_side)))
        weighted = node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in stored
        if weighted and not met:
            found.append(node.name)
        if weighted or met:
            behind.update(getattr(node, far_side))
    return found


def _input_name(path: Path) -> str:
    import onnx

    graph = onnx.load(path).graph
    held = {tensor.name for tensor in graph.initializer}
    return next(value.name for value in graph.input if value.name not in held)


def _count(model: Any) -> dict[str, Any]:
    """Return what a QDQ model computes on quantized inputs, and what its weights are stored as."""
    import onnx

    made_by = {output: node for node in model.graph.node for output in node.output}
    sizes = {t.name: (t.data_type, _elements(t)) for t in model.graph.initializer}
    kinds: Counter[str] = Counter()
    quantized: Counter[str] = Counter()
    elements: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        kinds[node.op_type] += 1
        fed = [made_by[name].op_type for name in node.input if name in made_by]
        quantized[node.op_type] += bool(fed) and all(op == "DequantizeLinear" for op in fed)
    for node in model.graph.node:
        named = node.input[:1] if node.op_type == "DequantizeLinear" else node.input
        for kind, size in (sizes[name] for name in named if name in sizes):
            if kind == onnx.TensorProto.INT8:
                elements["int8"] += size
            elif kind == onnx.TensorProto.FLOAT and "Linear" not in node.op_type:
                elements["float"] += size
    return {
        "operators": dict(sorted(kinds.items())),
        "quantized": {kind: count for kind, count in sorted(quantized.items()) if count},
        "weights_int8": elements["int8"],
        "weights_float": elements["float"],
    }


def _elements(tensor: Any) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count
