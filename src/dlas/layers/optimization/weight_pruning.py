"""Pruning of weights, single or by fours: the smallest become zero, the rest is fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.core.errors import StepError
from dlas.core.protocols import Network, Optimization, Optimized, Refusal, Samples, Techniques
from dlas.layers.optimization.shared.fine_tuning import fine_tune, prunable, zeros
from dlas.layers.optimization.shared.refusals import float32_module, refuse_without_module
from dlas.networks.permanent import copied

_BLOCK = 4
"""Input channels of a block: those whose products an int8 kernel adds up in one step."""


@dataclass(frozen=True, kw_only=True)
class WeightPruning(Optimization):
    """Magnitude pruning: the smallest weights become zero, the rest is fine-tuned.

    Weights of convolutions and linear layers, single ones (unstructured), after Han et al.,
    "Learning both Weights and Connections for Efficient Neural Networks", 2015. Shapes stay.
    With ``block: 1x4`` four neighbouring input channels of an output channel become zero together,
    as kernels in int8 multiply them: of single zeros at 90 % two thirds of the fours have none.
    """

    name: ClassVar[str] = "weight-pruning"
    sparse: ClassVar[bool] = True
    data: ClassVar[Literal["none", "train"]] = "train"
    requires: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    added: ClassVar[tuple[str, ...]] = ("block",)
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.layers.optimization.shared.fine_tuning",
        "dlas.networks.fit",
        "dlas.networks.pace",
        "dlas.networks.permanent",
    )

    sparsity: Annotated[float, Field(ge=0, lt=1)]
    """Share of the weights that become zero."""
    scope: Literal["global", "layer"] = "global"
    """Where the smallest are sought: among all layers' weights, or the same share in each."""
    block: Literal["1x1", "1x4"] = "1x1"
    """What becomes zero at once: a weight, or those of one output channel and place of the filter
    for four neighbouring input channels, by the mean of their absolute values."""
    epochs: Annotated[int, Field(ge=0)] = 1
    """Passes of fine-tuning over the training images; 0: none."""
    images: Annotated[int, Field(ge=1)] | None = None
    """How many training images to fine-tune on; None: all."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """The highest learning rate of fine-tuning (AdamW, cosine)."""
    seed: Annotated[int, Field(ge=0)] = 0

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse an ONNX model, and a place after a step that gave up float32."""
        return refuse_without_module(self, stack)

    def apply(self, network: Network, data: Samples | None, folder: Path) -> Optimized:
        """Return the pruned network; the given one is not changed.

        Achieved: ``sparsity_asked``; counted after fine-tuning: ``sparsity``, ``zeros``,
        ``weights`` and ``layers`` (``{layer: sparsity}``); ``fine_tuning``.
        """
        module = copied(float32_module(self, network))
        self._zero_smallest(module)
        facts = fine_tune(
            module,
            data,
            epochs=self.epochs,
            images=self.images,
            batch_size=self.batch_size,
            lr=self.lr,
            seed=self.seed,
        )
        return Optimized(
            Network(network.spec, module, None, network.precision),
            {"sparsity_asked": self.sparsity, **_count(module), "fine_tuning": dict(facts)},
        )

    def _zero_smallest(self, module: Any) -> None:
        from torch.nn.utils import prune

        layers = list(prunable(module).values())
        if not layers:
            raise StepError(
                f"{self.name}: the network has no convolution or linear layer as a module, so no "
                "weights are known to be theirs"
            )
        groups = [layers] if self.scope == "global" else [[layer] for layer in layers]
        for group in groups:
            if self.block == "1x4":
                _mask_blocks(group, float(self.sparsity))
                continue
            prune.global_unstructured(
                group, pruning_method=prune.L1Unstructured, amount=float(self.sparsity)
            )
        for part, attribute in layers:
            prune.remove(part, attribute)


def _mask_blocks(layers: list[tuple[Any, str]], sparsity: float) -> None:
    """Mask the fours of input channels with the smallest means, a share of all of them."""
    import torch
    from torch.nn.utils import prune

    scores = [_means(getattr(part, attribute).detach()) for part, attribute in layers]
    every = torch.cat([score.flatten() for score in scores])
    kept = torch.ones_like(every, dtype=torch.bool)
    kept[torch.topk(every, round(sparsity * len(every)), largest=False).indices] = False
    masks = kept.split([score.numel() for score in scores])
    for (part, attribute), score, mask in zip(layers, scores, masks, strict=True):
        width = getattr(part, attribute).shape[1]
        wide = mask.reshape(score.shape).repeat_interleave(_BLOCK, -1)[..., :width]
        prune.custom_from_mask(part, attribute, wide.movedim(-1, 1))


def _means(weight: Any) -> Any:
    """Return the mean absolute value of each four of input channels, which stand last then."""
    import torch

    sizes = weight.abs().movedim(1, -1)
    missing = -sizes.shape[-1] % _BLOCK
    present = torch.nn.functional.pad(torch.ones_like(sizes), (0, missing))
    fours = torch.nn.functional.pad(sizes, (0, missing)).unflatten(-1, (-1, _BLOCK)).sum(-1)
    return fours / present.unflatten(-1, (-1, _BLOCK)).sum(-1)


def _count(module: Any) -> dict[str, Any]:
    counts = zeros(module)
    found, total = (sum(column) for column in zip(*counts.values(), strict=True))
    return {
        "sparsity": found / total,
        "zeros": found,
        "weights": total,
        "layers": {name: part / whole for name, (part, whole) in counts.items()},
    }
