"""Four known networks as they are built for images of 32 x 32."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.core.errors import UserError
from dlas.core.protocols import Dataset, DataSpec, Model, Network
from dlas.layers.model.shared import state

VGG_16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Filters of each convolution; 0: a pool that halves the map."""
MOBILENET_V1 = (
    "dsa_r1_k3_s1_c64", "dsa_r2_k3_s2_c128", "dsa_r2_k3_s2_c256", "dsa_r6_k3_s2_c512",
    "dsa_r2_k3_s2_c1024",
)  # fmt: skip
MOBILENET_V2 = (
    "ds_r1_k3_s1_c16", "ir_r2_k3_s1_e6_c24", "ir_r3_k3_s2_e6_c32", "ir_r4_k3_s2_e6_c64",
    "ir_r3_k3_s1_e6_c96", "ir_r3_k3_s2_e6_c160", "ir_r1_k3_s1_e6_c320",
)  # fmt: skip
"""Stages in timm's notation; the second keeps its map, so that 4 x 4 pixels are left of 32."""


@dataclass(frozen=True, kw_only=True)
class CifarForm(Model):
    """VGG-16, ResNet-18, MobileNetV1 or MobileNetV2 in the forms that CIFAR-10 made common.

    Those of pytorch-cifar (Liu, 2017), of timm's blocks: the stem keeps the map of a small image
    (a 3x3 convolution with ``stem_stride`` 1, no pool), VGG-16 has batch norm and one linear layer
    in place of three, MobileNetV2 strides of 8 over all. At 32 x 32: 14.7 M weights and 313 M
    multiply-accumulates (vgg-16), 11.2 M and 555 M (resnet-18), 3.2 M and 46 M (mobilenet-v1),
    2.2 M and 88 M (mobilenet-v2). For larger images ``stem_stride: 2`` halves the map at once, and
    ``stem_pool`` puts the pool of ResNet-18 back. As they are for 224 pixels: ``timm``.
    ``weights`` is a file (safetensors or a state dict); without one they are random by ``seed``.
    """

    name: ClassVar[str] = "cifar-form"
    requires: ClassVar[tuple[str, ...]] = ("torch", "timm", "safetensors")
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "timm")
    sources: ClassVar[tuple[str, ...]] = state.SOURCES
    places: ClassVar[tuple[str, ...]] = ("weights_file",)
    # "name" is taken: it is what the technique itself is called.
    architecture: Annotated[
        Literal["vgg-16", "resnet-18", "mobilenet-v1", "mobilenet-v2"], Field(alias="name")
    ]
    stem_stride: Literal[1, 2] = 1
    """Stride of the first convolution."""
    stem_pool: bool = False
    """Whether a 3x3 pool with stride 2 follows the first convolution: of resnet-18 alone."""
    weights_file: Annotated[str, Field(alias="weights")] = ""
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.stem_pool and self.architecture != "resnet-18":
            raise UserError(
                f"cifar-form.stem_pool: {self.architecture} has no pool behind its stem in any "
                "form, only resnet-18 has. Leave it out, or false."
            )

    def build(self, dataset: Dataset) -> Network:
        """Return the network with its weights."""
        spec = dataset.spec()
        module = state.built(lambda: self._network(spec), self.seed, self.weights(dataset))
        return Network(spec, module)

    def weights(self, dataset: Dataset) -> Path | None:
        """Return the user's file."""
        return state.chosen(self, self.weights_file, dataset)

    def untrained(self, dataset: Dataset) -> bool:
        """Say that the weights are random where no file of them is given."""
        return self.weights(dataset) is None

    def fingerprint(self) -> Any:
        """Return the hash of the weights."""
        return state.weights_hash(self.weights_file)

    def _network(self, spec: DataSpec) -> Any:
        if self.architecture == "vgg-16":
            return _vgg(spec, self.stem_stride)
        if self.architecture == "resnet-18":
            return _resnet(spec, self.stem_stride, self.stem_pool)
        if self.architecture == "mobilenet-v1":
            return _mobilenet(spec, self.stem_stride, MOBILENET_V1, last=0)
        return _mobilenet(spec, self.stem_stride, MOBILENET_V2, last=1280)


def _vgg(spec: DataSpec, stride: int) -> Any:
    """Return VGG-16 with batch norm; a pool that would leave nothing of the map is left out."""
    from torch import nn

    layers: list[Any] = []
    channels, side = spec.channels, -(-min(spec.height, spec.width) // stride)
    for filters in VGG_16:
        if filters:
            of_stem = stride if not layers else 1
            layers += [
                nn.Conv2d(channels, filters, 3, of_stem, 1), nn.BatchNorm2d(filters), nn.ReLU()
            ]  # fmt: skip
            channels = filters
        elif side > 1:
            layers.append(nn.MaxPool2d(2))
            side //= 2
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*layers),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(channels, spec.classes),
        )
    )


def _resnet(spec: DataSpec, stride: int, pool: bool) -> Any:
    from timm.models.resnet import BasicBlock, ResNet
    from torch import nn

    # Random branches that end in zeros are dead, and converters leave them out.
    module = ResNet(BasicBlock, (2, 2, 2, 2), spec.classes, spec.channels, zero_init_last=False)
    module.conv1 = nn.Conv2d(spec.channels, 64, 3, stride, 1, bias=False)
    if not pool:
        module.maxpool = nn.Identity()
    module.init_weights(zero_init_last=False)
    return module


def _mobilenet(spec: DataSpec, stride: int, stages: tuple[str, ...], last: int) -> Any:
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNet
    from torch import nn

    module = EfficientNet(
        block_args=decode_arch_def([[stage] for stage in stages]),
        num_features=last,
        stem_size=32,
        in_chans=spec.channels,
        num_classes=spec.classes,
        act_layer=nn.ReLU6,
    )
    module.conv_stem.stride = (stride, stride)
    return module
