"""Torch-Pruning's groups, found quickly.

A group lists what hangs together, one entry for each layer and set of channels. Torch-Pruning
looks through all of it for every entry that it meets: where attention splits and joins channels
head by head, that is nearly all of the time that pruning takes (mobilevitv2_050: 224 of 277 s).
Here the same questions are answered by looking them up.

Where a network joins and reshapes in a circle its lists of channels multiply (gcresnext26ts: fifty
million in a group, and no end of it, in a network of 2048). That is noticed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from torch_pruning.dependency import Dependency

TIMES = 4
"""A list may hold a channel more than once: heads of attention share keys."""


class Endless(Exception):
    """A list of channels is longer than any layer has."""


@contextmanager
def indexed_groups(module: nn.Module) -> Iterator[None]:
    """Have Torch-Pruning make groups that look up what they hold; the groups are the same.

    Making one raises :class:`Endless` where it would hold more channels of one layer than
    ``TIMES`` what any layer of the network has.
    """
    from torch_pruning.dependency import graph

    usual = graph.Group
    most = max((size for tensor in module.parameters() for size in tensor.shape), default=1)
    graph.Group = _indexed(usual, TIMES * most)
    try:
        yield
    finally:
        graph.Group = usual


def _indexed(usual: Any, most: int) -> Any:
    """Return a class of groups that does as the usual one does."""

    class Indexed(usual):
        """A group that knows where each of its entries is."""

        def __init__(self) -> None:
            super().__init__()
            self._first: dict[tuple[int, Any], int] = {}
            self._known: dict[tuple[int, Any], set[tuple[Any, ...]]] = {}
            self._merged: dict[tuple[int, Any], set[int]] = {}
            self._other = False

        def __setitem__(self, at: int, entry: Any) -> None:
            self._other = True
            super().__setitem__(at, entry)

        def add_dep(self, dep: Dependency, idxs: Sequence[Any]) -> None:
            if len(idxs) > most:
                raise Endless
            key = _key(dep)
            self._first.setdefault(key, len(self._group))
            self._known.setdefault(key, set()).add(tuple(idxs))
            super().add_dep(dep, idxs)

        def has_pruning_op(self, dep: Dependency, idxs: Sequence[Any]) -> bool:
            if self._other:  # entries are no more what they were when they came
                return bool(super().has_pruning_op(dep, idxs))
            return tuple(idxs) in self._known.get(_key(dep), ())

        def add_and_merge(self, dep: Dependency, idxs: Sequence[Any]) -> None:
            """Add channels to those of the same layer, each once, in the order of coming."""
            key = _key(dep)
            if key not in self._first:
                self.add_dep(dep, idxs)
                return
            at = self._first[key]
            first, before = self._group[at]
            self._other = True
            if key not in self._merged:
                self._merged[key] = set()
                before = _new(before, self._merged[key])
                self._group[at] = type(self._group[at])(dep=first, idxs=before)
            before += _new(idxs, self._merged[key])

    return Indexed


def _key(dep: Dependency) -> tuple[int, Any]:
    return id(dep.target), dep.handler


def _new(idxs: Sequence[Any], seen: set[int]) -> list[Any]:
    """Return the indices whose channel was not seen, and note them."""
    new = []
    for index in idxs:
        if index.idx not in seen:
            seen.add(index.idx)
            new.append(index)
    return new
