"""Channels out of a network, with what hangs together: Torch-Pruning proposes, a proof decides.

Torch-Pruning's dependency graph says which channels of which layers form a group. What it proposes
is carried out on the numbers of the weights' elements instead of on their values, so that of every
tensor it is known what is left; then :mod:`proof` follows both networks. A group that cannot be
followed is left alone, with the reason, and the rest is tried again.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dlas.core.errors import StepError, near
from dlas.core.protocols import DataSpec
from dlas.layers.optimization.shared.parts import Part, Unfollowed, kept_of
from dlas.layers.optimization.shared.proof import Proved, Trace, prove, tensors_of, trace

if TYPE_CHECKING:
    from torch import nn

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
class _Blamed(Exception):
    layers: Collection[str]
    reason: str


@dataclass
class _Proposal:
    module: Any
    parts: Mapping[str, Part]
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
        self._leave_ignored()
        traced = trace(copy.deepcopy(self.original), self.spec.shape)
        outputs, unread = _read(copy.deepcopy(self.original), self.spec)
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
                {each: "ignored, as asked" for each in inside if _is_layer(known[each])}
            )

    def _proved(self, traced: Trace, outputs: Collection[str]) -> tuple[_Proposal, Proved]:
        """Propose and prove, leaving alone what fails, until what is left is proved."""
        while True:
            try:
                proposal = self._propose(outputs)
                return proposal, self._prove(traced, proposal, outputs)
            except _Blamed as blamed:
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
            raise _Blamed(blamed, stop.reason) from stop

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
            except (_Blamed, Unfollowed):
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
                and not _is_transposed(self.original.get_submodule(name))
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
            if _is_layer(part) and name not in (*outputs, *self.left):
                dim = 1 if _is_transposed(part) else 0
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
        watch = _Watch(pruner, names)
        groups: dict[str, Sequence[str]] = {}
        why: dict[str, dict[int, frozenset[str]]] = {}
        numbered = False
        for group, root, layers in watch.groups():
            if not numbered:
                # Their importance has been weighed by now: values are not needed any more.
                _number(module)
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
        parts = _values_back(module, self.original, why, numbered=numbered)
        _tie_again(module, self.original, why, groups)
        return _Proposal(module, parts, groups)

    def _pruner(
        self, torch_pruning: Any, module: Any, attention: Sequence[Any], outputs: Collection[str]
    ) -> Any:
        import torch

        heads = {part.qkv: part.num_heads for part in attention}
        gone = {qkv: round(count * self.ratio) for qkv, count in heads.items()}
        ignored = {*outputs, *self.left}
        with _quiet(), _told("Torch-Pruning cannot read this network"):
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


class _Watch:
    """Runs a pruner and knows at every moment which layer it is at: that one is blamed."""

    def __init__(self, pruner: Any, names: Mapping[int, str]) -> None:
        self._pruner, self._names = pruner, names
        self._at: list[str] = []
        graph = pruner.DG
        every, of = graph.get_all_groups, graph.get_pruning_group

        def all_groups(*args: Any, **kwargs: Any) -> Iterator[Any]:
            for group in every(*args, **kwargs):
                self._at = [self._name(group[0].dep.target.module)]
                yield group

        def pruning_group(module: Any, *args: Any, **kwargs: Any) -> Any:
            self._at = [self._name(module), *self._at[-1:]]
            return of(module, *args, **kwargs)

        graph.get_all_groups, graph.get_pruning_group = all_groups, pruning_group

    def groups(self) -> Iterator[tuple[Any, str, Sequence[str]]]:
        """Give each group with its first layer's name and those of all that lose outputs."""
        graph = self._pruner.DG
        found = self._pruner.step(interactive=True)
        while True:
            group = self.guard(lambda: next(found, None))
            if group is None:
                return
            layers = [
                self._name(dep.target.module)
                for dep, _ in group
                if graph.is_out_channel_pruning_fn(dep.handler) and _is_layer(dep.target.module)
            ]
            # Of attention, it gives the layer after it as the first.
            root = self._name(group[0].dep.target.module)
            root = root if root in layers or not layers else layers[0]
            yield group, root, [name for name in dict.fromkeys([*layers]) if name] or [root]

    def guard(self, do: Callable[[], Any], root: str = "", layers: Sequence[str] = ()) -> Any:
        """Do something of Torch-Pruning's; what it raises is its layer's fault."""
        try:
            with _quiet():
                return do()
        except Exception as error:  # IndexError, KeyError, AssertionError, ...
            blamed = [*layers] or [name for name in (root, *self._at) if name]
            raise _Blamed(blamed, _unread(error)) from error

    def _name(self, module: Any) -> str:
        return self._names.get(id(module), "")


