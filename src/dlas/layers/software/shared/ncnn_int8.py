"""ncnn's own int8: its calibration and its files, which its Python package has no tools for.

As ncnn's ``ncnn2table`` (by Kullback-Leibler divergence) and ``ncnn2int8`` do it: convolutions and
linear layers read eight bits without a zero point; a blob's scale cuts off what costs least
information (S. Migacz: 8-bit Inference with TensorRT, GTC 2017); weights have a scale for each
output channel, those of 3x3 convolutions of stride 1 six bits, since Winograd adds them up.
Between two quantized convolutions nothing goes back to float. Of linear layers over tokens and of
attention the weights alone are quantized here: what they multiply is scaled as it comes.

The image itself is not cut, which ncnn's tools do: its few distinct values leave gaps, for which
the divergence charges more than for bright pixels that are lost (Fashion-MNIST: cut at 40 %).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dlas.core.errors import StepError
from dlas.layers.software.shared.ncnn_files import INPUT, NcnnLayer, read_layers

if TYPE_CHECKING:
    from dlas.core.protocols import Array

QUANTIZED = ("Convolution", "ConvolutionDepthWise", "InnerProduct")
AS_IT_COMES = ("Gemm", "MultiHeadAttention")
"""Layers whose inputs ncnn scales when it runs."""
INT8_FLAG = (0x000D4B38).to_bytes(4, "little")
"""What ncnn writes before weights in int8."""
BINS, LEVELS, EPSILON = 2048, 128, 1e-4
_TERM = "8"
"""The parameter that says how a layer is quantized."""
_TOKENS_TERM = {"18": "2"}
"""The parameter that says that a layer over tokens is quantized."""
_PASSING = ("Split", "Padding", "Noop")
"""Layers that give on what they read."""
_REQUANTIZED = 100
"""Added to it where the layer writes int8, too."""


def quantized(text: str, content: bytes, net: Any, images: Array) -> tuple[str, bytes]:
    """Return a float32 network of ncnn's (its two files) quantized on images ``(n, C, H, W)``.

    ``net`` is the same network, loaded.

    Raises:
        StepError: it has layers whose weights are laid out in a way that is not known here.
    """
    layers = read_layers(text)
    parts = _weights(layers, content)
    chosen = [layer for layer in layers if layer.kind in QUANTIZED]
    scales = _scales(net, chosen, images, _of_the_image(layers))
    after = _written_as(layers, scales)
    body: list[str] = []
    files: list[bytes] = []
    for layer in layers:
        if layer.name in scales:
            made = [scales[layer.name], *after.get(layer.name, ())]
            files.append(_int8(layer, parts[layer.name], made))
            term = 1 if layer.kind == "ConvolutionDepthWise" else 2
            term += _REQUANTIZED * (layer.name in after)
            layer = replace(layer, parameters={**layer.parameters, _TERM: str(term)})
        elif _over_tokens(layer):
            files.append(_int8_over_tokens(layer, parts[layer.name]))
            layer = replace(layer, parameters={**layer.parameters, **_TOKENS_TERM})
        else:
            files += [part.whole for part in parts[layer.name]]
        body.append(layer.line())
    return "\n".join([*text.splitlines()[:2], *body]) + "\n", b"".join(files)


# ---------------------------------------------------------------- the file of weights


@dataclass(frozen=True)
class _RawTensor:
    """One tensor in the file of weights."""

    flagged: bool
    """Whether four bytes before it say its type."""
    whole: bytes

    @property
    def numbers(self) -> Any:
        """The tensor in float32."""
        import numpy as np

        return np.frombuffer(self.whole[4 * self.flagged :], np.float32)


def _weights(layers: Sequence[NcnnLayer], content: bytes) -> dict[str, list[_RawTensor]]:
    """Return the tensors of each layer, by its name; they stand in the file one after another."""
    at = 0
    found: dict[str, list[_RawTensor]] = {layer.name: [] for layer in layers}
    for layer in layers:
        for flagged, count in _tensors(layer):
            end = at + 4 * (flagged + count)
            found[layer.name].append(_RawTensor(flagged, content[at:end]))
            at = end
    flags = [p.whole[:4] for parts in found.values() for p in parts if p.flagged]
    if at != len(content) or any(flag != bytes(4) for flag in flags):
        kinds = sorted({layer.kind for layer in layers} - {*_KNOWN})
        raise StepError(
            "ncnn in int8: the weights of this network are laid out in a way that is not known "
            f"(layers: {', '.join(kinds)})"
        )
    return found


def _tensors(layer: NcnnLayer) -> Iterator[tuple[bool, int]]:
    """Yield what a layer has in the file of weights: whether flagged, and how many numbers."""
    number = layer.number
    if layer.kind in QUANTIZED:
        weights, bias = (2, 1) if layer.kind == "InnerProduct" else (6, 5)
        yield True, number(weights, 0)
        if number(bias, 0):
            yield False, number(0, 0)
    elif layer.kind == "BatchNorm":
        yield False, 4 * number(0, 0)
    elif layer.kind == "LayerNorm":
        yield False, 2 * number(0, 0) * number(2, 1)
    elif layer.kind == "GroupNorm":
        yield False, 2 * number(1, 0) * number(3, 1)
    elif layer.kind == "Scale":
        yield False, number(0, 0) * (1 + number(1, 0))
    elif layer.kind == "PReLU":
        yield False, number(0, 0)
    elif layer.kind == "MemoryData":
        sizes = [max(number(each, 0), 1) for each in (0, 1, 11, 2)]
        yield False, sizes[0] * sizes[1] * sizes[2] * sizes[3]
    elif layer.kind in _SEVERAL:
        yield from _SEVERAL[layer.kind](layer)


def _of_attention(layer: NcnnLayer) -> Iterator[tuple[bool, int]]:
    """Yield weights and biases of queries, keys, values, and of what goes out."""
    width = layer.number(0, 0)
    inside = layer.number(2, 0) // max(width, 1)
    for each in (inside, layer.number(3, width), layer.number(4, width)):
        yield True, width * each
        yield False, width
    yield True, inside * width
    yield False, inside


def _of_gemm(layer: NcnnLayer) -> Iterator[tuple[bool, int]]:
    m, n, k = (layer.number(each, 0) for each in (7, 8, 9))
    if layer.number(4, 0):
        yield True, m * k
    if layer.number(5, 0):
        yield True, n * k
    if layer.number(6, 0):
        yield True, {0: 1, 1: m, 2: m, 3: m * n, 4: n}.get(layer.number(10, 0), 0)


_SEVERAL = {"Gemm": _of_gemm, "MultiHeadAttention": _of_attention}
"""Layers with several matrices."""
_KNOWN = (*QUANTIZED, "BatchNorm", "LayerNorm", "GroupNorm", "Scale", "PReLU", "MemoryData",
          *_SEVERAL, "Input", "Split", "ReLU", "Pooling", "BinaryOp", "Flatten",
          "Reshape")  # fmt: skip


def _int8(layer: NcnnLayer, parts: Sequence[_RawTensor], scales: Sequence[float]) -> bytes:
    """Return a layer's weights in int8, its bias, and the scales: weights', input's, output's."""
    import numpy as np

    rows = layer.number(7, 1) if layer.kind == "ConvolutionDepthWise" else layer.number(0, 0)
    whole, by = _rounded(parts[0], rows, _limit(layer))
    rest = [part.whole for part in parts[1:]]
    return b"".join([whole, *rest, by, np.asarray(scales, np.float32).tobytes()])


def _rounded(part: _RawTensor, rows: int, limit: float = 127.0) -> tuple[bytes, bytes]:
    """Return weights in int8 as ncnn's files hold them, and the scale of each of their rows."""
    import numpy as np

    weights = part.numbers.reshape(rows, -1)
    largest = np.abs(weights).max(axis=1)
    by = np.divide(limit, largest, out=np.zeros_like(largest), where=largest > 0)
    scaled = weights * by[:, None]
    whole = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).clip(-127, 127)
    data = whole.astype(np.int8).tobytes()
    return INT8_FLAG + data + bytes(-len(data) % 4), by.astype(np.float32).tobytes()


