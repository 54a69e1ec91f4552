"""Structured pruning: whole channels go, and tensors really shrink."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.core.errors import StepError
from dlas.core.protocols import (
    DataSpec,
    Network,
    Optimization,
    Optimized,
    Refusal,
    Samples,
    Techniques,
)
from dlas.layers.optimization.shared.channels import Pruned, Shrinking
from dlas.layers.optimization.shared.fine_tuning import fine_tune
from dlas.layers.optimization.shared.proposals import attention_of
from dlas.layers.optimization.shared.refusals import float32_module, refuse_without_module
from dlas.networks.counting import count_macs
from dlas.networks.permanent import copied


@dataclass(frozen=True, kw_only=True)
class ChannelPruning(Optimization):
    """Remove the channels of smallest magnitude, with all that depends on them; fine-tune.

    Torch-Pruning's dependency graph (Fang et al., "DepGraph: Towards Any Structural Pruning",
    2023) finds which channels of which layers hang together; each such group loses ``ratio`` of
    its channels by group L2 norm. Attention loses whole heads. The classifier's outputs stay. The
    result is proved to be the network without those channels; a group for which that does not hold
    (a fixed ``view`` between its layers, say) is left alone and listed with the reason.
    """

    name: ClassVar[str] = "channel-pruning"
    data: ClassVar[Literal["none", "train"]] = "train"
    requires: ClassVar[tuple[str, ...]] = ("torch", "torch_pruning")
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "torch-pruning")
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.networks.counting",
        "dlas.networks.formulas",
        "dlas.layers.optimization.shared.channels",
        "dlas.layers.optimization.shared.moving",
        "dlas.layers.optimization.shared.slices",
        "dlas.layers.optimization.shared.proof",
        "dlas.layers.optimization.shared.proposals",
        "dlas.layers.optimization.shared.operator_rules",
        "dlas.layers.optimization.shared.fine_tuning",
        "dlas.networks.fit",
        "dlas.networks.pace",
        "dlas.networks.permanent",
    )

    ratio: Annotated[float, Field(ge=0, lt=1)]
    """Share of its channels (heads, for attention) that each group of layers loses."""
    round_to: Annotated[int, Field(ge=1)] = 1
    """What remains is rounded down to a multiple of this."""
    ignore: Annotated[tuple[str, ...], Field(exclude_if=lambda value: not value)] = ()
    """Names of layers, or of blocks of them, that keep their channels: ``[stem, blocks.0]``."""
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

        It is proved to be the original without the removed channels; statistics of layer and group
        norms are over those that are left. Achieved: ``ratio_asked``; ``ratio`` (share of all
        layers' output channels that went), ``channels``, ``params`` and ``macs`` as ``[before,
        after]``, ``params_ratio`` and ``macs_ratio`` (after by before), ``layers`` (``{layer:
        [before, after]}``), ``heads`` (the same, of attention), ``left_alone`` (``{layer:
        reason}``), ``far`` (``{layer: share lost}`` of those far from the ratio), ``norms`` (over
        fewer channels now), ``said`` (the same in sentences); ``fine_tuning``.

        Raises:
            StepError: nothing of this architecture can be pruned, with the reason by layer.
        """
        before = copied(float32_module(self, network))
        done = self._shrunk(before, network.spec)
        module, left_alone = done.module, dict(done.left_alone)
        compared = _compare(before, module, network.spec)
        far = _far(compared["layers"], left_alone, self.ratio, self.round_to)
        achieved = {
            "ratio_asked": self.ratio,
            **compared,
            "left_alone": left_alone,
            "far": far,
            "norms": list(done.norms),
            "said": list(_sentences(compared, left_alone, far, self.ratio)),
        }
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
            {**achieved, "fine_tuning": dict(facts)},
        )

    def _shrunk(self, module: Any, spec: DataSpec) -> Pruned:
        if self.ratio == 0:
            return Pruned(copied(module), {}, ())
        try:
            return Shrinking(module, spec, self.ratio, self.round_to, self.ignore).run()
        except StepError as error:
            raise StepError(f"{self.name}: {error}") from error


def _far(
    layers: Mapping[str, Sequence[int]], left: Collection[str], ratio: float, round_to: int
) -> dict[str, float]:
    """Return the share that layers lost which lost something, but not about ``ratio``."""
    far = {}
    for name, (old, new) in layers.items():
        lost = 1 - new / old
        step = max(0.1, round_to / old, 1 / old)
        if old != new and name not in left and abs(lost - ratio) > step:
            far[name] = round(lost, 4)
    return far


def _sentences(
    compared: Mapping[str, Any], left: Mapping[str, str], far: Mapping[str, float], ratio: float
) -> Iterator[str]:
    if left:
        some = "; ".join(f"{name}: {reason}" for name, reason in list(left.items())[:3])
        more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
        total = len(compared["layers"])
        yield f"left alone {len(left)} of {total} layers ({some}{more})"
    if far:
        some = ", ".join(f"{name} {lost:.0%}" for name, lost in list(far.items())[:5])
        more = f" and {len(far) - 5} more" if len(far) > 5 else ""
        yield f"asked for {ratio:.0%} of the channels, far from that: {some}{more}"


def _compare(before: Any, after: Any, spec: DataSpec) -> dict[str, Any]:
    layers = {
        name: [old, new]
        for (name, old), new in zip(
            _channels(before).items(), _channels(after).values(), strict=True
        )
    }
    channels = [sum(pair[at] for pair in layers.values()) for at in (0, 1)]
    params = [sum(p.numel() for p in module.parameters()) for module in (before, after)]
    macs = [count_macs(module, spec) for module in (before, after)]
    first, last = macs
    heads = [
        [old.num_heads, new.num_heads]
        for old, new in zip(attention_of(before), attention_of(after), strict=True)
    ]
    return {
        "ratio": 1 - channels[1] / channels[0] if channels[0] else 0.0,
        "channels": channels,
        "params": params,
        "params_ratio": params[1] / params[0],
        "macs": macs,
        "macs_ratio": last / first if first and last is not None else None,
        "layers": layers,
        "heads": heads,
    }


def _channels(module: Any) -> dict[str, int]:
    """Return the number of output channels of every convolution and linear layer."""
    import torch

    kinds = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)
    return {
        name: part.out_channels if hasattr(part, "out_channels") else part.out_features
        for name, part in module.named_modules()
        if isinstance(part, kinds)
    }
