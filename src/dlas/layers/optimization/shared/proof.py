"""A proof that a pruned network is the original without the channels that were removed.

Both run on the same input, and their operators are followed side by side: of each
tensor of the pruned network it is known which slice of the original's it is, and each operator is
checked to read, for every output, exactly those inputs that the original's reads but for removed
ones. Nothing rests on values, so a weight that happens to be zero hides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dlas.layers.optimization.shared.operator_rules import follow
from dlas.layers.optimization.shared.slices import Application, Shape, Slice, Unfollowed

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch._ops import OpOverload

NORMS = ("native_layer_norm", "native_group_norm")
"""Whose statistics are then over the channels that are left."""


@dataclass(frozen=True)
class _Recorded:
    """One operator of the original's run."""

    func: OpOverload
    arguments: Sequence[Any]
    outputs: Sequence[tuple[int, ...]]


@dataclass
class Trace:
    """The original's run, operator by operator."""

    input: Tensor
    seen: list[_Recorded] = field(default_factory=list)


@dataclass(frozen=True)
class Proved:
    """``norms``: the modules whose statistics are over fewer channels."""

    norms: tuple[str, ...] = ()


def trace(module: nn.Module, shape: Sequence[int]) -> Trace:
    """Return the run of the original on random input of a shape."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten, tree_leaves

    made = Trace(torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)))

    class Recording(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            arguments = [_note(leaf) for leaf in tree_flatten((args, kwargs or {}))[0]]
            out = func(*args, **(kwargs or {}))
            shapes = [tuple(t.shape) for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
            made.seen.append(_Recorded(func, arguments, shapes))
            return out

    with torch.no_grad(), unfused(), Recording():
        module(made.input.clone())
    return made


def prove(traced: Trace, pruned: nn.Module, parts: Mapping[str, Slice]) -> Proved:
    """Follow a pruned network along the original's run.

    Args:
        traced: of the original.
        pruned: what is to be shown.
        parts: of each parameter and buffer, which part of the original's it is.

    Raises:
        Unfollowed: something else is computed, or what is computed cannot be followed.
    """
    import torch
    from torch.utils.module_tracker import ModuleTracker

    tracker = ModuleTracker()
    follower = _Follower(traced, pruned, parts)
    following = _following(follower, tracker)
    try:
        with torch.no_grad(), unfused(), tracker, following:
            out = pruned(traced.input.clone())
    except Unfollowed as stop:
        raise Unfollowed(f"{stop.reason} in {_where(tracker)}", stop.groups) from stop
    except Exception as error:  # what a stranger's forward raises is unknown
        line = (str(error).splitlines() or [""])[0]
        raise Unfollowed(
            f"{_where(tracker)} does not run with fewer channels: {type(error).__name__}: {line}",
            follower.last,
        ) from error
    if not follower.finished or follower.part_of(out, tuple(out.shape)).kept:
        raise Unfollowed("the outputs are others", follower.last)
    return Proved(tuple(following.norms))


def _where(tracker: Any) -> str:
    deepest = max(tracker.parents, key=lambda parent: parent.count("."))
    return deepest.partition(".")[2] or "forward"


def _note(leaf: Any) -> Any:
    import torch

    if not isinstance(leaf, torch.Tensor):
        return leaf
    floating = leaf.is_floating_point() or leaf.is_complex()
    return Shape(tuple(leaf.shape), floating, None if floating else leaf.clone())


class _Follower:
    """Knows of each tensor of the pruned network which part of the original's it is."""

    def __init__(self, traced: Trace, pruned: nn.Module, parts: Mapping[str, Slice]) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        self._traced = traced
        self._parts: Any = WeakIdKeyDictionary()
        self._stored: dict[int, Slice] = {}
        self.at = 0
        self.last: frozenset[str] = frozenset()
        for name, tensor in tensors_of(pruned).items():
            self._parts[tensor] = parts[name]
            self._stored[tensor.untyped_storage().data_ptr()] = parts[name]

    def part_of(self, tensor: Tensor, shape: tuple[int, ...]) -> Slice:
        """Return which part of the original's tensor of ``shape`` a tensor is."""
        part = self._parts.get(tensor)
        if part is None:
            part = self._stored.get(tensor.untyped_storage().data_ptr())
        if part is not None and part.shape == shape and part.size == tuple(tensor.shape):
            return part
        if tuple(tensor.shape) == shape and part is None:
            return Slice(shape)
        raise Unfollowed("a tensor is made whose size depends on the width", self.last)

    def call(self, func: OpOverload, args: Any, kwargs: Any) -> Application:
        """Return the next operator in both networks."""
        import torch
        from torch.utils._pytree import tree_flatten

        leaves, spec = tree_flatten((args, kwargs))
        seen = self._traced.seen
        before = seen[self.at] if self.at < len(seen) else None
        if before is None or before.func is not func or len(leaves) != len(before.arguments):
            raise Unfollowed("what runs depends on the width", self.last)
        self.at += 1
        parts = [
            self.part_of(leaf, note.shape) if isinstance(leaf, torch.Tensor) else None
            for leaf, note in zip(leaves, before.arguments, strict=True)
        ]
        made = Application(func, spec, before.arguments, leaves, parts, before.outputs)
        self.last = made.groups or self.last
        return made

    def note(self, call: Application, out: Any, results: Sequence[Slice]) -> None:
        """Note which parts an operator has given."""
        import torch
        from torch.utils._pytree import tree_leaves

        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        for tensor, part in zip(made, results, strict=True):
            if part.size == tuple(tensor.shape):
                self._parts[tensor] = part
            elif call.given():
                raise Unfollowed("it gives a part of other size", call.groups)

    @property
    def finished(self) -> bool:
        """Whether all that the original ran has run."""
        return self.at == len(self._traced.seen)


def _following(follower: _Follower, tracker: Any) -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Following(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.norms: dict[str, None] = {}

        def __torch_dispatch__(
            self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            call = follower.call(func, args, kwargs or {})
            results = follow(call)
            if call.name in NORMS and call.groups:
                self.norms[_where(tracker)] = None
            out = func(*args, **(kwargs or {}))
            follower.note(call, out, results)
            return out

    return Following()


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, shared ones under each of their names."""
    named: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    named.update(module.named_buffers(remove_duplicate=False))
    return named


def unfused() -> Any:
    """Make attention run as the products that it is."""
    from contextlib import ExitStack

    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    stack = ExitStack()
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    stack.callback(torch.backends.mha.set_fastpath_enabled, before)
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack
