"""Which part of an original tensor a pruned tensor is, followed through one operator.

The rules are for torch's ATen operators, by kind: elementwise ones, those that only move elements
(followed by the numbers of the elements themselves), pooling, products, norms, sums. Whatever has
no rule is refused as soon as it meets a tensor of which something is missing.
"""

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
class Part:
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
class Call:
    """One operator in both networks: arguments flattened, with their parts where tensors."""

    func: OpOverload
    spec: Any
    before: Sequence[Any]
    """Of the original: numbers, and tensors as :class:`Shape`."""
    after: Sequence[Any]
    """Of the pruned network: numbers and tensors."""
    parts: Sequence[Part | None]
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

    def given(self) -> list[Part]:
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


def follow(call: Call) -> list[Part]:
    """Return which part of the original's each result is.

    Raises:
        Unfollowed: the pruned network's operator does not compute that part.
    """
    if not any(part.kept for part in call.given()):
        _same_numbers(call)
        return [Part(shape) for shape in call.outputs]
    for applies, rule in _RULES:
        if applies(call):
            return rule(call)
    raise call.refuse("an operator that is not followed meets removed channels")


# ---------------------------------------------------------------- kinds of operators


def _tagged(*tags: str) -> Any:
    def applies(call: Call) -> bool:
        import torch

        return bool({getattr(torch.Tag, tag) for tag in tags} & set(call.func.tags))

    return applies


def _named(*names: str) -> Any:
    return lambda call: call.name.rstrip("_") in names


def _starts(*starts: str) -> Any:
    return lambda call: call.name.startswith(starts)


def _moves(call: Call) -> bool:
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
_POINTWISE = (
    "clone", "_to_copy", "copy", "zeros_like", "ones_like", "empty_like", "full_like", "dropout",
    "native_dropout", "_prelu_kernel", "prelu", "hardswish", "detach", "lift_fresh", "contiguous",
    "masked_fill", "where", "rand_like", "randn_like", "alias",
)  # fmt: skip


def _pointwise(call: Call) -> list[Part]:
    _same_numbers(call)
    return [_broadcast(call, call.given(), shape) for shape in call.outputs]


def _broadcast(call: Call, given: Sequence[Part], shape: tuple[int, ...]) -> Part:
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
    return Part(shape, kept, why)


def _moved(call: Call) -> list[Part]:
    """Move the numbers of the elements, in both networks; they have to agree."""
    import torch

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


def _numbers(call: Call, *, whole: bool) -> list[Tensor | None]:
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


def _masks(call: Call, only: tuple[int, int] | None = None) -> list[Tensor | None]:
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


def _origins(call: Call) -> Iterator[tuple[Why, list[Tensor]]]:
    """Give, for each dimension of each argument, where in the results something of it is gone."""
    for place, part in enumerate(call.parts):
        for dim, why in part.why.items() if part else ():
            yield why, _results(call, call.before, _masks(call, (place, dim)), padding=1.0)


def _results(
    call: Call, arguments: Sequence[Any], numbers: Sequence[Tensor | None], padding: float = 0.0
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
    call: Call, mask: Tensor, at: int, origins: Sequence[tuple[Why, list[Tensor]]]
) -> Part:
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
    return Part(tuple(mask.shape), kept, why)


def _line(mask: Tensor, dim: int) -> Tensor:
    others = [d for d in range(mask.dim()) if d != dim]
    return mask.amax(others) if others else mask


def _pooled(call: Call) -> list[Part]:
    """Pooling, interpolation: each channel for itself, over all of its pixels."""
    _same_numbers(call)
    part = call.given()[0]
    spatial = 1 if "1d" in call.name or "linear1d" in call.name else 3 if "3d" in call.name else 2
    if any(dim >= len(part.shape) - spatial for dim in part.kept):
        raise call.refuse("pixels of different channels are mixed")
    return [Part(shape, part.kept, part.why) for shape in call.outputs]


def _batch_norm(call: Call) -> list[Part]:
    _same_numbers(call)
    part, *rest = call.given()
    channels = Part((part.shape[1],), *_renamed(part, {1: 0}))
    for other in rest:
        _demand_same(call, channels, 0, other, 0)
    if set(part.kept) - {0, 1}:
        raise call.refuse("pixels of different channels are mixed")
    return [part, *(channels if len(s) == 1 and s[0] else Part(s) for s in call.outputs[1:])]


