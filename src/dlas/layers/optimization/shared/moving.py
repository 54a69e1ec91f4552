"""Operators that only move elements: followed by the numbers of the elements themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dlas.layers.optimization.shared.slices import Application, Shape, Slice, Why

if TYPE_CHECKING:
    from torch import Tensor


def moves(call: Application) -> bool:
    """Return whether an operator only moves elements: views, concatenation, padding, indexing."""
    views = any(r.alias_info and not r.alias_info.is_write for r in call.func._schema.returns)
    return views or call.name.rstrip("_") in _MOVING or call.name.endswith("_copy")


_MOVING = frozenset((
    "cat", "stack", "unsafe_view", "_unsafe_view", "reshape", "repeat", "roll", "flip", "index",
    "index_select", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "permute", "squeeze",
    "native_channel_shuffle", "im2col", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d",
    "replication_pad1d", "replication_pad2d", "unsafe_split", "unsafe_chunk", "transpose",
    "unsafe_split_with_sizes", "unsqueeze", "tril", "triu", "expand", "t", "view", "slice",
    "split", "select", "unbind", "chunk", "narrow", "repeat_interleave", "gather",
))  # fmt: skip


def moved(call: Application) -> list[Slice]:
    """Move the numbers of the elements, in both networks; they have to agree.

    Raises:
        Unfollowed: channels change places, or what is left is not in one piece.
    """
    import torch

    if call.name == "constant_pad_nd" and (padded := _padded_elsewhere(call)):
        return [padded]
    before = _results(call, call.before, _numbers(call, whole=True))
    after = _results(call, call.after, _numbers(call, whole=False))
    there = _results(call, call.before, _masks(call), padding=1.0)
    if len(before) != len(after):
        raise call.refuse("it gives another number of tensors")
    made = []
    origins = list(_origins(call))
    for at, (numbers, left, mask) in enumerate(zip(before, after, there, strict=True)):
        part = _rectangle(call, mask, at, origins)
        expected = numbers
        for dim, indices in part.kept.items():
            expected = expected.index_select(dim, indices)
        if expected.shape != left.shape or not torch.equal(expected, left):
            raise call.refuse("channels change places")
        made.append(part)
    return made


def _padded_elsewhere(call: Application) -> Slice | None:
    """Return what is left where only dimensions are padded of which nothing is gone.

    None: others are padded, too, or both networks are not padded alike.
    """
    from torch.utils._pytree import tree_unflatten

    (_, pads, *value), _ = tree_unflatten(list(call.before), call.spec)
    (_, now, *new), _ = tree_unflatten(list(call.after), call.spec)
    (part,) = call.given()
    last = len(part.shape) - 1
    padded = {last - at // 2 for at, pad in enumerate(pads) if pad}
    if (pads, value) != (now, new) or padded & set(part.kept):
        return None
    return Slice(call.outputs[0], part.kept, part.why)


def _numbers(call: Application, *, whole: bool) -> list[Tensor | None]:
    """Return tensors whose elements are numbered as in the original: all, or what is left."""
    import torch

    made: list[Tensor | None] = []
    start = 1
    for argument, part in zip(call.before, call.parts, strict=True):
        if part is None or not argument.floating:
            made.append(None)
            continue
        size = int(torch.Size(part.shape).numel())
        numbers = torch.arange(start, start + size, dtype=torch.float64).reshape(part.shape)
        start += size
        if not whole:
            for dim, indices in part.kept.items():
                numbers = numbers.index_select(dim, indices)
        made.append(numbers)
    return made


def _masks(call: Application, only: tuple[int, int] | None = None) -> list[Tensor | None]:
    """Return tensors of 1 where something is left and 0 elsewhere.

    ``only``: one argument's one dimension counts, the others are whole.
    """
    import torch

    made: list[Tensor | None] = []
    for place, (argument, part) in enumerate(zip(call.before, call.parts, strict=True)):
        if part is None or not argument.floating:
            made.append(None)
            continue
        mask = torch.ones(part.shape, dtype=torch.float64)
        for dim, indices in part.kept.items():
            if only not in (None, (place, dim)):
                continue
            line = torch.zeros(part.shape[dim], dtype=torch.float64)
            line[indices] = 1
            mask = mask * line.reshape([-1 if d == dim else 1 for d in range(mask.dim())])
        made.append(mask)
    return made


def _origins(call: Application) -> Iterator[tuple[Why, list[Tensor]]]:
    """Give, for each dimension of each argument, where in the results something of it is gone."""
    for place, part in enumerate(call.parts):
        for dim, why in part.why.items() if part else ():
            yield why, _results(call, call.before, _masks(call, (place, dim)), padding=1.0)


def _results(
    call: Application,
    arguments: Sequence[Any],
    numbers: Sequence[Tensor | None],
    padding: float = 0.0,
) -> list[Tensor]:
    import torch
    from torch.utils._pytree import tree_leaves, tree_unflatten

    flat = [
        (argument.values if isinstance(argument, Shape) else argument) if n is None else n
        for argument, n in zip(arguments, numbers, strict=True)
    ]
    args, kwargs = tree_unflatten(flat, call.spec)
    if call.name == "constant_pad_nd":
        args = (*args[:2], padding)
    try:
        out = call.func(*args, **kwargs)
    except (RuntimeError, IndexError, TypeError, NotImplementedError) as error:
        raise call.refuse("its sizes are written in, or follow from the width") from error
    return [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]


def _rectangle(
    call: Application, mask: Tensor, at: int, origins: Sequence[tuple[Why, list[Tensor]]]
) -> Slice:
    """Return the part that a mask shows: certain indices of each dimension, and all of these."""
    kept: dict[int, Tensor] = {}
    why: dict[int, Why] = {}
    total = 1
    for dim in range(mask.dim()):
        indices = _line(mask, dim).nonzero().flatten()
        total *= len(indices)
        if len(indices) != mask.shape[dim]:
            kept[dim] = indices
            mine = (w for w, masks in origins if not bool(_line(masks[at], dim).all()))
            why[dim] = frozenset().union(*mine)
    if total != int(mask.count_nonzero()):
        raise call.refuse("what is left of its channels is not in one piece")
    return Slice(tuple(mask.shape), kept, why)


def _line(mask: Tensor, dim: int) -> Tensor:
    others = [d for d in range(mask.dim()) if d != dim]
    return mask.amax(others) if others else mask
