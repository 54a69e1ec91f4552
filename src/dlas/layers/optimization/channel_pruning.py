"""Structured pruning: whole channels go, and tensors really shrink."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
from dlas.layers.optimization.shared.fine_tuning import fine_tune
from dlas.layers.optimization.shared.refusals import float32_module, refuse_without_module
from dlas.networks.counting import count_macs


@dataclass(frozen=True, kw_only=True)
class ChannelPruning(Optimization):
    """Remove the channels of smallest magnitude, with all that depends on them; fine-tune.

    Torch-Pruning's dependency graph (Fang et al., "DepGraph: Towards Any Structural Pruning",
    2023) finds which channels of which layers hang together; each such group loses ``ratio`` of
    its channels by group L2 norm. Attention loses whole heads. The classifier's outputs stay.
    """

    name: ClassVar[str] = "channel-pruning"
    data: ClassVar[Literal["none", "train"]] = "train"
    requires: ClassVar[tuple[str, ...]] = ("torch", "torch_pruning")
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "torch-pruning")
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.networks.counting",
        "dlas.layers.optimization.shared.fine_tuning",
        "dlas.networks.fit",
    )

    ratio: Annotated[float, Field(ge=0, lt=1)]
    """Share of its channels (heads, for attention) that each group of layers loses."""
    round_to: Annotated[int, Field(ge=1)] = 1
    """What remains is rounded down to a multiple of this."""
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

        Achieved: ``ratio_asked``; ``ratio`` (share of all layers' output channels that went),
        ``channels``, ``params`` and ``macs`` as ``[before, after]``, ``params_ratio`` and
        ``macs_ratio`` (after by before), ``layers`` (``{layer: [before, after]}``), ``heads`` (the
        same, of attention); ``fine_tuning``.

        Raises:
            StepError: the dependency graph cannot prune this architecture.
        """
        before = float32_module(self, network)
        module = copy.deepcopy(before).eval()
        if self.ratio > 0:
            self._shrink(module, network.spec)
        self._check(module, network.spec)
        achieved = {"ratio_asked": self.ratio, **_compare(before, module, network.spec)}
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

    def _shrink(self, module: Any, spec: DataSpec) -> None:
        """Remove channels, in place."""
        import torch
        import torch_pruning

        example = torch.zeros(spec.shape)
        attention = _attention(module)
        heads = {part.qkv: part.num_heads for part in attention}
        gone = {qkv: round(count * self.ratio) for qkv, count in heads.items()}
        with _deterministic_trace():
            pruner = torch_pruning.pruner.BasePruner(
                module,
                example,
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=self.ratio,
                ignored_layers=_output_layers(module, example),
                round_to=self.round_to if self.round_to > 1 else None,
                num_heads=dict(heads),
                prune_num_heads=True,
                prune_head_dims=False,
                # It takes the ceiling of ratio x heads: half a head less makes that exact.
                head_pruning_ratio_dict={
                    qkv: (count - 0.5) / heads[qkv] for qkv, count in gone.items() if count
                },
                in_channel_groups={},
                out_channel_groups={},
            )
            pruner.step()
        for part in attention:
            part.num_heads = pruner.num_heads[part.qkv]
            part.attn_dim = part.num_heads * part.head_dim

    def _check(self, module: Any, spec: DataSpec) -> None:
        """Raise unless a pruned module still computes what it is asked for."""
        import torch

        with torch.no_grad():
            try:
                shape = tuple(module(torch.zeros(spec.shape)).shape)
            except (RuntimeError, AssertionError, ValueError) as error:
                raise StepError(
                    f"{self.name} broke this architecture, which Torch-Pruning does not "
                    f"understand: {error}"
                ) from error
        if shape != (spec.batch, spec.classes):
            raise StepError(f"{self.name} changed the output to {shape}")


def _attention(module: Any) -> list[Any]:
    """Return timm's attention blocks: one projection for query, key and value, then heads."""
    from timm.layers import Attention

    return [part for part in module.modules() if isinstance(part, Attention)]


def _output_layers(module: Any, example: Any) -> list[Any]:
    """Return the layers whose output channels are the network's outputs.

    Found by walking back from the end of the graph to the first layer on every path.
    """
    import torch
    import torch_pruning

    graph = torch_pruning.DependencyGraph().build_dependency(module, example)
    layers = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)
    at = [node for node in graph.module2node.values() if not node.outputs]
    found, seen = [], set(at)
    while at:
        node = at.pop()
        if isinstance(node.module, layers):
            found.append(node.module)
            continue
        at += [before for before in node.inputs if before not in seen]
        seen.update(node.inputs)
    return found


@contextmanager
def _deterministic_trace() -> Iterator[None]:
    """Silence the tracer's remark on parameters that belong to no layer (it prunes them too)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unwrapped parameters", category=UserWarning)
        yield


def _compare(before: Any, after: Any, spec: DataSpec) -> dict[str, Any]:
    layers = {
        name: [old, new]
        for (name, old), new in zip(
            _channels(before).items(), _channels(after).values(), strict=True
        )
    }
    channels = [sum(column) for column in zip(*layers.values(), strict=True)]
    params = [sum(p.numel() for p in module.parameters()) for module in (before, after)]
    macs = [count_macs(module, spec) for module in (before, after)]
    heads = [
        [old.num_heads, new.num_heads]
        for old, new in zip(_attention(before), _attention(after), strict=True)
    ]
    return {
        "ratio": 1 - channels[1] / channels[0],
        "channels": channels,
        "params": params,
        "params_ratio": params[1] / params[0],
        "macs": macs,
        "macs_ratio": macs[1] / macs[0],
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
