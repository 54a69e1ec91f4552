"""A module as it is deployed: without what it was wrapped in, and with numbers for weights."""

from __future__ import annotations

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


def materialized(module: Any, shape: tuple[int, ...]) -> Any:
    """Return a module whose lazy layers have their sizes: it has seen an image of a shape."""
    import torch
    from torch.nn.parameter import is_lazy

    if not isinstance(module, torch.nn.Module):
        return module
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        training = module.training
        with torch.no_grad():
            module.eval()(torch.zeros(shape))
        module.train(training)
    return module


def refuse_without_numbers(module: Any) -> None:
    """Refuse a module of shapes alone.

    Raises:
        UserError: a parameter or buffer is on the device ``meta``.
    """
    named = (*module.named_parameters(), *module.named_buffers())
    if missing := [name for name, tensor in named if tensor.is_meta]:
        raise UserError(
            f"{len(missing)} tensors of the network have a shape and no numbers, {missing[0]} "
            "among them (device 'meta'): make them on the CPU, e.g. by module.to_empty and an "
            "initialization."
        )


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
        if name.rpartition(".")[2] == "running_var":
            bad += int((tensor < 0).sum())  # its root is not a number
        if bad:
            wrong.append(f"{name} ({bad} of {tensor.numel()} values)")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(
            f"{whose} are not numbers (NaN or infinite) in {', '.join(wrong[:5])}{more}: "
            "training diverged, or the file is damaged. Take an earlier checkpoint."
        )
