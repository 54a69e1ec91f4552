"""A vision transformer small enough for small images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dlas.core.errors import StepError, UserError
from dlas.core.protocols import Dataset, DataSpec, Model, Network, Refusal, Techniques, impossible
from dlas.layers.model.shared import state


@dataclass(frozen=True, kw_only=True)
class VitTiny(Model):
    """timm's VisionTransformer (Dosovitskiy et al., 2021) of width 128, depth 6, 4 heads, patch 4.

    Pixels at the border that fill no whole patch are not seen. As it is it ships with weights for
    fashion-mnist.
    ``weights`` is a file (safetensors or a state dict) or ``random``; ``seed`` decides random
    weights.
    """

    name: ClassVar[str] = "vit-tiny"
    requires: ClassVar[tuple[str, ...]] = ("torch", "timm", "safetensors")
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "timm")
    sources: ClassVar[tuple[str, ...]] = state.SOURCES
    places: ClassVar[tuple[str, ...]] = ("weights_file",)
    patch: Annotated[int, Field(ge=1)] = 4
    width: Annotated[int, Field(ge=1)] = 128
    depth: Annotated[int, Field(ge=1)] = 6
    heads: Annotated[int, Field(ge=1)] = 4
    weights_file: Annotated[str, Field(alias="weights")] = ""
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UserError(
                f"vit-tiny.heads: must divide the width ({self.width}), got {self.heads}."
            )

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse images without a patch."""
        reason = self._too_small(stack.dataset.spec())
        return impossible(reason) if reason else None

    def build(self, dataset: Dataset) -> Network:
        """Return the network with its weights."""
        spec = dataset.spec()
        if reason := self._too_small(spec):
            raise StepError(reason)
        module = state.built(lambda: self._network(spec), self.seed, self.weights(dataset))
        return Network(spec, module)

    def weights(self, dataset: Dataset) -> Path | None:
        """Return the user's file, or the shipped one for the data set it was trained on."""
        return state.chosen(self, self.weights_file, dataset)

    def fingerprint(self) -> Any:
        """Return the hashes of the weights."""
        kind = state.RANDOM if self.weights_file == state.RANDOM else ""
        return [kind, state.weights_hash(self.weights_file), state.shipped_hash(self.name)]

    def _too_small(self, spec: DataSpec) -> str:
        if min(spec.height, spec.width) >= self.patch:
            return ""
        size = f"{spec.height} x {spec.width}"
        return f"an image of {size} holds no patch of {self.patch} x {self.patch}"

    def _network(self, spec: DataSpec) -> Any:
        from timm.models.vision_transformer import VisionTransformer

        return VisionTransformer(
            img_size=(spec.height, spec.width),
            patch_size=self.patch,
            in_chans=spec.channels,
            num_classes=spec.classes,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.heads,
        )
