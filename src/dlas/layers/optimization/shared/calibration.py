"""What int8 learns from calibration images: the ranges of activations, and the error it leaves.

ONNX Runtime's calibrators choose ranges by the least and most that was seen, and by percentiles.
Its entropy keeps 128 bins for 128 levels, all of them, always, so that nothing is chosen; with
bins enough it ruins ResNet-8 (64 of 92 %). So ranges of the least divergence (as TensorRT's, after
Migacz, "8-bit Inference with TensorRT", 2017) and of the least squared error (``mse`` elsewhere)
are found here, and the correction of biases by what rounded weights add to the mean of an output
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from dlas.core.protocols import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BINS = 8192
"""Of the histograms of activations: sixteen in a step of the widest range, or more."""
LEVELS = 255
SHRUNK = np.linspace(0.1, 1.0, 91)
"""To which parts of what was seen an end of a range may be drawn in."""
ROUNDS = 3
QUANTIZED = "_quantized"
"""What ONNX Runtime puts behind the name of a tensor that it quantizes."""


class Calibration:
    """Calibration images, a batch at a time, as ONNX Runtime's calibrators ask for them."""

    def __init__(self, data: Samples, indices: Sequence[int], batch: int, name: str) -> None:
        self.given = 0
        self._all = (data, indices, batch, name)
        self._batches = self.again()

    def again(self) -> Iterator[dict[str, Any]]:
        """Return all batches from the first on."""
        data, indices, batch, name = self._all
        self.given = 0
        for at in range(0, len(indices) - batch + 1, batch):
            self.given += batch
            yield {name: data.images(indices[at : at + batch])}

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch; None after the last."""
        return next(self._batches, None)


class _One:
    """One batch, for a calibrator that would else keep the outputs of all."""

    def __init__(self, batch: dict[str, Any]) -> None:
        self._left = [batch]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


# ---------------------------------------------------------------- ranges of the least error


def write_ranges(
    method: str, model: Path, operators: Sequence[str], images: Calibration, target: Path
) -> None:
    """Write the ranges of activations, as ``quantize_static`` reads them.

    Args:
        method: ``mse`` or ``entropy``.
        model: the float model, prepared for quantization.
        operators: the kinds of operators whose tensors are quantized.
        images: what the histograms are made of.
        target: the file to write.
    """
    from onnxruntime.quantization import calibrate

    with TemporaryDirectory() as place:
        calibrator = calibrate.create_calibrator(
            model, list(operators), augmented_model_path=str(Path(place, "augmented.onnx")),
            calibrate_method=calibrate.CalibrationMethod.Percentile,
            extra_options={"symmetric": False, "num_bins": BINS},
        )  # fmt: skip
        for batch in images.again():
            calibrator.collect_data(_One(batch))
    ranges = {}
    for name, (counts, edges, low, high, *_) in calibrator.collector.get_histogram_dict().items():
        ends = chosen_range(method, counts, edges, float(low), float(high))
        ranges[name] = tuple(np.array(end, dtype=np.float32) for end in ends)
    found = calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, ranges)
    calibrate.save_tensors_data(found, target)


def chosen_range(
    method: str, counts: NDArray[Any], edges: NDArray[Any], low: float, high: float
) -> tuple[float, float]:
    """Return the range whose 256 levels say most of a histogram.

    Its ends are drawn in one after the other until neither moves. Zero is in it in any case.

    Args:
        method: ``mse``: least squared error; ``entropy``: least divergence (Kullback-Leibler) of
            what the levels tell from what was seen, cut to the range.
        counts: how many values lie in each bin.
        edges: the ends of the bins, one more.
        low: the least value seen.
        high: the largest value seen.
    """
    there = np.asarray(counts) > 0
    values = ((edges[:-1] + edges[1:]) / 2)[there].astype(float)
    seen = np.asarray(counts, dtype=float)[there]
    loss = {"mse": _error, "entropy": _divergence}[method]
    if method == "entropy" and len(seen) > 2:
        # Zeros are told exactly, and a half of all values (what ReLU cuts) would drown the rest.
        at = int(np.argmin(np.abs(values)))
        beside = [seen[i] for i in (at - 1, at + 1) if 0 <= i < len(seen)]
        seen[at] = min(seen[at], max(beside))
    whole = (min(low, 0.0), max(high, 0.0))
    ends = whole
    for _ in range(ROUNDS):
        first = _least(loss, seen, values, [(ends[0], end) for end in SHRUNK * whole[1]])
        found = _least(loss, seen, values, [(end, first[1]) for end in SHRUNK * whole[0]])
        if found == ends:
            break
        ends = found
    return ends


def _least(
    loss: Callable[[Floats, Floats, float, float], float],
    counts: Floats,
    values: Floats,
    ranges: Sequence[tuple[float, float]],
) -> tuple[float, float]:
    # Of equal ones the widest.
    return min(reversed(ranges), key=lambda ends: loss(counts, values, *ends))


def _levels(values: Floats, low: float, high: float) -> tuple[Floats, float, float]:
    """Return the level that each value is rounded to, the level of zero, and the step."""
    step = (high - low) / LEVELS
    zero = float(np.rint(-low / step))
    return np.clip(np.rint(values / step) + zero, 0, LEVELS), zero, step


def _error(counts: Floats, values: Floats, low: float, high: float) -> float:
    """Return the squared error of values that are rounded to the levels of a range."""
    if high <= low:
        return float(counts @ values**2)
    levels, zero, step = _levels(values, low, high)
    return float(counts @ ((levels - zero) * step - values) ** 2)


def _divergence(counts: Floats, values: Floats, low: float, high: float) -> float:
    """Return the divergence of what the levels of a range tell from what was seen, cut to it."""
    inside = (values >= low) & (values <= high)
    if high <= low or not inside.any():
        return math.inf
    levels = _levels(values[inside], low, high)[0].astype(int)
    # What a level holds is told as if it were spread evenly over its bins; what was cut off is at
    # the ends of what was seen, and no level was asked for it.
    told = np.bincount(levels, counts[inside]) / np.maximum(np.bincount(levels), 1)
    other = told[levels] / counts[inside].sum()
    cut = counts[inside].copy()
    cut[0] += counts[values < low].sum()
    cut[-1] += counts[values > high].sum()
    cut /= cut.sum()
    return float(cut @ np.log(cut / other))


# ---------------------------------------------------------------- biases


def correct_biases(quantized: Any, source: Path, images: Calibration) -> int:
    """Take off the biases of a QDQ model what its rounded weights add in the mean.

    The mean of each channel that a layer reads is that of the float model on the calibration
    images, cut to what the quantized tensor can hold. Layers without a quantized bias stay.

    Args:
        quantized: the QDQ model; its biases change.
        source: the float model that it was made of.
        images: what the means are over.

    Returns:
        How many layers were corrected.
    """
    import onnx
    from onnx import numpy_helper

    layers = list(_layers(quantized, onnx.load(source)))
    means = _means(source, layers, images)
    for layer in layers:
        error = layer.summed(means[layer.reads])
        bias, scale = (numpy_helper.to_array(t) for t in (layer.bias, layer.bias_scale))
        changed = (bias + np.rint(error / scale)).astype(np.int32)
        layer.bias.CopyFrom(numpy_helper.from_array(changed, layer.bias.name))
    return len(layers)


@dataclass(frozen=True)
class _Weighted:
    """A convolution or linear layer of a QDQ model, with a bias of 32-bit integers."""

    reads: str
    """The float tensor that it reads."""
    low: float
    high: float
    """The range of that tensor once it is quantized."""
    added: Floats
    """What rounding took off its weights: outputs, inputs of a group, taps."""
    bias: Any
    bias_scale: Any

    def summed(self, mean: Floats) -> Floats:
        """Return what that takes off the mean of each output, of the means of what it reads."""
        outputs, inputs = self.added.shape[:2]
        groups = len(mean) // inputs
        of_group = np.repeat(mean.reshape(groups, inputs), outputs // groups, axis=0)
        error: Floats = (self.added.sum(axis=2) * of_group).sum(axis=1)
        return error


def _layers(quantized: Any, plain: Any) -> Iterator[_Weighted]:
    """Give the layers of a QDQ model whose input, weight and bias are all quantized."""
    from onnx import numpy_helper

    made_by = {output: node for node in quantized.graph.node for output in node.output}
    held = {t.name: t for t in quantized.graph.initializer}
    before = {t.name: t for t in plain.graph.initializer}
    for node in quantized.graph.node:
        if node.op_type not in ("Conv", "Gemm") or len(node.input) != 3:
            continue
        stored = [made_by[name] for name in node.input if name in made_by]
        if len(stored) != 3 or any(of.op_type != "DequantizeLinear" for of in stored):
            continue
        (read, *read_by), (weight, *weight_by), (bias, *bias_by) = (of.input for of in stored)
        source, name = made_by.get(read), weight.removesuffix(QUANTIZED)
        if source is None or weight not in held or bias not in held or name not in before:
            continue
        step, zero = (float(numpy_helper.to_array(held[each])) for each in read_by)
        was = numpy_helper.to_array(before[name]).astype(float)
        now = numpy_helper.to_array(held[weight]).astype(float)
        scale = numpy_helper.to_array(held[weight_by[0]])
        if node.op_type == "Gemm" and not _flag(node, "transB"):
            was, now = was.T, now.T
        rounded = now * scale.reshape(-1, *[1] * (now.ndim - 1))
        added = (was - rounded).reshape(*was.shape[:2], -1)
        ends = (-zero * step, (LEVELS - zero) * step)
        yield _Weighted(source.input[0], *ends, added, held[bias], held[bias_by[0]])


def _flag(node: Any, name: str) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), 0)


def _means(source: Path, layers: Sequence[_Weighted], images: Calibration) -> Mapping[str, Floats]:
    """Return the mean of each channel of what layers read, cut to what each can hold."""
    import onnx
    import onnxruntime

    model = onnx.load(source)
    ends = {layer.reads: (layer.low, layer.high) for layer in layers}
    given = {value.name for value in model.graph.input}
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in ends if name not in given | known
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    asked = [name for name in ends if name not in given]
    sums: dict[str, Floats] = {}
    batches = 0
    for batch in images.again():
        seen = {**batch, **dict(zip(asked, session.run(asked, batch), strict=True))}
        batches += 1
        for name, cut in ends.items():
            values = np.clip(np.asarray(seen[name], dtype=float), *cut)
            axes = tuple(axis for axis in range(values.ndim) if axis != 1)
            sums[name] = sums.get(name, 0.0) + values.mean(axis=axes)
    return {name: total / batches for name, total in sums.items()}