def _over_tokens(layer: NcnnLayer) -> bool:
    """Whether a layer is quantized whose input is scaled as it comes: its weights are there."""
    linear = [layer.number(each, 0) for each in (3, 4, 5)] == [1, 0, 1]
    return layer.kind == "MultiHeadAttention" or (layer.kind == "Gemm" and linear)


def _int8_over_tokens(layer: NcnnLayer, parts: Sequence[_RawTensor]) -> bytes:
    """Return weights in int8 and biases in their order, then the scales of the weights.

    Queries, keys and values have one for each output, what a layer ends with one for all.
    """
    width = layer.number(0, 0)
    body, scales = [], []
    for at, part in enumerate(parts):
        if at % 2:
            body.append(part.whole)  # a bias
            continue
        last = at >= len(parts) - 2
        whole, by = _rounded(part, 1 if last else width)
        body.append(whole)
        scales.append(by)
    return b"".join([*body, *scales])


def _limit(layer: NcnnLayer) -> float:
    """Return the largest whole number that a weight becomes."""
    sizes = [layer.number(1, 1), layer.number(11, layer.number(1, 1))]
    steps = [layer.number(each, 1) for each in (2, 12, 3, 13)]
    winograd = layer.kind == "Convolution" and sizes == [3, 3] and steps == [1, 1, 1, 1]
    return 31.0 if winograd else 127.0


