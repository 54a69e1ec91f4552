"""A quantized network in a folder, run by PyTorch's quantized kernels (``torch.ops.quantized``).

``network.json`` holds the operations, ``numbers.safetensors`` the constants. Weights are packed
when it is loaded, by the engine that ``torch.backends.quantized.engine`` names. Nothing of dlas
is imported here but operators: an exported folder holds these files.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from dlas.layers.software.shared.torch_moves import Fixed, Maker, Run
from dlas.layers.software.shared.torch_operators import OPERATORS

NETWORK, NUMBERS = "network.json", "numbers.safetensors"


def save_operations(
    operations: Sequence[Mapping[str, Any]],
    constants: Mapping[str, Any],
    ends: tuple[str, str],
    folder: Path,
) -> None:
    """Write a network: operations (``op``, ``inputs``, ``outputs``, ``attrs``) and constants.

    ``ends``: the names of its input and its output. Constants may be called in any way: the file
    numbers them.
    """
    names = {name: f"{at:05}" for at, name in enumerate(sorted(constants))}
    tensors = {names[name]: torch.from_numpy(value.copy()) for name, value in constants.items()}
    save_file(tensors, folder / NUMBERS)
    network = {"operations": list(operations), "constants": names, "ends": ends}
    (folder / NETWORK).write_text(json.dumps(network, indent=1), encoding="utf-8")


def load_operations(folder: Path) -> Int8Network:
    """Return the network of a folder, its weights packed for PyTorch's quantized kernels.

    Raises:
        ValueError: an operation cannot be made, with its name and the reason.
    """
    network = json.loads((folder / NETWORK).read_text(encoding="utf-8"))
    stored = load_file(folder / NUMBERS)
    constants = {name: stored[number] for name, number in network["constants"].items()}
    return Int8Network(network["operations"], constants, network["ends"], NARROW)


class Int8Network:
    """A function from images ``(n, C, H, W)`` to outputs, both float32.

    ``narrow`` makes the operations that read or write eight bits, by name.

    Raises:
        ValueError: an operation cannot be made, with its name and the reason.
    """

    def __init__(
        self,
        operations: Sequence[Mapping[str, Any]],
        constants: Mapping[str, torch.Tensor],
        ends: Sequence[str],
        narrow: Mapping[str, Maker],
    ) -> None:
        # Said of quantized tensors; the technique's own text says it, too.
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")
        makers = {**OPERATORS, **narrow}
        known: dict[str, Any] = dict(constants)
        given, made = ends
        places = {given: 0}
        calls: list[tuple[Run, list[int | None], list[int]]] = []
        for each in operations:
            inputs = [known.get(name) for name in each["inputs"]]
            run = _made(makers[each["op"]], each, inputs)
            if all(part is not None for part in inputs) and len(each["outputs"]) == 1:
                known[each["outputs"][0]] = run(*inputs)  # once and for all
                continue
            for name in (*each["inputs"], *each["outputs"]):
                places.setdefault(name, len(places))
            reads = [places[name] if name else None for name in each["inputs"]]
            calls.append((run, reads, [places[name] for name in each["outputs"]]))
        self._start = [known.get(name) for name in places]
        self._last = places[made]
        self._calls = _with_ends(calls, self._start, self._last)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Compute all operations in order; what nobody reads any more is let go."""
        values = self._start.copy()
        values[0] = images
        for run, reads, writes, over in self._calls:
            made = run(*[None if at is None else values[at] for at in reads])
            if len(writes) == 1:
                values[writes[0]] = made
            else:
                for at, part in zip(writes, made, strict=False):
                    values[at] = part
            for at in over:
                values[at] = None
        outputs: torch.Tensor = values[self._last]
        return outputs


