"""The networks of the benchmarks, with weights that keep every layer's output alive."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CIFAR_FORM = "cifar-form:"
"""What names of networks in CIFAR's form begin with, as in `cifar-form:resnet-18`."""


def make(
    name: str, size: int, zeros: float = 0.0, by_magnitude: bool = False, channels: float = 0.0
) -> Any:
    """Return a network of timm by name, or one in CIFAR's form.

    `zeros`: share of weights set to zero in every layer. `channels`: share of channels that a
    study's `channel-pruning` takes away; what is left need not be a multiple of anything.
    """
    import torch

    torch.manual_seed(0)
    model = _network(name, size)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Networks that start their last norms at zero would hide whole branches.
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    if channels:
        model = _without_channels(name, model, size, channels)
    for module in model.modules():
        if zeros and isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            weight = module.weight.data
            score = weight.abs() if by_magnitude else torch.rand_like(weight)
            cut = score.flatten().kthvalue(max(1, int(zeros * weight.numel()))).values
            weight[score <= cut] = 0
    return model


def _network(name: str, size: int) -> Any:
    if name.startswith(CIFAR_FORM):
        from dlas.core import registry

        form: Any = registry.make("model", "cifar-form", {"name": name.removeprefix(CIFAR_FORM)})
        return form.build(_Problem(_spec(name, size))).module.eval()
    import timm

    options = {"img_size": size} if name.startswith("vit") else {}
    return timm.create_model(name, pretrained=False, **options).eval()


def _without_channels(name: str, model: Any, size: int, ratio: float) -> Any:
    from dlas.core import registry
    from dlas.core.protocols import Network

    params = {"ratio": ratio, "epochs": 0}
    pruning: Any = registry.make("optimization", "channel-pruning", params)
    with tempfile.TemporaryDirectory() as folder:
        done = pruning.apply(Network(_spec(name, size), model), None, Path(folder))
    return done.network.module.eval()


def _spec(name: str, size: int) -> Any:
    from dlas.core.protocols import DataSpec

    return DataSpec(10 if name.startswith(CIFAR_FORM) else 1000, 3, size, size)


@dataclass(frozen=True)
class _Problem:
    """What a model is built for, without data."""

    shape: Any

    def spec(self) -> Any:
        """Return the shape of the problem."""
        return self.shape