def _number(module: nn.Module) -> None:
    """Put the number of each element in the place of its value, in float64: exact to 2^53."""
    import torch

    for tensor in set(tensors_of(module).values()):
        if tensor.is_floating_point():
            numbers = torch.arange(tensor.numel(), dtype=torch.float64)
            tensor.data = numbers.reshape(tensor.shape)


def _values_back(
    module: nn.Module,
    original: nn.Module,
    why: Mapping[str, Mapping[int, frozenset[str]]],
    *,
    numbered: bool,
) -> dict[str, Part]:
    """Put the original's values in the places of their numbers; return what part each is."""
    before, after = tensors_of(original), tensors_of(module)
    parts = {}
    done: set[int] = set()
    for name, tensor in after.items():
        was = before[name]
        shape = tuple(was.shape)
        parts[name] = Part(shape)
        if not tensor.is_floating_point() or not numbered or id(tensor) in done:
            parts[name] = next((parts[o] for o, t in after.items() if t is tensor and o in parts
                                and o != name), parts[name])  # fmt: skip
            continue
        done.add(id(tensor))
        numbers = tensor.detach().long()
        try:
            kept = dict(kept_of(numbers, shape))
        except Unfollowed as stop:
            groups = frozenset().union(*why.get(name, {}).values())
            raise _Blamed(groups, f"{stop.reason}: {name}") from stop
        nobody: frozenset[str] = frozenset()
        reasons = {dim: why.get(name, {}).get(dim, nobody) for dim in kept}
        parts[name] = Part(shape, kept, reasons)
        tensor.data = was.detach().flatten()[numbers.flatten()].reshape(numbers.shape).clone()
    return parts


def _tie_again(
    module: nn.Module,
    original: nn.Module,
    why: Mapping[str, Mapping[int, frozenset[str]]],
    groups: Mapping[str, Sequence[str]],
) -> None:
    """Share again the weights that layers of the original share, or leave these layers alone."""
    import torch

    first: dict[int, str] = {}
    after = tensors_of(module)
    for name, tensor in tensors_of(original).items():
        of = first.setdefault(id(tensor), name)
        if of == name or after[of] is after[name]:
            continue
        one, other = after[of], after[name]
        if one.shape != other.shape or not torch.equal(one, other):
            roots = {g for n in (of, name) for gs in why.get(n, {}).values() for g in gs}
            layers = [layer for root in roots for layer in groups.get(root, ())]
            raise _Blamed(layers, f"{of} and {name} share one weight, and would lose other parts")
        path, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(path), leaf, one)


def _read(module: Any, spec: DataSpec) -> tuple[list[str], dict[str, str]]:
    """Return the layers whose channels are the network's outputs, and those that it cannot follow.

    Outputs are found by walking back from the end of the graph to the first layer on every path.
    """
    import torch
    import torch_pruning

    names = {id(part): name for name, part in module.named_modules()}
    with _quiet(), _told("Torch-Pruning cannot read this network"):
        graph = torch_pruning.DependencyGraph().build_dependency(module, torch.zeros(spec.shape))
    at = [node for node in graph.module2node.values() if not node.outputs]
    found, seen = [], set(at)
    while at:
        node = at.pop()
        if _is_layer(node.module):
            found.append(names[id(node.module)])
            continue
        at += [before for before in node.inputs if before not in seen]
        seen.update(node.inputs)
    unread = {}
    for part in graph.module2node:
        if _is_layer(part):
            pruner = graph.get_pruner_of_module(part)
            every = list(range(pruner.get_out_channels(part)))
            try:
                graph.get_pruning_group(part, pruner.prune_out_channels, every)
            except Exception as error:  # IndexError, ...
                unread[names[id(part)]] = _unread(error)
    return found, unread


def _unread(error: Exception) -> str:
    line = (str(error).splitlines() or [""])[0]
    return (
        "Torch-Pruning cannot tell which channels hang together with its own "
        f"({type(error).__name__}: {line})"
    )


def attention_of(module: Any) -> list[Any]:
    """Return timm's attention blocks: one projection for query, key and value, then heads."""
    from timm.layers import Attention

    return [part for part in module.modules() if isinstance(part, Attention)]


def _is_layer(part: Any) -> bool:
    import torch

    return isinstance(part, torch.nn.modules.conv._ConvNd | torch.nn.Linear)


def _is_transposed(part: Any) -> bool:
    return bool(getattr(part, "transposed", False))


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever its tracing raises
        line = (str(error).splitlines() or [""])[0]
        raise StepError(f"{what}: {type(error).__name__}: {line}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tracer's remarks on parameters that belong to no layer (it prunes them too)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        yield
