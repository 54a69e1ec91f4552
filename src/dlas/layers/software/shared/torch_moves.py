"""The operators of ONNX that move values and compute nothing, each as PyTorch does it.

The meaning is that of ONNX from opset 13 on; see ``torch_operators``, which has the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

Run = Callable[..., Any]
_DTYPES = {
    1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16,
    11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
"""ONNX's numbers of types."""


@dataclass(frozen=True)
class Fixed:
    """What is known of an operator before it runs: attributes, and which inputs are constants."""

    attrs: Mapping[str, Any]
    constants: tuple[torch.Tensor | None, ...]
    """By place; None: computed, or left out."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return self.attrs.get(name, default)

    def ints(self, at: int, name: str = "") -> list[int] | None:
        """Return whole numbers that are a constant input or, before that, an attribute."""
        if name and name in self.attrs:
            return [int(each) for each in self.attrs[name]]
        if at >= len(self.constants) or self.constants[at] is None:
            return None
        found = self.constants[at]
        return [int(each) for each in found.reshape(-1).tolist()]  # type: ignore[union-attr]

    def needed(self, at: int, name: str = "") -> list[int]:
        """Return whole numbers that must be known.

        Raises:
            ValueError: they are computed.
        """
        found = self.ints(at, name)
        if found is None:
            raise ValueError(f"its input {at} is computed: it has to be a constant")
        return found


Maker = Callable[[Fixed], Run]
MOVES: dict[str, Maker] = {}


def _operator(name: str) -> Callable[[Maker], Maker]:
    def named(maker: Maker) -> Maker:
        MOVES[name] = maker
        return maker

    return named


@_operator("Reshape")
def _reshape(given: Fixed) -> Run:
    asked, zero = given.needed(1), bool(given.get("allowzero", 0))

    def run(x: Any, shape: Any) -> Any:
        return x.reshape([x.shape[at] if n == 0 and not zero else n for at, n in enumerate(asked)])

    return run


@_operator("Flatten")
def _flatten(given: Fixed) -> Run:
    axis = given.get("axis", 1)

    def run(x: Any) -> Any:
        at = axis + x.dim() if axis < 0 else axis
        return x.reshape(math.prod(x.shape[:at]), -1)

    return run


@_operator("Transpose")
def _transpose(given: Fixed) -> Run:
    order = given.get("perm")
    return lambda x: x.permute(order or list(reversed(range(x.dim()))))


@_operator("Squeeze")
def _squeeze(given: Fixed) -> Run:
    axes = given.ints(1, "axes")
    return lambda x, *rest: torch.squeeze(x, tuple(axes)) if axes else torch.squeeze(x)


@_operator("Unsqueeze")
def _unsqueeze(given: Fixed) -> Run:
    axes = given.needed(1, "axes")

    def run(x: Any, *rest: Any) -> Any:
        for axis in sorted(each % (x.dim() + len(axes)) for each in axes):
            x = x.unsqueeze(axis)
        return x

    return run


@_operator("Expand")
def _expand(given: Fixed) -> Run:
    shape = given.needed(1)
    return lambda x, asked: x.expand(torch.broadcast_shapes(x.shape, shape))


@_operator("Tile")
def _tile(given: Fixed) -> Run:
    times = given.needed(1)
    return lambda x, asked: x.repeat(times)


@_operator("Concat")
def _concat(given: Fixed) -> Run:
    axis = given.get("axis")
    return lambda *parts: torch.cat(parts, axis)


@_operator("Split")
def _split(given: Fixed) -> Run:
    axis, sizes, count = given.get("axis", 0), given.ints(1, "split"), given.get("num_outputs")

    def run(x: Any, *rest: Any) -> Any:
        if sizes:
            return torch.split(x, sizes, axis)
        return torch.split(x, -(-x.shape[axis] // count), axis)

    if not sizes and not count:
        raise ValueError("it does not say into how many parts")
    return run


@_operator("Slice")
def _slice(given: Fixed) -> Run:
    starts, ends = given.needed(1), given.needed(2)
    axes, steps = given.ints(3) or list(range(len(starts))), given.ints(4) or [1] * len(starts)
    if min(steps) < 1:
        raise ValueError("it goes backwards")

    def run(x: Any, *rest: Any) -> Any:
        parts = [slice(None)] * x.dim()
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            parts[axis] = slice(start, end, step)
        return x[tuple(parts)]

    return run


@_operator("Gather")
def _gather(given: Fixed) -> Run:
    axis, picked = given.get("axis", 0), given.needed(1)
    shape = given.constants[1].shape  # type: ignore[union-attr]

    def run(x: Any, indices: Any) -> Any:
        at, size = axis % x.dim(), x.shape[axis]
        if len(shape) == 0:
            return x.select(at, picked[0] % size)
        return x.index_select(at, indices.reshape(-1) % size).reshape(
            [*x.shape[:at], *shape, *x.shape[at + 1 :]]
        )

    return run


@_operator("Pad")
def _pad(given: Fixed) -> Run:
    pads, axes, mode = given.needed(1), given.ints(3), given.get("mode", "constant")
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    if mode not in names:
        raise ValueError(f"its mode is {mode}")
    value = given.constants[2] if len(given.constants) > 2 else None
    fill = None if value is None else float(value)
    half = len(pads) // 2

    def run(x: Any, *rest: Any) -> Any:
        sides = [(0, 0)] * x.dim()
        for at, axis in enumerate(axes or range(half)):
            sides[axis] = pads[at], pads[half + at]
        while len(sides) > 1 and sides[0] == (0, 0):
            sides = sides[1:]
        flat = [side for pair in reversed(sides) for side in pair]
        return F.pad(x, flat, names[mode], fill)

    return run


@_operator("Cast")
def _cast(given: Fixed) -> Run:
    kind = _DTYPES.get(given.get("to"))
    if kind is None:
        raise ValueError(f"it casts to ONNX's type {given.get('to')}")
    return lambda x: x.to(kind)


@_operator("DepthToSpace")
def _depth_to_space(given: Fixed) -> Run:
    size = given.get("blocksize")
    if given.get("mode", "DCR") != "CRD":
        raise ValueError("its mode is DCR")
    return lambda x: F.pixel_shuffle(x, size)
