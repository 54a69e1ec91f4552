"""Count the multiply-accumulates of a torch module, operator by operator, as they really run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlas.core.protocols import DataSpec

if TYPE_CHECKING:
    from torch import nn
    from torch._ops import OpOverload
    from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True, slots=True)
class LayerMacs:
    """The multiply-accumulates of one inference of one layer.

    ``name`` is that of the weight without its ``.weight``; a product of two activations (as in
    attention) has the name of the module it runs in, and neither ``weights`` nor ``nonzero``.
    ``effective`` counts those whose weight is not zero.
    """

    name: str
    operator: str
    macs: int
    effective: int
    weights: int = 0
    nonzero: int = 0


def count_macs(module: nn.Module, spec: DataSpec) -> int:
    """Return the multiply-accumulates of one inference: convolutions, matrix products."""
    return sum(layer.macs for layer in count_layers(module, spec))


def count_layers(module: nn.Module, spec: DataSpec) -> tuple[LayerMacs, ...]:
    """Return the multiply-accumulates of every layer that runs, in the order of first use.

    The module runs once on zeros. What it runs is taken from torch's dispatcher, the formulas from
    torch's own counter; padding counts as if it were there. Attention runs unfused meanwhile, so
    that both of its products are seen.
    """
    import torch

    mode = _counting_mode(module)
    tracker = mode.tracker
    with torch.no_grad(), _unfused(), tracker, mode:
        module(torch.zeros(spec.shape))
    return tuple(_merged(mode.seen))


def _merged(seen: list[LayerMacs]) -> Iterator[LayerMacs]:
    """Add up the runs of a layer that runs several times, and the products within a module."""
    grouped: dict[tuple[str, str], list[LayerMacs]] = {}
    for layer in seen:
        grouped.setdefault((layer.name, layer.operator), []).append(layer)
    for (name, operator), runs in grouped.items():
        yield LayerMacs(
            name,
            operator,
            sum(run.macs for run in runs),
            sum(run.effective for run in runs),
            runs[0].weights,
            runs[0].nonzero,
        )


def _counting_mode(module: nn.Module) -> TorchDispatchMode:
    """Return a dispatch mode that notes every product, and the parameter that it multiplies by."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry
    from torch.utils.module_tracker import ModuleTracker

    named = {p.untyped_storage().data_ptr(): n for n, p in module.named_parameters()}

    class Counting(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[LayerMacs] = []
            self.tracker = ModuleTracker()

        def __torch_dispatch__(
            self,
            func: OpOverload,
            types: Sequence[type],
            args: Sequence[object] = (),
            kwargs: Mapping[str, object] | None = None,
        ) -> object:
            kwargs = kwargs or {}
            out = func(*args, **kwargs)
            formula = flop_registry.get(func._overloadpacket)
            if formula is not None:
                macs = int(formula(*args, **kwargs, out_val=out)) // 2
                self.seen.append(_layer(func, args, macs, named, self.tracker.parents))
            return out

    return Counting()


def _layer(
    func: OpOverload,
    args: Sequence[object],
    macs: int,
    named: dict[int, str],
    parents: set[str],
) -> LayerMacs:
    import torch

    operator = func._overloadpacket.__name__
    for operand in args:
        if not isinstance(operand, torch.Tensor) or operand.dim() < 2:
            continue
        name = named.get(operand.untyped_storage().data_ptr())
        if name is not None:
            weights, nonzero = operand.numel(), int(operand.count_nonzero())
            # Every weight is used equally often.
            effective = macs * nonzero // weights
            layer = name.removesuffix(".weight")
            return LayerMacs(layer, operator, macs, effective, weights, nonzero)
    deepest = max(parents, key=lambda parent: parent.count("."))
    return LayerMacs(deepest.partition(".")[2], operator, macs, macs)


@contextmanager
def _unfused() -> Iterator[None]:
    """Make attention run as two matrix products instead of one operator without a formula."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
