"""Weights that are computed from others become what they are: parametrizations, hooks, masks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def make_permanent(module: nn.Module) -> tuple[str, ...]:
    """Replace every weight that is computed from others by its value, in place; say which.

    Those are ``torch.nn.utils.parametrize`` (weight norm, spectral norm, orthogonal, the user's
    own), weight norm and spectral norm by hooks, and the masks of ``torch.nn.utils.prune``. In
    eval mode the value is the same at every inference, and it is what a deployment stores.
    """
    module.eval()
    return tuple(
        f"{name}.{tensor}" if name else tensor
        for name, part in list(module.named_modules())
        for tensor in _fixed(part)
    )


def _fixed(part: Any) -> Iterator[str]:
    from torch.nn.utils import parametrize, prune
    from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
    from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

    if parametrize.is_parametrized(part):
        for tensor in list(part.parametrizations):
            parametrize.remove_parametrizations(part, tensor, leave_parametrized=True)
            yield tensor
    for hook in list(part._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            prune.remove(part, hook._tensor_name)
            yield hook._tensor_name
        elif isinstance(hook, WeightNorm):
            remove_weight_norm(part, hook.name)
            yield hook.name
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(part, hook.name)
            yield hook.name


def copied(module: nn.Module) -> nn.Module:
    """Return a copy in eval mode whose weights are permanent; the given module is not changed.

    ``copy.deepcopy`` alone refuses a weight that is the result of a computation.
    """
    import torch

    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    made = copy.deepcopy(module, memo)
    make_permanent(made)
    return made
