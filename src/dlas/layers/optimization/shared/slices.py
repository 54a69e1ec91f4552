"""Which part of an original tensor a pruned tensor is, and one operator seen in both networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch._ops import OpOverload

Why = frozenset[str]


class Unfollowed(Exception):
    """An operator does something else in the pruned network; ``groups``: whose channels did it."""

    def __init__(self, reason: str, groups: Why = frozenset()) -> None:
        self.reason, self.groups = reason, groups
        super().__init__(reason)


@dataclass(frozen=True)
class Slice:
    """The part of a tensor of ``shape`` that is left: of some dimensions certain indices only.

    ``kept`` maps such a dimension to the indices, in their order, ``why`` to the groups that took
    the others away.
    """

    shape: tuple[int, ...]
    kept: Mapping[int, Tensor] = field(default_factory=dict)
    why: Mapping[int, Why] = field(default_factory=dict)

    @property
    def groups(self) -> Why:
        """All groups that took something away."""
        return frozenset().union(*self.why.values())

    @property
    def size(self) -> tuple[int, ...]:
        """The shape of what is left."""
        return tuple(len(self.kept[d]) if d in self.kept else n for d, n in enumerate(self.shape))

    def along(self, dim: int) -> tuple[Tensor | None, Why]:
        """Return the indices that are left of a dimension (None: all), and why."""
        dim %= max(len(self.shape), 1)
        return self.kept.get(dim), self.why.get(dim, frozenset())

    def indices(self, dim: int) -> Tensor:
        """Return the indices that are left of a dimension."""
        import torch

        kept, _ = self.along(dim)
        return torch.arange(self.shape[dim]) if kept is None else kept


@dataclass(frozen=True)
class Application:
    """One operator in both networks: arguments flattened, with their parts where tensors."""

    func: OpOverload
    spec: Any
    before: Sequence[Any]
    """Of the original: numbers, and tensors as :class:`Shape`."""
    after: Sequence[Any]
    """Of the pruned network: numbers and tensors."""
    parts: Sequence[Slice | None]
    outputs: Sequence[tuple[int, ...]]
    """Shapes of the original's results."""

    @property
    def name(self) -> str:
        """The operator's name."""
        return str(self.func._overloadpacket.__name__)

    @property
    def groups(self) -> Why:
        """The groups of all arguments."""
        return frozenset().union(*(part.groups for part in self.parts if part))

    def given(self) -> list[Slice]:
        """Return the parts of the tensors among the arguments."""
        return [part for part in self.parts if part is not None]

    def refuse(self, reason: str, groups: Why | None = None) -> Unfollowed:
        """Return the exception that names this call; ``groups``: the guilty ones, None: all."""
        guilty = self.groups if groups is None else groups
        return Unfollowed(f"{reason} ({self.name.strip('_')})", guilty)


@dataclass(frozen=True)
class Shape:
    """A tensor of the original's run; ``values`` are kept of integers and booleans."""

    shape: tuple[int, ...]
    floating: bool
    values: Any = None


def kept_of(numbers: Tensor, shape: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
    """Give the indices that are left of each dimension, from the numbers of what is left.

    Raises:
        Unfollowed: what is left is no whole slice.
    """
    import torch

    expected = torch.arange(int(torch.Size(shape).numel())).reshape(shape)
    left = torch.unravel_index(numbers, shape) if shape else ()
    for dim, indices in enumerate(left):
        line = indices.movedim(dim, 0).reshape(numbers.shape[dim], -1)[:, 0]
        if len(line) != shape[dim]:
            yield dim, line
        expected = expected.index_select(dim, line)
    if not torch.equal(expected, numbers):
        raise Unfollowed("what is left of a weight is no whole slice of it")
