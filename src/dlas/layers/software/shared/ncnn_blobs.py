"""A network as ncnn holds it while it runs: every blob, its layout, the width of its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dlas.core.errors import StepError
from dlas.layers.software.shared.ncnn_files import INPUT, NcnnLayer, operator

if TYPE_CHECKING:
    from dlas.kernels import Conv2d

PARAM, WEIGHTS = "model.ncnn.param", "model.ncnn.bin"
"""A network's files in its folder."""
_PRODUCTS = ("InnerProduct", "Gemm", "MatMul", "MultiHeadAttention", "SDPA")


def write_net(folder: Path, text: str, weights: bytes) -> None:
    """Write a network's description and its weights into a folder."""
    (folder / PARAM).write_text(text, encoding="utf-8")
    (folder / WEIGHTS).write_bytes(weights)


def open_net(folder: Path, options: Mapping[str, bool | int]) -> Any:
    """Return ncnn's network of a folder, with options by the names of ``Option``'s fields.

    Raises:
        StepError: ncnn does not take it.
    """
    import ncnn

    net = ncnn.Net()
    for name, value in options.items():
        setattr(net.opt, name, value)
    if net.load_param(str(folder / PARAM)) or net.load_model(str(folder / WEIGHTS)):
        raise StepError("ncnn does not load the network that pnnx made")
    return net


class _Laid(NamedTuple):
    """How ncnn laid out what a layer wrote."""

    bits: int
    """Of one value."""
    side_by_side: int
    """Channels whose values stand side by side, for one vector instruction."""
    shape: tuple[int, int, int]
    """Channels, height, width; zeros for what is no image."""


class SeenBlobs:
    """What flows through a network in one inference, each blob as ncnn holds it."""

    def __init__(self, net: Any, layers: Sequence[NcnnLayer]) -> None:
        self._net, self._layers = net, layers
        self._found: dict[str, _Laid] = {}
        self.inputs: dict[str, Any] = {}
        """The blobs themselves that convolutions and matrix products read."""

    def convolutions(self) -> list[NcnnLayer]:
        """Return the layers that are convolutions of images."""
        kinds = ("Convolution", "ConvolutionDepthWise")
        return [layer for layer in self._layers if layer.kind in kinds]

    def products(self) -> list[NcnnLayer]:
        """Return the layers that are convolutions or matrix products."""
        return [o for o in self._layers if o.kind in _PRODUCTS or "onvolution" in o.kind]

    def run(self, image: Any) -> None:
        """Infer with one image ``(C, H, W)``, and look at every blob.

        Raises:
            StepError: a layer fails.
        """
        import ncnn

        wanted = {layer.bottoms[0] for layer in self.products()}
        extractor = self._net.create_extractor()
        extractor.set_light_mode(False)  # which would take blobs away that were read
        extractor.input(INPUT, ncnn.Mat(image).clone())
        for layer in self._layers:
            for top in layer.tops:
                failed, blob = extractor.extract(top, type=1)  # 1: as it lies there
                if failed:
                    raise StepError(f"ncnn: the layer {layer.kind} {layer.name!r} fails")
                lanes = blob.elempack
                shape = (blob.c * lanes, blob.h, blob.w) if blob.dims == 3 else (0, 0, 0)
                self._found[top] = _Laid(blob.elembits(), lanes, shape)
                if top in wanted:
                    self.inputs[top] = blob

    def operator(self, layer: NcnnLayer) -> Conv2d:
        """Return the convolution that a layer is."""
        return operator(layer, *self._found[layer.bottoms[0]].shape)

    def bits(self, layer: NcnnLayer) -> int:
        """Return how many bits a value has that a layer wrote."""
        return self._found[layer.tops[0]].bits

    def lanes(self) -> int:
        """Return how many channels stand side by side where there are 16 or more to choose."""
        free = (b for b in self._found.values() if b.shape[0] and b.shape[0] % 16 == 0)
        return max((b.side_by_side for b in free if b.bits != 8), default=0)
