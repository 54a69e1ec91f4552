"""Torch-Pruning watched: whom to blame when it fails, and what is left of each tensor after it."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlas.core.errors import StepError
from dlas.core.protocols import DataSpec
from dlas.core.wording import said
from dlas.layers.optimization.shared.grouping import Endless
from dlas.layers.optimization.shared.proof import tensors_of
from dlas.layers.optimization.shared.slices import Slice, Unfollowed, kept_of

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Blamed(Exception):
    """Layers that are to be left alone, and why."""

    layers: Collection[str]
    reason: str


class Guarded:
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
                if graph.is_out_channel_pruning_fn(dep.handler) and is_layer(dep.target.module)
            ]
            # Of attention, it gives the layer after it as the first.
            root = self._name(group[0].dep.target.module)
            root = root if root in layers or not layers else layers[0]
            yield group, root, [name for name in dict.fromkeys([*layers]) if name] or [root]

    def guard(self, do: Callable[[], Any], root: str = "", layers: Sequence[str] = ()) -> Any:
        """Do something of Torch-Pruning's; what it raises is its layer's fault."""
        try:
            with quiet():
                return do()
        except Exception as error:  # IndexError, KeyError, AssertionError, ...
            blamed = [*layers] or [name for name in (root, *self._at) if name]
            raise Blamed(blamed, _unread(error)) from error

    def _name(self, module: Any) -> str:
        return self._names.get(id(module), "")


def number(module: nn.Module) -> None:
    """Put the number of each element in the place of its value, in float64: exact to 2^53."""
    import torch

    for tensor in set(tensors_of(module).values()):
        if tensor.is_floating_point():
            numbers = torch.arange(tensor.numel(), dtype=torch.float64)
            tensor.data = numbers.reshape(tensor.shape)


def values_back(
    module: nn.Module,
    original: nn.Module,
    why: Mapping[str, Mapping[int, frozenset[str]]],
    *,
    numbered: bool,
) -> dict[str, Slice]:
    """Put the original's values in the places of their numbers; return what part each is."""
    before, after = tensors_of(original), tensors_of(module)
    parts = {}
    done: set[int] = set()
    for name, tensor in after.items():
        was = before[name]
        shape = tuple(was.shape)
        parts[name] = Slice(shape)
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
            raise Blamed(groups, f"{stop.reason}: {name}") from stop
        nobody: frozenset[str] = frozenset()
        reasons = {dim: why.get(name, {}).get(dim, nobody) for dim in kept}
        parts[name] = Slice(shape, kept, reasons)
        tensor.data = was.detach().flatten()[numbers.flatten()].reshape(numbers.shape).clone()
    return parts


def tie_again(
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
            raise Blamed(layers, f"{of} and {name} share one weight, and would lose other parts")
        path, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(path), leaf, one)


def read(module: Any, spec: DataSpec) -> tuple[list[str], dict[str, str]]:
    """Return the layers whose channels are the network's outputs, and those that it cannot follow.

    Outputs are found by walking back from the end of the graph to the first layer on every path.
    """
    import torch
    import torch_pruning

    names = {id(part): name for name, part in module.named_modules()}
    with quiet(), told("Torch-Pruning cannot read this network"):
        graph = torch_pruning.DependencyGraph().build_dependency(module, torch.zeros(spec.shape))
    at = [node for node in graph.module2node.values() if not node.outputs]
    found, seen = [], set(at)
    while at:
        node = at.pop()
        if is_layer(node.module):
            found.append(names[id(node.module)])
            continue
        at += [before for before in node.inputs if before not in seen]
        seen.update(node.inputs)
    unread = {}
    for part in graph.module2node:
        if is_layer(part):
            pruner = graph.get_pruner_of_module(part)
            every = list(range(pruner.get_out_channels(part)))
            try:
                graph.get_pruning_group(part, pruner.prune_out_channels, every)
            except Exception as error:  # IndexError, ...
                unread[names[id(part)]] = _unread(error)
    return found, unread


def _unread(error: Exception) -> str:
    return f"Torch-Pruning cannot tell which channels hang together with its own: {_failed(error)}"


def _failed(error: Exception) -> str:
    """Return what a failure comes to.

    Torch-Pruning's own are of graphs that it was not written for, a wrong index of a channel
    mostly: what they say tells nobody anything. What the network itself raises is told as it is.
    """
    kind = type(error).__name__
    if isinstance(error, Endless):
        return "in its graph of this network a group would hold more channels than any layer has"
    if not _of_network(error):
        return (
            f"its graph does not follow how this network joins, splits or reshapes them ({kind})"
        )
    return f"{kind}: {said(error)}"


def _of_network(error: Exception) -> bool:
    """Whether a module's forward raised it, and not Torch-Pruning, which ran that."""
    ran = False
    for frame in traceback.extract_tb(error.__traceback__):
        if "torch_pruning" in Path(frame.filename).parts:
            ran = False
        elif frame.name == "_call_impl":  # how PyTorch calls every module
            ran = True
    return ran


def attention_of(module: Any) -> list[Any]:
    """Return timm's attention blocks: one projection for query, key and value, then heads."""
    from timm.layers import Attention

    return [part for part in module.modules() if isinstance(part, Attention)]


def is_layer(part: Any) -> bool:
    """Return whether a module is a convolution or linear layer."""
    import torch

    return isinstance(part, torch.nn.modules.conv._ConvNd | torch.nn.Linear)


def is_transposed(part: Any) -> bool:
    """Return whether a layer has its outputs in the second dimension of its weight."""
    return bool(getattr(part, "transposed", False))


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn whatever Torch-Pruning raises into a sentence."""
    try:
        yield
    except Exception as error:  # whatever its tracing raises
        raise StepError(f"{what}: {_failed(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the tracer's remarks on parameters that belong to no layer (it prunes them too)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        yield