def _with_ends(
    calls: Sequence[tuple[Run, list[int | None], list[int]]], start: Sequence[Any], last: int
) -> list[tuple[Run, list[int | None], list[int], list[int]]]:
    """Say of each call which values nobody reads after it, constants left out."""
    seen = {last, *(at for at, value in enumerate(start) if value is not None)}
    found = []
    for run, reads, writes in reversed(calls):
        over = [at for at in {*reads, *writes} if at is not None and at not in seen]
        seen.update(over)
        found.append((run, reads, writes, over))
    return found[::-1]


def _made(make: Maker, operation: Mapping[str, Any], inputs: Sequence[torch.Tensor | None]) -> Run:
    try:
        return make(Fixed(operation["attrs"], tuple(inputs)))
    except ValueError as error:
        what = f"{operation['op']} of {operation['outputs'][0]!r}"
        raise ValueError(f"{what} cannot be computed by PyTorch: {error}") from error


# ---------------------------------------------------------------- operations in eight bits


def _quantize(given: Fixed) -> Run:
    scale, zero = given.attrs["scale"], given.attrs["zero"]
    return lambda x: torch.quantize_per_tensor(x, scale, zero, torch.quint8)


def _dequantize(given: Fixed) -> Run:
    return torch.dequantize


def _constant(given: Fixed) -> Run:
    scale, zero = given.attrs["scale"], given.attrs["zero"]
    return lambda numbers: torch._make_per_tensor_quantized_tensor(numbers, scale, zero)


def _weights(given: Fixed) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return weights with their scales, one for each output, and the bias in float32."""
    _, numbers, scales, *bias = given.constants
    zeros = torch.zeros(len(scales), dtype=torch.int64)  # type: ignore[arg-type]
    made = torch._make_per_channel_quantized_tensor(numbers, scales, zeros, 0)
    return made, bias[0] if bias else None


def _bound(kernel: Any, packed: Any, given: Fixed) -> Run:
    scale, zero = given.attrs["scale"], given.attrs["zero"]
    return lambda x, *rest: kernel(x, packed, scale, zero)


def _conv(given: Fixed) -> Run:
    weight, bias = _weights(given)
    pads, axes = given.get("pads") or [0, 0, 0, 0], weight.dim() - 2
    packed = torch.ops.quantized.conv2d_prepack(
        weight, bias, given.get("strides") or [1] * axes, pads[:axes],
        given.get("dilations") or [1] * axes, given.get("group", 1),
    )  # fmt: skip
    kernels = torch.ops.quantized
    return _bound((kernels.conv2d_relu if given.attrs["relu"] else kernels.conv2d).new,
                  packed, given)  # fmt: skip


def _linear(given: Fixed) -> Run:
    packed = torch.ops.quantized.linear_prepack(*_weights(given))
    kernels = torch.ops.quantized
    kernel = kernels.linear_relu if given.attrs["relu"] else kernels.linear
    return _bound(kernel.default, packed, given)


def _add(given: Fixed) -> Run:
    kernels = torch.ops.quantized
    add = (kernels.add_relu if given.attrs["relu"] else kernels.add).default
    scale, zero = given.attrs["scale"], given.attrs["zero"]
    return lambda a, b: add(a, b, scale, zero)


def _concat(given: Fixed) -> Run:
    axis, scale, zero = (given.attrs[name] for name in ("axis", "scale", "zero"))
    cat = torch.ops.quantized.cat.default
    return lambda *parts: cat(list(parts), axis, scale, zero)


def _clamp(given: Fixed) -> Run:
    scale, zero = given.attrs["scale"], given.attrs["zero"]
    low, high = ((given.attrs[end] - zero) * scale for end in ("low", "high"))
    return lambda x: torch.clamp(x, low, high)


NARROW: Mapping[str, Maker] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "int8 constant": _constant,
    "int8 Conv": _conv,
    "int8 Linear": _linear,
    "int8 Add": _add,
    "int8 Concat": _concat,
    "int8 Clamp": _clamp,
}
"""By the names of ``qdq_parts``."""
