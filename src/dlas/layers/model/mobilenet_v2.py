"""MobileNetV2 at any width, with a total stride that suits the image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dlas.core.protocols import Dataset, DataSpec, Model, Network
from dlas.layers.model.shared import state

STAGES = (
    "ds_r1_k3_s{}_c16",
    "ir_r2_k3_s{}_e6_c24",
    "ir_r3_k3_s{}_e6_c32",
    "ir_r4_k3_s{}_e6_c64",
    "ir_r3_k3_s{}_e6_c96",
    "ir_r3_k3_s{}_e6_c160",
    "ir_r1_k3_s{}_e6_c320",
)
"""The network of the paper in timm's notation, without its strides."""
HALVING = (1, 2, 3, 5)  # the stages that halve the map, beside the stem
SMALLEST_MAP = 4


@dataclass(frozen=True, kw_only=True)
class MobileNetV2(Model):
    """MobileNetV2 (Sandler et al., 2018) from timm's blocks, at any ``width``.

    The paper's total stride of 32 suits 224 pixels. For smaller images strides are given up,
    the stem's first, then the last stage's and so on towards the front, until the last map has 4
    pixels a side: a total stride of 8 at 28 x 28 and at 32 x 32. Width 0.35 ships with weights for
    fashion-mnist. ``weights`` is a file (safetensors or a state dict) or ``random``; ``seed``
    decides random weights.
    """

    name: ClassVar[str] = "mobilenet-v2"
    requires: ClassVar[tuple[str, ...]] = ("torch", "timm", "safetensors")
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "timm")
    sources: ClassVar[tuple[str, ...]] = state.SOURCES
    places: ClassVar[tuple[str, ...]] = ("weights_file",)
    width: Annotated[float, Field(gt=0, le=8)] = 1.0
    weights_file: Annotated[str, Field(alias="weights")] = ""
    seed: Annotated[int, Field(ge=0)] = 0

    def build(self, dataset: Dataset) -> Network:
        """Return the network with its weights."""
        spec = dataset.spec()
        module = state.built(partial(_network, spec, self.width), self.seed, self.weights(dataset))
        return Network(spec, module)

    def weights(self, dataset: Dataset) -> Path | None:
        """Return the user's file, or the shipped one for the data set it was trained on."""
        return state.chosen(self, self.weights_file, dataset)

    def fingerprint(self) -> Any:
        """Return the hashes of the weights."""
        kind = state.RANDOM if self.weights_file == state.RANDOM else ""
        return [kind, state.weights_hash(self.weights_file), state.shipped_hash(self.name)]


def strides(side: int) -> tuple[int, tuple[int, ...]]:
    """Return the stride of the stem and of each stage for images of a side of ``side`` pixels."""
    halvings = 0
    while halvings < 1 + len(HALVING) and -(-side // 2 ** (halvings + 1)) >= SMALLEST_MAP:
        halvings += 1
    kept = HALVING[:halvings]
    stem = 2 if halvings > len(HALVING) else 1
    return stem, tuple(2 if stage in kept else 1 for stage in range(len(STAGES)))


def _network(spec: DataSpec, width: float) -> Any:
    from timm.models._efficientnet_builder import decode_arch_def, round_channels
    from timm.models.efficientnet import EfficientNet
    from torch import nn

    stem, of_stages = strides(min(spec.height, spec.width))
    blocks = [[text.format(s)] for text, s in zip(STAGES, of_stages, strict=True)]
    rounded = partial(round_channels, multiplier=width)
    module = EfficientNet(
        block_args=decode_arch_def(blocks),
        num_features=max(1280, rounded(1280)),
        stem_size=32,
        in_chans=spec.channels,
        num_classes=spec.classes,
        round_chs_fn=rounded,
        act_layer=nn.ReLU6,
    )
    module.conv_stem.stride = (stem, stem)
    return module
