"""A first inference of a module: does it take the problem's images, and always the same way?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlas.core.errors import StepError

if TYPE_CHECKING:
    from torch import Tensor
    from torch._ops import OpOverload

    from dlas.core.protocols import DataSpec

OTHER_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Batches that are tried when the problem's is refused, so that the reason can name one."""


def check_outputs(module: Any, spec: DataSpec, owner: str) -> None:
    """Run one batch of the problem's images through a module, twice.

    Raises:
        StepError: it does not take them, does not return one row of logits an image, writes to
            its input, or gives other outputs the second time.
    """
    import torch

    x = torch.randn(spec.shape, generator=torch.Generator().manual_seed(0))
    given = x.clone()
    out = _run(module, x, spec, owner)
    _check_shape(out, spec, owner)
    if x._version:
        raise StepError(
            f"{owner} writes to its input, which the caller still needs: compute a new tensor in "
            "forward, e.g. `x = (x - 0.5) / 0.25` instead of `x.sub_(0.5).div_(0.25)`"
        )
    again = _run(module, given, spec, owner)
    if not torch.equal(out.nan_to_num(), again.nan_to_num()):
        raise StepError(
            f"{owner} is not deterministic: in eval mode the same images give outputs that differ "
            f"by up to {float((out - again).abs().max()):.3g}{_who(module, given)}"
        )
    # What modules remember of these inferences (attention biases in levit) is forgotten.
    module.train()
    module.eval()


def _run(module: Any, x: Tensor, spec: DataSpec, owner: str) -> Any:
    import torch

    try:
        with torch.no_grad():
            return module(x)
    except Exception as error:  # what a stranger's forward raises is unknown
        raise StepError(
            f"{owner} does not take images of {tuple(x.shape)}{_batches(module, spec)}: "
            f"{type(error).__name__}: {_first_line(error)}{_double(error)}"
        ) from error


def _check_shape(out: Any, spec: DataSpec, owner: str) -> None:
    import torch

    needed = (spec.batch, spec.classes)
    said = f"for images of {spec.shape}, needed: a tensor of {needed}"
    if isinstance(out, torch.Tensor):
        if tuple(out.shape) != needed:
            raise StepError(f"{owner} returns {tuple(out.shape)} {said}")
        return
    way = "Give a factory whose forward returns one tensor"
    if isinstance(out, dict) and out:
        names = ", ".join(repr(name) for name in out)
        way += f", one of the entries {names}"
    elif isinstance(out, tuple | list):
        way += f", one of the {len(out)} that it returns now"
    raise StepError(f"{owner} returns a {type(out).__name__} {said}. {way}.")


def _batches(module: Any, spec: DataSpec) -> str:
    """Tell which batches a module takes instead, ``""``: none that was tried."""
    import torch

    for batch in OTHER_BATCHES:
        if batch == spec.batch:
            continue
        try:
            with torch.no_grad():
                out = module(torch.zeros((batch, *spec.shape[1:])))
        except Exception:  # the reason is told of the batch that was asked
            continue
        if isinstance(out, torch.Tensor) and tuple(out.shape) == (batch, spec.classes):
            return (
                f", but of batch {batch}: a batch is written into it (a `view` with a number?). "
                f"Write x.shape[0] there, or give the data set `batch: {batch}`"
            )
    return ""


def _who(module: Any, x: Tensor) -> str:
    """Name the operators that draw random numbers, and the modules that they run in."""
    import torch

    mode = _random_operators()
    with torch.no_grad(), mode.tracker, mode:
        module(x)
    if not mode.seen:
        return ". It draws random numbers, or remembers what it has seen"
    return (
        f". Random numbers are drawn by {', '.join(mode.seen)}: dropout needs "
        "`training=self.training`, or be a torch.nn.Dropout"
    )


def _random_operators() -> Any:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.module_tracker import ModuleTracker

    class Noting(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.tracker = ModuleTracker()
            self.seen: dict[str, None] = {}

        def __torch_dispatch__(
            self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if torch.Tag.nondeterministic_seeded in func.tags:
                inside = [p for p in self.tracker.parents if "." in p]
                where = max(inside, key=len).partition(".")[2] if inside else "its own forward"
                self.seen[f"{func._overloadpacket.__name__} in {where}"] = None
            return func(*args, **(kwargs or {}))

    return Noting()


def _double(error: Exception) -> str:
    said = str(error).lower()
    is_it = "double" in said or "float64" in said
    return " (parameters are made float32: take `.double()` out of forward)" if is_it else ""


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
