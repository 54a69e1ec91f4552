"""Which of torch's operators multiply and accumulate: formulas, what is free, what is unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch._ops import OpOverload

# Operators without a product that neither torch's tags nor their schema tell: by whole names, and
# by beginnings. Interpolation, pooling and norms count as free, as in torch's and fvcore's counts.
_FREE = frozenset((
    "_prelu_kernel", "prelu", "glu", "hardswish", "_to_copy", "_unsafe_view", "arange", "cat",
    "cumsum", "cumprod", "empty", "eye", "full", "im2col", "col2im", "index_select", "gather",
    "scatter", "scatter_add", "index", "index_put", "repeat", "roll", "flip", "stack",
    "unsafe_split", "unsafe_chunk", "zeros", "ones", "sort", "topk", "argsort", "argmax",
    "argmin", "max", "min", "embedding", "one_hot", "nonzero", "masked_select", "masked_fill",
    "linspace", "bucketize", "searchsorted", "tril", "triu", "clone", "copy", "contiguous",
    "new_zeros", "new_ones", "new_full", "new_empty", "detach", "lift_fresh",
    "_local_scalar_dense", "item", "bernoulli", "native_dropout", "multinomial", "diag_embed",
    "block_diag", "tril_indices", "triu_indices", "rot90", "repeat_interleave",
    "unfold_backward", "is_nonzero", "equal", "_unique2", "unique_dim", "dropout",
    "scalar_tensor", "randn", "rand", "randint", "randperm", "normal", "uniform", "isin",
    "resolve_conj", "resolve_neg", "rms_norm", "_fused_rms_norm", "aminmax", "mode", "median",
    "nanmedian", "kthvalue", "histc", "_weight_norm_interface", "_linalg_check_errors",
    "grid_sampler_2d", "grid_sampler_3d",
))  # fmt: skip
_FREE_STARTS = (
    "native_batch_norm", "_native_batch_norm", "native_layer_norm", "native_group_norm",
    "_batch_norm", "adaptive_", "_adaptive_", "avg_pool", "max_pool", "mkldnn_max_pool",
    "fractional_max_pool", "upsample_", "_upsample_", "pixel_", "native_channel_shuffle",
    "channel_shuffle", "reflection_pad", "replication_pad", "constant_pad", "_softmax",
    "_log_softmax", "_safe_softmax", "scatter_", "index_", "empty_", "zeros_", "ones_", "full_",
    "rand", "_assert",
)  # fmt: skip


def products(func: OpOverload, args: Sequence[Any], out: Any) -> int | None:
    """Return the multiply-accumulates of an operator, None: it is not known to have any."""
    from torch.utils.flop_counter import flop_registry

    name = func._overloadpacket.__name__
    if name in _OWN and func.namespace == "aten":
        return _OWN[name](args)
    formula = flop_registry.get(func._overloadpacket)
    return None if formula is None else int(formula(*args, out_val=out)) // 2


def operands(func: OpOverload, args: Sequence[Any]) -> tuple[Any, ...]:
    """Return what an operator multiplies: its arguments but for what is added (a bias)."""
    name = func._overloadpacket.__name__
    if name in ("addmm", "baddbmm", "addmv", "addbmm"):
        return tuple(args[1:3])
    if name in ("mkldnn_rnn_layer",):
        return tuple(args[:3])
    return tuple(args[:2])


def is_free(func: OpOverload) -> bool:
    """Return whether an operator is known to accumulate no products."""
    import torch

    if {torch.Tag.pointwise, torch.Tag.reduction, torch.Tag.view_copy} & set(func.tags):
        return True
    if any(result.alias_info for result in func._schema.returns):
        return True  # a view, or one that writes into an argument of the same kind
    name = func._overloadpacket.__name__
    own = func.namespace in ("aten", "prim", "prims")
    return own and (name.rstrip("_") in _FREE or name.startswith(_FREE_STARTS))


def _vector(args: Sequence[Tensor]) -> int:
    return int(args[0].numel())


def _added_vector(args: Sequence[Tensor]) -> int:
    return int(args[1].numel())


def _recurrent(args: Sequence[Any]) -> int:
    """One layer in one direction: each weight of input and state once a step and sequence."""
    inputs, of_input, of_state = args[:3]
    steps = inputs.numel() // inputs.shape[-1]
    return int(steps * (of_input.numel() + of_state.numel()))


def _added_batches(args: Sequence[Tensor]) -> int:
    return int(args[1].numel() * args[2].shape[-1])


_OWN: Mapping[str, Callable[[Sequence[Any]], int]] = {
    "mv": _vector,
    "dot": _vector,
    "vdot": _vector,
    "addmv": _added_vector,
    "addbmm": _added_batches,
    "mkldnn_rnn_layer": _recurrent,
}
"""What torch's own counter leaves out."""