def _written_as(
    layers: Sequence[NcnnLayer], scales: Mapping[str, float]
) -> dict[str, tuple[float]]:
    """Return the scale in which a convolution writes int8: all that read it are convolutions."""
    kinds = ("Convolution", "ConvolutionDepthWise")
    readers: dict[str, list[NcnnLayer]] = {}
    for layer in layers:
        for blob in layer.bottoms:
            readers.setdefault(blob, []).append(layer)
    found = {}
    for layer in layers:
        if layer.kind not in kinds:
            continue
        reading = readers.get(layer.tops[0], [])
        if [each.kind for each in reading] == ["Split"]:
            reading = [r for top in reading[0].tops for r in readers.get(top, [])]
        if reading and all(each.kind in kinds for each in reading):
            found[layer.name] = (scales[reading[0].name],)
    return found


# ---------------------------------------------------------------- calibration


def _of_the_image(layers: Sequence[NcnnLayer]) -> set[str]:
    """Return the blobs that hold the image itself: read more than once it is copied, or padded."""
    found = {INPUT}
    for layer in layers:
        if layer.kind in _PASSING and layer.bottoms[0] in found:
            found.update(layer.tops)
    return found


def _scales(
    net: Any, layers: Sequence[NcnnLayer], images: Array, uncut: Collection[str]
) -> dict[str, float]:
    """Return by how much each layer's input is multiplied to become a whole number up to 127.

    Blobs of ``uncut`` keep their whole range.
    """
    import numpy as np

    largest = dict.fromkeys((layer.name for layer in layers), 0.0)
    for name, values in _seen(net, layers, images):
        largest[name] = max(largest[name], float(np.abs(values).max()))
    counts = {name: np.zeros(BINS, np.int64) for name in largest}
    for name, values in _seen(net, layers, images):
        if largest[name] > 0:
            at = np.abs(values[values != 0]) * (BINS / largest[name])
            bins = np.minimum(at.astype(np.int64), BINS - 1)
            counts[name] += np.bincount(bins, minlength=BINS)
    whole = {layer.name for layer in layers if layer.bottoms[0] in uncut}
    return {
        name: 127 / most if name in whole and most > 0 else _scale(counts[name], most)
        for name, most in largest.items()
    }


def _seen(net: Any, layers: Sequence[NcnnLayer], images: Array) -> Iterator[tuple[str, Any]]:
    """Infer each image, and yield what each layer reads."""
    import ncnn
    import numpy as np

    for image in images:
        extractor = net.create_extractor()
        extractor.set_light_mode(False)
        extractor.input(INPUT, ncnn.Mat(image).clone())
        for layer in layers:
            failed, blob = extractor.extract(layer.bottoms[0])
            if failed:
                raise StepError(f"ncnn: what {layer.kind} {layer.name!r} reads cannot be computed")
            yield layer.name, np.array(blob)


def _scale(counts: Any, largest: float) -> float:
    """Return the scale of a blob: 127 over the threshold that loses the least information."""
    import numpy as np

    if largest == 0 or not counts.any():
        return 1.0
    shares = counts / counts.sum()
    below = np.concatenate([[0.0], np.cumsum(shares)])
    places = np.arange(BINS + 1)
    losses = [_loss(shares, below, places, cut) for cut in range(LEVELS, BINS)]
    cut = LEVELS + int(np.argmin(losses))
    return 127 / ((cut + 0.5) * largest / BINS)


def _loss(shares: Any, below: Any, places: Any, cut: int) -> float:
    """Return the divergence of what is cut off at a bin from its form in 128 levels.

    ``below``: the share that lies below each bin. A level holds what lies in it evenly.
    """
    import numpy as np

    clipped = shares[:cut] + EPSILON
    clipped[-1] += 1 - below[cut]
    ends = np.linspace(0, cut, LEVELS + 1)
    even = np.interp(places[: cut + 1], ends, np.interp(ends, places, below))
    return float((clipped * np.log(clipped / (np.diff(even) + EPSILON))).sum())
