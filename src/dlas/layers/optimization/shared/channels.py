"""Channels out of a network, with what hangs together: Torch-Pruning proposes, a proof decides.

Torch-Pruning's dependency graph says which channels of which layers form a group. What it proposes
is carried out on the numbers of the weights' elements instead of on their values, so that of every
tensor it is known what is left; then :mod:`proof` follows both networks. A group that cannot be
followed is left alone, with the reason, and the rest is tried again.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlas.core.errors import StepError, near
from dlas.core.protocols import DataSpec
from dlas.layers.optimization.shared.grouping import indexed_groups
from dlas.layers.optimization.shared.proof import Proved, Trace, prove, tensors_of, trace
from dlas.layers.optimization.shared.proposals import (
    Blamed,
    Guarded,
    attention_of,
    is_layer,
    is_transposed,
    number,
    quiet,
    read,
    tie_again,
    told,
    values_back,
)
from dlas.layers.optimization.shared.slices import Slice, Unfollowed

EVENING = 6
"""How often the ratio of a group is lowered that loses more than was asked."""


@dataclass(frozen=True)
class Pruned:
    """A network without channels, and what was left alone: ``{layer: reason}``."""

    module: Any
    left_alone: Mapping[str, str]
    norms: tuple[str, ...]
    """Modules whose statistics are over fewer channels."""


@dataclass
class _Proposal:
    module: Any
    parts: Mapping[str, Slice]
    groups: Mapping[str, Sequence[str]]
    """Of each group, by its first layer, the layers that lose outputs."""


@dataclass
class Shrinking:
    """One network that is to lose ``ratio`` of the channels of each group."""

    original: Any
    spec: DataSpec
    ratio: float
    round_to: int = 1
    ignore: tuple[str, ...] = ()
    left: dict[str, str] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)

    def run(self) -> Pruned:
        """Return the pruned network.

        Raises:
            StepError: it has no such layers, or nothing of it can be pruned.
        """
        with indexed_groups(self.original):
            return self._run()

    def _run(self) -> Pruned:
        self._leave_ignored()
        traced = trace(copy.deepcopy(self.original), self.spec.shape)
        outputs, unread = read(copy.deepcopy(self.original), self.spec)
        self.left.update({n: why for n, why in unread.items() if n not in (*self.left, *outputs)})
        proposal, proved = self._proved(traced, outputs)
        for _ in range(EVENING):
            if not self._even(proposal):
                break
            proposal, proved = self._proved(traced, outputs)
        self._note_untouched(proposal, outputs)
        if not proposal.groups:
            raise StepError(self._nothing())
        return Pruned(proposal.module, self.left, proved.norms)

    def _leave_ignored(self) -> None:
        known = dict(self.original.named_modules())
        for name in self.ignore:
            inside = (
                [each for each in known if each == name or each.startswith(f"{name}.")]
                if name
                else []
            )
            if not inside:
                raise StepError(f"ignore: there is no layer {name!r}.{near(name, known)}")
            self.left.update(
                {each: "ignored, as asked" for each in inside if is_layer(known[each])}
            )

    def _proved(self, traced: Trace, outputs: Collection[str]) -> tuple[_Proposal, Proved]:
        """Propose and prove, leaving alone what fails, until what is left is proved."""
        while True:
            try:
                proposal = self._propose(outputs)
                return proposal, self._prove(traced, proposal, outputs)
            except Blamed as blamed:
                new = {name: blamed.reason for name in blamed.layers if name not in self.left}
                if not new:
                    raise StepError(f"channels cannot be removed: {blamed.reason}") from blamed
                self.left.update(new)

    def _prove(self, traced: Trace, proposal: _Proposal, outputs: Collection[str]) -> Proved:
        try:
            return prove(traced, proposal.module, proposal.parts)
        except Unfollowed as stop:
            blamed = [layer for group in stop.groups for layer in proposal.groups.get(group, ())]
            if not set(blamed) - set(self.left):
                blamed = self._one_by_one(traced, proposal, outputs)
            raise Blamed(blamed, stop.reason) from stop

    def _one_by_one(
        self, traced: Trace, proposal: _Proposal, outputs: Collection[str]
    ) -> list[str]:
        """Return the layers of the groups that fail even alone; all, if each by itself is fine."""
        bad: list[str] = []
        for group, layers in proposal.groups.items():
            others = {n for g, names in proposal.groups.items() if g != group for n in names}
            others -= set(layers)
            alone = Shrinking(
                self.original, self.spec, self.ratio, self.round_to,
                left={**self.left, **dict.fromkeys(others, "")},
            )  # fmt: skip
            try:
                tried = alone._propose(outputs)
                prove(traced, tried.module, tried.parts)
            except (Blamed, Unfollowed):
                bad += layers
        return bad or [name for names in proposal.groups.values() for name in names]

    def _even(self, proposal: _Proposal) -> bool:
        """Lower the ratio of groups that lost too much; tell whether any was."""
        tensors = tensors_of(self.original)
        lowered = False
        for group, layers in proposal.groups.items():
            lost = [
                1 - len(part.indices(0)) / part.shape[0]
                for name in layers
                if (part := proposal.parts.get(f"{name}.weight")) is not None
                and not is_transposed(self.original.get_submodule(name))
            ]
            channels = min((tensors[f"{n}.weight"].shape[0] for n in layers
                            if f"{n}.weight" in tensors), default=1)  # fmt: skip
            now = self.ratios.get(group, self.ratio)
            if lost and max(lost) > self.ratio + max(0.1, self.round_to / channels) and now > 0.02:
                self.ratios[group] = now * self.ratio / max(lost) * 0.9
                lowered = True
        return lowered

    def _note_untouched(self, proposal: _Proposal, outputs: Collection[str]) -> None:
        """List the layers that lost nothing and of which nothing has been said."""
        for name, part in self.original.named_modules():
            if is_layer(part) and name not in (*outputs, *self.left):
                dim = 1 if is_transposed(part) else 0
                weight = proposal.parts.get(f"{name}.weight")
                if weight is not None and dim not in weight.kept:
                    self.left[name] = (
                        "Torch-Pruning proposes nothing (too few channels, or all hang together)"
                    )

    def _nothing(self) -> str:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(self.left.items())[:8])
        more = f"; and {len(self.left) - 8} more" if len(self.left) > 8 else ""
        if not self.left:
            return (
                "there is nothing to remove channels of: beside its outputs the network has no "
                "convolution or linear layer as a module"
            )
        return f"no layer could lose channels. {reasons}{more}"

    # ------------------------------------------------------------ Torch-Pruning

    def _propose(self, outputs: Collection[str]) -> _Proposal:
        """Carry out what Torch-Pruning proposes on the numbers of the weights' elements."""
        import torch_pruning

        module = copy.deepcopy(self.original).eval()
        names = {id(part): name for name, part in module.named_modules()}
        attention = attention_of(module)
        pruner = self._pruner(torch_pruning, module, attention, outputs)
        watch = Guarded(pruner, names)
        groups: dict[str, Sequence[str]] = {}
        why: dict[str, dict[int, frozenset[str]]] = {}
        numbered = False
        for group, root, layers in watch.groups():
            if not numbered:
                # Their importance has been weighed by now: values are not needed any more.
                number(module)
                numbered = True
            sizes = {name: t.shape for name, t in tensors_of(module).items()}
            watch.guard(group.prune, root, layers)
            groups[root] = layers
            for name, tensor in tensors_of(module).items():
                for dim, (was, now) in enumerate(zip(sizes[name], tensor.shape, strict=True)):
                    if was != now:
                        of = why.setdefault(name, {})
                        of[dim] = of.get(dim, frozenset()) | {root}
        for part in attention:
            part.num_heads = pruner.num_heads[part.qkv]
            part.attn_dim = part.num_heads * part.head_dim
        # What modules remembered of the trace (attention biases in levit) is forgotten.
        module.train()
        module.eval()
        parts = values_back(module, self.original, why, numbered=numbered)
        tie_again(module, self.original, why, groups)
        return _Proposal(module, parts, groups)

    def _pruner(
        self, torch_pruning: Any, module: Any, attention: Sequence[Any], outputs: Collection[str]
    ) -> Any:
        import torch

        heads = {part.qkv: part.num_heads for part in attention}
        gone = {qkv: round(count * self.ratio) for qkv, count in heads.items()}
        ignored = {*outputs, *self.left}
        with quiet(), told("Torch-Pruning cannot read this network"):
            return torch_pruning.pruner.BasePruner(
                module,
                torch.zeros(self.spec.shape),
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=self.ratio,
                pruning_ratio_dict={
                    module.get_submodule(name): ratio for name, ratio in self.ratios.items()
                },
                ignored_layers=[module.get_submodule(name) for name in sorted(ignored)],
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
