"""Torch-Pruning's groups, found quickly.

A group lists what hangs together, one entry for each layer and set of channels. Torch-Pruning
looks through all of it for every entry that it meets: where attention splits and joins channels
head by head, that is nearly all of the time that pruning takes (mobilevitv2_050: 224 of 277 s).
Here the same questions are answered by looking them up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_pruning.dependency import Dependency


@contextmanager
def indexed_groups() -> Iterator[None]:
    """Have Torch-Pruning make groups that look up what they hold; the groups are the same."""
    from torch_pruning.dependency import graph

    usual = graph.Group
    graph.Group = _indexed(usual)
    try:
        yield
    finally:
        graph.Group = usual


def _indexed(usual: Any) -> Any:
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