def _layer_norm(call: Call) -> list[Part]:
    part, *rest = call.given()
    for other in rest:
        for dim in range(1, len(other.shape) + 1):
            _demand_same(call, part, -dim, other, -dim)
    return _like(part, call.outputs)


def _group_norm(call: Call) -> list[Part]:
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


def _softmax(call: Call) -> list[Part]:
    _same_numbers(call)
    part = call.given()[0]
    if call.before[1] % len(part.shape) in part.kept:
        raise call.refuse("a softmax runs over channels, which would count the removed ones")
    return [Part(shape, part.kept, part.why) for shape in call.outputs]


def _reduced(call: Call) -> list[Part]:
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
    return [Part(shape, kept, why) for shape in call.outputs]


def _reduced_dims(call: Call, part: Part) -> set[int]:
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


def _product(call: Call) -> list[Part]:
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
    made = Part(out, kept, why)
    return [_broadcast(call, [made, *added], out)]


def _convolved(call: Call) -> list[Part]:
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
    part = Part(call.outputs[0])
    if len(out) != call.outputs[0][1]:
        part = Part(call.outputs[0], {1: out}, {1: why})
    if bias is not None:
        _demand_same(call, part, 1, bias, 0)
    return [part]


def _transposed(
    call: Call, rows: Tensor, columns: Tensor, inputs: Tensor, was: int, now: int
) -> Tensor:
    import torch

    if not _equal(rows, inputs) or len(rows) % now:
        raise call.refuse("it reads other channels than before")
    w = call.given()[1]
    of = (rows // (w.shape[0] // was)).reshape(now, -1)
    if not torch.equal(of, of[:, :1].expand_as(of)):
        raise call.refuse("channels change their group")
    return (of[:, :1] * w.shape[1] + columns).flatten()


def _argument(call: Call, place: int) -> Any:
    from torch.utils._pytree import tree_unflatten

    return tree_unflatten(list(call.before), call.spec)[0][place]


# ---------------------------------------------------------------- what the rules share


def _same_numbers(call: Call, but: Sequence[int] = ()) -> None:
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


def _demand_same(call: Call, one: Part, dim: int, other: Part, at: int) -> None:
    (mine, why), (yours, too) = one.along(dim), other.along(at)
    if mine is None and yours is None:
        return
    if mine is None or yours is None or not _equal(mine, yours):
        raise call.refuse("it reads other channels than before", why | too)


def _like(part: Part, shapes: Sequence[tuple[int, ...]]) -> list[Part]:
    """Return the same part for results of its shape; others (statistics) are whole."""
    same = part.shape
    return [Part(s, part.kept, part.why) if s == same else Part(s) for s in shapes]


def _equal(one: Tensor, other: Tensor) -> bool:
    import torch

    return torch.equal(one, other)


def _renamed(part: Part, places: Mapping[int, int]) -> tuple[dict[int, Tensor], dict[int, Why]]:
    kept = {places[d]: i for d, i in part.kept.items() if d in places}
    return kept, {places[d]: w for d, w in part.why.items() if d in places}


_RULES: Sequence[tuple[Any, Any]] = (
    (_named("convolution"), _convolved),
    (_named("mm", "bmm", "mv", "dot", "addmm", "baddbmm", "addmv"), _product),
    (_starts("native_batch_norm", "_native_batch_norm", "_batch_norm"), _batch_norm),
    (_named("native_layer_norm"), _layer_norm),
    (_named("native_group_norm"), _group_norm),
    (_starts("_softmax", "_log_softmax", "_safe_softmax"), _softmax),
    (_starts("avg_pool", "max_pool", "adaptive_", "_adaptive_", "upsample_", "_upsample_"),
     _pooled),
    (_named("sum", "mean", "amax", "amin", "var", "std", "var_mean", "linalg_vector_norm", "max",
            "min", "logsumexp", "prod", "any", "all", "argmax", "argmin", "norm"), _reduced),
    (_named(*_POINTWISE), _pointwise),
    (_moves, _moved),
    (_tagged("pointwise"), _pointwise),
)  # fmt: skip


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
