"""A module as it is deployed: no wrappers, and the weight that is used instead of its parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlas.core.errors import UserError


def unwrapped(module: Any) -> Any:
    """Return what DataParallel or ``torch.compile`` was wrapped around, else the module itself.

    Raises:
        UserError: it is no module, or one of TorchScript, whose layers cannot be seen.
    """
    import torch

    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, parallel):
            module = module.module
        elif type(module).__name__ == "OptimizedModule":  # its import takes a second
            module = module._orig_mod
        else:
            break
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError(
            "a model must be a plain torch.nn.Module, got a TorchScript one (torch.jit.script or "
            "trace), which can be neither exported nor looked into: return the module that was "
            "scripted, or export it to ONNX and give it as `onnx`."
        )
    if not isinstance(module, torch.nn.Module):
        raise UserError(f"a model must be a torch.nn.Module, got {type(module).__name__}.")
    return module


def make_permanent(module: Any) -> tuple[str, ...]:
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


def refuse_not_finite(module: Any, whose: str) -> None:
    """Refuse a module with NaN in a parameter or buffer, or infinity in a parameter.

    Raises:
        UserError: naming the tensors. A buffer may be infinite: masks of attention are.
    """
    import torch

    wrong = []
    for name, tensor in module.named_parameters():
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            wrong.append(f"{name} ({bad} of {tensor.numel()} values)")
    for name, tensor in module.named_buffers():
        bad = int(torch.isnan(tensor).sum()) if tensor.is_floating_point() else 0
        if bad:
            wrong.append(f"{name} ({bad} of {tensor.numel()} values)")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(
            f"{whose} are not numbers (NaN or infinite) in {', '.join(wrong[:5])}{more}: "
            "training diverged, or the file is damaged. Take an earlier checkpoint."
        )
