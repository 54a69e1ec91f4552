"""Count the multiply-accumulates of a torch module, operator by operator, as they really run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlas.core.protocols import DataSpec
from dlas.core.wording import sentence
from dlas.networks.formulas import is_free, operands, products

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch._ops import OpOverload


@dataclass(frozen=True, slots=True)
class LayerMacs:
    """The multiply-accumulates of one inference of one layer.

    ``name`` is that of the weight without its ``.weight``; a product of two activations (as in
    attention) has the name of the module it runs in, and neither ``weights`` nor ``nonzero``.
    ``effective`` counts those whose weight is not zero, whether it is stored so or computed (a
    mask that is multiplied in ``forward``).
    """

    name: str
    operator: str
    macs: int
    effective: int
    weights: int = 0
    nonzero: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """What an inference multiplies; ``uncounted`` names what is left out, with where it runs."""

    layers: tuple[LayerMacs, ...]
    uncounted: tuple[str, ...] = ()

    @property
    def macs(self) -> int | None:
        """The multiply-accumulates in all, None: some are not counted."""
        return None if self.uncounted else sum(layer.macs for layer in self.layers)

    @property
    def effective(self) -> int | None:
        """Those whose weight is not zero, None: some are not counted."""
        return None if self.uncounted else sum(layer.effective for layer in self.layers)


def count_macs(module: nn.Module, spec: DataSpec) -> int | None:
    """Return the multiply-accumulates of one inference, None: some cannot be counted."""
    return count(module, spec).macs


def count(module: nn.Module, spec: DataSpec) -> Counted:
    """Return the multiply-accumulates of every layer that runs, in the order of first use.

    The module runs once on zeros. What it runs is taken from torch's dispatcher, the formulas from
    torch's own counter; padding counts as if it were there. Attention runs unfused meanwhile, so
    that both of its products are seen. An operator that is not known is named as uncounted, and so
    is the whole where the pass fails: a network is run whether or not it can be counted.
    """
    import torch

    counting = _counting_mode(module)
    try:
        with torch.no_grad(), _unfused(), _frozen(module), counting.tracker, counting:
            module(torch.zeros(spec.shape))
    except Exception as error:  # a stranger's forward, or a formula that does not know it
        reason = f"the pass that counts failed: {sentence(error)}"
        return Counted(tuple(_merged(counting.seen)), (reason,))
    return Counted(tuple(_merged(counting.seen)), tuple(_named_once(counting.unknown)))


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Have no parameter ask for a gradient: what tells where a product is fails where one does.

    A module that is given a parameter (a learned token, in pit) is such a place.
    """
    asked = [each for each in module.parameters() if each.requires_grad]
    for each in asked:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in asked:
            each.requires_grad_(True)


def _named_once(unknown: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for operator, places in unknown.items():
        others = len(set(places)) - 1
        more = f" and {others} more" if others else ""
        yield f"{operator} in {places[0] or 'its own forward'}{more}"


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


def _counting_mode(module: nn.Module) -> Any:
    """Return a dispatch mode that notes every product, and the weight that it multiplies by."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.module_tracker import ModuleTracker

    class Counting(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[LayerMacs] = []
            self.unknown: dict[str, list[str]] = {}
            self.tracker = ModuleTracker()
            self.weights = _KnownWeights(module)

        def __torch_dispatch__(
            self,
            func: OpOverload,
            types: Sequence[type],
            args: Sequence[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            macs = products(func, args, out)
            if macs is not None:
                self.seen += self.weights.layers(func, args, macs, self.where())
            elif not is_free(func):
                name = func._overloadpacket.__name__.strip("_")
                self.unknown.setdefault(name, []).append(self.where())
            self.weights.follow(args, out)
            return out

        def where(self) -> str:
            deepest = max(self.tracker.parents, key=lambda parent: parent.count("."))
            return deepest.partition(".")[2]

    return Counting()


class _KnownWeights:
    """Knows which tensors are weights: parameters, and what is computed from nothing else."""

    def __init__(self, module: nn.Module) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        tensors = [*module.named_buffers(), *module.named_parameters()]
        self._named = {t.untyped_storage().data_ptr(): name for name, t in tensors}
        self._computed: Any = WeakIdKeyDictionary()

    def layers(
        self, func: OpOverload, args: Sequence[Any], macs: int, where: str
    ) -> Iterator[LayerMacs]:
        """Give the products of one operator by the weights they are with."""
        operator = func._overloadpacket.__name__
        weights = [(name, t) for t in operands(func, args) if (name := self._name(t)) is not None]
        if operator != "mkldnn_rnn_layer":
            # The right one is the weight, but where the left one is (a query that is learned).
            weights = weights[-1:]
        if not weights:
            yield LayerMacs(where, operator, macs, macs)
            return
        total = sum(t.numel() for _, t in weights)
        for name, tensor in weights:
            size, nonzero = tensor.numel(), int(tensor.count_nonzero())
            share = macs * size // total
            layer = (name or where).removesuffix(".weight")
            # Every weight is used equally often.
            yield LayerMacs(layer, operator, share, share * nonzero // size, size, nonzero)

    def follow(self, args: Sequence[Any], out: Any) -> None:
        """Note what is computed from weights alone, under the name of the largest of them."""
        import torch
        from torch.utils._pytree import tree_leaves

        given = [t for t in tree_leaves(args) if isinstance(t, torch.Tensor)]
        names = [self._name(t) for t in given]
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        if not given or None in names:
            for tensor in made:  # written into, it is a weight no longer
                self._computed.pop(tensor, None)
            return
        largest = max(zip(given, names, strict=True), key=lambda pair: pair[0].numel())[1]
        for tensor in made:
            self._computed[tensor] = largest

    def _name(self, tensor: Tensor) -> str | None:
        """Return the name of a weight, ``""`` for one without, None for what is no weight."""
        import torch

        if not isinstance(tensor, torch.Tensor) or not tensor.numel():
            return None
        name = self._named.get(tensor.untyped_storage().data_ptr())
        return name if name is not None else self._computed.get(tensor)


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
