"""Small torch networks with the parts of real ones; importing this loads torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from dlas.core.protocols import DataSpec
from dlas.testing.patches import patches


class Block(nn.Module):  # type: ignore[misc]
    """Two convolutions with batch norms around a skip connection."""

    def __init__(self, inp: int, out: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(inp, out, 3, stride, 1, bias=False)
        self.b = nn.BatchNorm2d(out)
        self.c = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.d = nn.BatchNorm2d(out)
        self.skip = nn.Conv2d(inp, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the block."""
        return torch.relu(self.d(self.c(torch.relu(self.b(self.a(x))))) + self.skip(x))


def residual(spec: DataSpec) -> nn.Module:
    """Return a residual network of two blocks."""
    stem = nn.Sequential(nn.Conv2d(spec.channels, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, spec.classes))
    return nn.Sequential(stem, Block(16, 16, 1), Block(16, 32, 2), head)


def depthwise(spec: DataSpec) -> nn.Module:
    """Return a network of two depthwise separable convolutions."""

    def pair(inp: int, out: int, stride: int) -> list[nn.Module]:
        return [
            *(nn.Conv2d(inp, inp, 3, stride, 1, groups=inp, bias=False), nn.BatchNorm2d(inp)),
            *(nn.ReLU6(), nn.Conv2d(inp, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU6()),
        ]

    stem = [nn.Conv2d(spec.channels, 16, 3, 2, 1), nn.SiLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, spec.classes)]
    return nn.Sequential(*stem, *pair(16, 24, 1), *pair(24, 32, 2), *head)


def plain(spec: DataSpec) -> nn.Module:
    """Return one convolution and a linear layer: what a slow compiler is given."""
    stem = [nn.Conv2d(spec.channels, 16, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*stem, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, spec.classes))


NETS: dict[str, Callable[[DataSpec], nn.Module]] = {
    "residual": residual,
    "depthwise": depthwise,
    "plain": plain,
}


def seasoned(module: nn.Module, spec: DataSpec) -> nn.Module:
    """Let batch norms see images, so that folding them wrongly shows; return it in eval mode.

    The last layer is made larger, so that the outputs of different images differ.
    """
    module.train()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None  # the mean over all batches seen
    images = torch.from_numpy(patches(8, spec.channels, spec.height, spec.width))
    with torch.no_grad():
        for _ in range(2):
            module(images * 1.5 + 0.3)
        last = [m for m in module.modules() if isinstance(m, nn.Linear)][-1]
        last.weight *= 8
    return module.eval()
