"""ResNet-8, the image classification network of MLPerf Tiny."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dlas.core.protocols import Dataset, DataSpec, Model, Network
from dlas.layers.model.shared import state


@dataclass(frozen=True, kw_only=True)
class ResNet8(Model):
    """MLPerf Tiny's ResNet-8: 16 filters, then residual blocks of 16, 32 and 64 (78k weights).

    After Banbury et al., MLPerf Tiny Benchmark, 2021, with timm's residual block; it takes images
    of any size. Ships with weights for fashion-mnist. ``weights`` is a file (safetensors or a
    state dict) or ``random``; ``seed`` decides random weights.
    """

    name: ClassVar[str] = "resnet-8"
    requires: ClassVar[tuple[str, ...]] = ("torch", "timm", "safetensors")
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "timm")
    sources: ClassVar[tuple[str, ...]] = state.SOURCES
    places: ClassVar[tuple[str, ...]] = ("weights_file",)
    weights_file: Annotated[str, Field(alias="weights")] = ""
    seed: Annotated[int, Field(ge=0)] = 0

    def build(self, dataset: Dataset) -> Network:
        """Return the network with its weights."""
        spec = dataset.spec()
        module = state.built(lambda: _network(spec), self.seed, self.weights(dataset))
        return Network(spec, module)

    def weights(self, dataset: Dataset) -> Path | None:
        """Return the user's file, or the shipped one for the data set it was trained on."""
        return state.chosen(self, self.weights_file, dataset)

    def fingerprint(self) -> Any:
        """Return the hashes of the weights."""
        kind = state.RANDOM if self.weights_file == state.RANDOM else ""
        return [kind, state.weights_hash(self.weights_file), state.shipped_hash(self.name)]


def _network(spec: DataSpec) -> Any:
    from timm.models.resnet import BasicBlock
    from torch import nn

    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(spec.channels, 16, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            act1=nn.ReLU(),
            block1=BasicBlock(16, 16),
            block2=BasicBlock(16, 32, 2, nn.Conv2d(16, 32, 1, 2)),
            block3=BasicBlock(32, 64, 2, nn.Conv2d(32, 64, 1, 2)),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, spec.classes),
        )
    )
