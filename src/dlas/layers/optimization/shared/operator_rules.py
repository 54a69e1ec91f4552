"""Which part of the original's each result of an operator is: the rules for torch's operators.

They go by kind: elementwise operators, those that only move elements (:mod:`moving`), pooling,
products, norms, sums. Whatever has no rule is refused as soon as it meets a tensor of which
something is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlas.layers.optimization.shared.moving import moved, moves
from dlas.layers.optimization.shared.slices import Application, Shape, Slice, Unfollowed, Why

if TYPE_CHECKING:
    from torch import Tensor


def follow(call: Application) -> list[Slice]:
    """Return which part of the original's each result is.

    Raises:
        Unfollowed: the pruned network's operator does not compute that part.
    """
    if not any(part.kept for part in call.given()):
        _same_numbers(call)
        return [Slice(shape) for shape in call.outputs]
    for applies, rule in _RULES:
        if applies(call):
            return rule(call)
    raise call.refuse("an operator that is not followed meets removed channels")


# ---------------------------------------------------------------- kinds of operators


def _tagged(*tags: str) -> Any:
    def applies(call: Application) -> bool:
        import torch

        return bool({getattr(torch.Tag, tag) for tag in tags} & set(call.func.tags))

    return applies


def _named(*names: str) -> Any:
    return lambda call: call.name.rstrip("_") in names


def _starts(*starts: str) -> Any:
    return lambda call: call.name.startswith(starts)


_POINTWISE = (
    "clone", "_to_copy", "copy", "zeros_like", "ones_like", "empty_like", "full_like", "dropout",
    "native_dropout", "_prelu_kernel", "prelu", "hardswish", "detach", "lift_fresh", "contiguous",
    "masked_fill", "where", "rand_like", "randn_like", "alias",
)  # fmt: skip


def _pointwise(call: Application) -> list[Slice]:
    _same_numbers(call)
    return [_broadcast(call, call.given(), shape) for shape in call.outputs]


def _broadcast(call: Application, given: Sequence[Slice], shape: tuple[int, ...]) -> Slice:
    """Check that what meets in an elementwise operator are the same channels."""
    kept: dict[int, Tensor] = {}
    why: dict[int, Why] = {}
    for dim in range(len(shape)):
        there = [
            part.along(dim - len(shape))
            for part in given
            if len(part.shape) >= len(shape) - dim
            and part.shape[dim - len(shape)] == shape[dim]
            and (shape[dim] != 1)
        ]
        partial = [(i, w) for i, w in there if i is not None]
        if not partial:
            continue
        first = partial[0][0]
        if len(partial) != len(there) or any(not _equal(first, i) for i, _ in partial):
            raise call.refuse("different channels meet")
        kept[dim], why[dim] = first, frozenset().union(*(w for _, w in partial))
    return Slice(shape, kept, why)


def _pooled(call: Application) -> list[Slice]:
    """Pooling, interpolation: each channel for itself, over all of its pixels."""
    _same_numbers(call)
    part = call.given()[0]
    spatial = 1 if "1d" in call.name or "linear1d" in call.name else 3 if "3d" in call.name else 2
    if any(dim >= len(part.shape) - spatial for dim in part.kept):
        raise call.refuse("pixels of different channels are mixed")
    return [Slice(shape, part.kept, part.why) for shape in call.outputs]


def _restrided(call: Application) -> list[Slice]:
    """The same elements at the same places under other strides: a pool in channels-last order."""
    (part,) = call.given()
    sides = ((part.shape, call.before), (part.size, call.after))
    if all(_is_whole(shape, *arguments[1:]) for shape, arguments in sides):
        return [part]
    raise call.refuse("its elements are read by their places in memory")


def _is_whole(shape: Sequence[int], *numbers: Any) -> bool:
    """Whether a size and strides are those of a whole tensor, contiguous or channels last."""
    import torch

    rank, empty = len(shape), torch.empty(tuple(shape), device="meta")
    size, strides, offset = numbers[:rank], numbers[rank : 2 * rank], numbers[2 * rank :]
    layouts = [empty.stride()]
    if rank == 4:
        layouts.append(empty.to(memory_format=torch.channels_last).stride())
    return (
        tuple(size) == tuple(shape)
        and not any(offset)
        and any(
            all(
                n == 1 or own == asked
                for n, own, asked in zip(shape, layout, strides, strict=True)
            )
            for layout in layouts
        )
    )


def _batch_norm(call: Application) -> list[Slice]:
    _same_numbers(call)
    part, *rest = call.given()
    channels = Slice((part.shape[1],), *_renamed(part, {1: 0}))
    for other in rest:
        _demand_same(call, channels, 0, other, 0)
    if set(part.kept) - {0, 1}:
        raise call.refuse("pixels of different channels are mixed")
    return [part, *(channels if len(s) == 1 and s[0] else Slice(s) for s in call.outputs[1:])]


def _layer_norm(call: Application) -> list[Slice]:
    part, *rest = call.given()
    for other in rest:
        for dim in range(1, len(other.shape) + 1):
            _demand_same(call, part, -dim, other, -dim)
    return _like(part, call.outputs)


def _group_norm(call: Application) -> list[Slice]:
    part, *rest = call.given()
    for other in rest:
        _demand_same(call, part, 1, other, 0)
    groups, left = call.before[6], part.indices(1)
    if call.after[6] != groups or len(left) % groups or set(part.kept) - {1}:
        raise call.refuse("its groups are others")
    import torch

    was = left // (part.shape[1] // groups)
    now = torch.arange(len(left)) // (len(left) // groups)
    if not torch.equal(was, now):
        raise call.refuse("channels change their group")
    return _like(part, call.outputs)


def _softmax(call: Application) -> list[Slice]:
    _same_numbers(call)
    part = call.given()[0]
    if call.before[1] % len(part.shape) in part.kept:
        raise call.refuse("a softmax runs over channels, which would count the removed ones")
    return [Slice(shape, part.kept, part.why) for shape in call.outputs]


def _reduced(call: Application) -> list[Slice]:
    """Sums over channels may miss those that are zero; means, maxima and variances may not."""
    if call.func._overloadname == "other":
        return _pointwise(call)
    part = call.given()[0]
    out = call.outputs[0]
    dims = _reduced_dims(call, part)
    over = {d for d in dims if d in part.kept}
    if over and call.name not in ("sum", "linalg_vector_norm"):
        raise call.refuse(f"a {call.name} runs over channels, which would count the removed ones")
    if over and call.name == "linalg_vector_norm" and call.before[1] not in (1, 2):
        raise call.refuse("a norm runs over channels, which would count the removed ones")
    left = [d for d in range(len(part.shape)) if d not in dims]
    places = {d: d if len(out) == len(part.shape) else at for at, d in enumerate(left)}
    kept, why = _renamed(part, places)
    return [Slice(shape, kept, why) for shape in call.outputs]


def _reduced_dims(call: Application, part: Slice) -> set[int]:
    at = {"linalg_vector_norm": 2}.get(call.name, 1)
    names = [argument.name for argument in call.func._schema.arguments]
    if "dim" not in names:
        return set(range(len(part.shape)))
    from torch.utils._pytree import tree_unflatten

    args, kwargs = tree_unflatten(list(call.before), call.spec)
    value = kwargs.get("dim", args[at] if len(args) > at else None)
    if value is None or value == []:
        return set(range(len(part.shape)))
    values = [value] if isinstance(value, int) else value
    return {d % len(part.shape) for d in values}


def _product(call: Application) -> list[Slice]:
    """Matrix products, with something added or not."""
    added, (left, right) = (
        ([], call.given()[:2])
        if call.name in ("mm", "bmm", "mv", "dot")
        else (call.given()[:1], call.given()[1:3])
    )
    _same_numbers(call)
    inner = 0 if len(right.shape) == 1 else -2
    _demand_same(call, left, -1, right, inner)
    kept: dict[int, Tensor] = {}
    why: dict[int, Why] = {}
    out = call.outputs[0]
    sources = [(left, d, d) for d in range(len(left.shape) - 1)]
    if len(right.shape) > 1:
        sources.append((right, len(right.shape) - 1, len(out) - 1))
    if call.name in ("bmm", "baddbmm"):
        _demand_same(call, left, 0, right, 0)
    for source, dim, place in sources:
        if dim in source.kept:
            kept[place], why[place] = source.kept[dim], source.why[dim]
    made = Slice(out, kept, why)
    return [_broadcast(call, [made, *added], out)]


def _convolved(call: Application) -> list[Slice]:
    import torch

    flat = list(call.before)
    x, w = call.given()[:2]
    bias = call.given()[2] if len(call.given()) > 2 else None
    transposed = bool(_argument(call, 6))
    was, now = flat[-1], call.after[-1]
    _same_numbers(call, but=(len(flat) - 1,))
    if set(x.kept) - {1} or set(w.kept) - {0, 1}:
        raise call.refuse("pixels of different channels are mixed")
    rows, columns, inputs = w.indices(0), w.indices(1), x.indices(1)
    if transposed:
        out = _transposed(call, rows, columns, inputs, was, now)
    else:
        guilty = x.along(1)[1] | w.along(1)[1]
        if was != 1 or now != 1 or not guilty:
            guilty |= w.along(0)[1]
        if len(rows) % now or len(inputs) != len(columns) * now:
            raise call.refuse("its groups are others", guilty)
        group = torch.arange(len(rows)) // (len(rows) // now)
        reads = inputs.reshape(now, len(columns))[group]
        needed = (rows // (w.shape[0] // was))[:, None] * w.shape[1] + columns
        if not torch.equal(reads, needed):
            raise call.refuse("it reads other channels than before", guilty)
        out = rows
    why = w.groups if transposed else w.why.get(0, frozenset())
    part = Slice(call.outputs[0])
    if len(out) != call.outputs[0][1]:
        part = Slice(call.outputs[0], {1: out}, {1: why})
    if bias is not None:
        _demand_same(call, part, 1, bias, 0)
    return [part]


def _transposed(
    call: Application, rows: Tensor, columns: Tensor, inputs: Tensor, was: int, now: int
) -> Tensor:
    import torch

    if not _equal(rows, inputs) or len(rows) % now:
        raise call.refuse("it reads other channels than before")
    w = call.given()[1]
    of = (rows // (w.shape[0] // was)).reshape(now, -1)
    if not torch.equal(of, of[:, :1].expand_as(of)):
        raise call.refuse("channels change their group")
    return (of[:, :1] * w.shape[1] + columns).flatten()


def _argument(call: Application, place: int) -> Any:
    from torch.utils._pytree import tree_unflatten

    return tree_unflatten(list(call.before), call.spec)[0][place]


# ---------------------------------------------------------------- what the rules share


def _same_numbers(call: Application, but: Sequence[int] = ()) -> None:
    """Refuse numbers that depend on the width: a scale by the number of channels."""
    for place, (was, now) in enumerate(zip(call.before, call.after, strict=True)):
        if isinstance(was, Shape) or place in but or call.func._schema.name in _SIZED:
            continue
        same = was == now or (was != was and now != now)
        if not same:
            raise Unfollowed(
                f"it computes with a number that depends on the width, {was} before and {now} "
                f"after ({call.name.strip('_')})",
                call.groups,
            )


_SIZED = frozenset(
    f"aten::{name}" for name in ("zeros", "ones", "empty", "arange", "view", "expand")
)
"""Operators whose numbers are sizes: shapes tell whether these fit."""


def _demand_same(call: Application, one: Slice, dim: int, other: Slice, at: int) -> None:
    (mine, why), (yours, too) = one.along(dim), other.along(at)
    if mine is None and yours is None:
        return
    if mine is None or yours is None or not _equal(mine, yours):
        raise call.refuse("it reads other channels than before", why | too)


def _like(part: Slice, shapes: Sequence[tuple[int, ...]]) -> list[Slice]:
    """Return the same part for results of its shape; others (statistics) are whole."""
    same = part.shape
    return [Slice(s, part.kept, part.why) if s == same else Slice(s) for s in shapes]


def _equal(one: Tensor, other: Tensor) -> bool:
    import torch

    return torch.equal(one, other)


def _renamed(part: Slice, places: Mapping[int, int]) -> tuple[dict[int, Tensor], dict[int, Why]]:
    kept = {places[d]: i for d, i in part.kept.items() if d in places}
    return kept, {places[d]: w for d, w in part.why.items() if d in places}


_RULES: Sequence[tuple[Any, Any]] = (
    (_named("convolution"), _convolved),
    (_named("mm", "bmm", "mv", "dot", "addmm", "baddbmm", "addmv"), _product),
    (_named("as_strided"), _restrided),
    (_starts("native_batch_norm", "_native_batch_norm", "_batch_norm"), _batch_norm),
    (_named("native_layer_norm"), _layer_norm),
    (_named("native_group_norm"), _group_norm),
    (_starts("_softmax", "_log_softmax", "_safe_softmax"), _softmax),
    (_starts("avg_pool", "max_pool", "adaptive_", "_adaptive_", "upsample_", "_upsample_"),
     _pooled),
    (_named("sum", "mean", "amax", "amin", "var", "std", "var_mean", "linalg_vector_norm", "max",
            "min", "logsumexp", "prod", "any", "all", "argmax", "argmin", "norm"), _reduced),
    (_named(*_POINTWISE), _pointwise),
    (moves, moved),
    (_tagged("pointwise"), _pointwise),
)  # fmt: skip
