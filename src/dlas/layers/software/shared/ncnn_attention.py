"""Attention as PyTorch's own module, which pnnx makes one layer of ncnn's; loads torch.

timm takes queries, keys and values out of one tensor of five dimensions; ncnn's have four at most.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class JoinedAttention(nn.Module):
    """What timm's ``Attention`` computes, by ``nn.MultiheadAttention`` with the same weights."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        width, bias = given.qkv.in_features, given.qkv.bias is not None
        self.inner = nn.MultiheadAttention(width, given.num_heads, bias=bias, batch_first=True)
        with torch.no_grad():
            self.inner.in_proj_weight.copy_(given.qkv.weight)
            self.inner.out_proj.weight.copy_(given.proj.weight)
            if bias:
                self.inner.in_proj_bias.copy_(given.qkv.bias)
                self.inner.out_proj.bias.copy_(given.proj.bias)
        self.eval()

    def forward(self, x: Any, attn_mask: Any = None, is_causal: bool = False) -> Any:
        """Compute attention of tokens to one another, ``(batch, tokens, width)``; no mask."""
        if attn_mask is not None or is_causal:
            raise ValueError("attention with a mask cannot be joined")
        return self.inner(x, x, x, need_weights=False)[0]


def joined(module: nn.Module) -> nn.Module:
    """Replace timm's attention in a module, where it is the plain one, and return the module."""
    for name, child in list(module.named_modules()):
        if name and _is_plain(child):
            module.set_submodule(name, JoinedAttention(child))
    return module


def _is_plain(child: Any) -> bool:
    """Whether a module is timm's attention without norms, gates or other widths within it."""
    kind = type(child)
    if (kind.__module__, kind.__qualname__) != ("timm.layers.attention", "Attention"):
        return False
    between = (child.q_norm, child.k_norm, getattr(child, "norm", nn.Identity()))
    width = child.qkv.in_features
    return (
        all(isinstance(each, nn.Identity) for each in between)
        and getattr(child, "gate", None) is None
        and child.qkv.out_features == 3 * width
        and (child.proj.in_features, child.proj.out_features) == (width, width)
        and (child.qkv.bias is None) == (child.proj.bias is None)
    )
