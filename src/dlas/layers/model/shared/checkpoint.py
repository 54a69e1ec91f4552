"""Checkpoints as people have them: read without executing anything, and the network's part found.

A file holds a state dict (names to tensors), or such dicts by name beside other things, with
prefixes that DataParallel, ``torch.compile`` or a training framework left on the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlas.core.errors import UserError, near
from dlas.core.placeholders import HEAD, instead

WRAPPERS = ("module", "_orig_mod")
"""What DataParallel and ``torch.compile`` put in front of names."""
DEPTH = 3
"""How deep a state dict is looked for inside dictionaries."""
PROFILED = frozenset(("total_ops", "total_params"))
"""Buffers that counters of operations (thop) leave in the modules that they looked at."""
COUNTER = "num_batches_tracked"
"""Norms of before PyTorch 0.4.1 have none, and torch adds it."""
LONGEST_HEADER = 100_000_000
"""What safetensors allow their JSON, in bytes."""

State = dict[str, Any]


def read(path: Path, key: str = "") -> dict[str, State]:
    """Return the state dicts of a file by the name they have in it, ``""``: the file itself.

    Tensors are on the CPU. Nothing in the file is executed: what is not plain data is refused.
    ``key`` names the only one that is wanted, with dots where dictionaries lie inside others.

    Raises:
        UserError: there is no such file, it holds no state dict, or none under ``key``.
    """
    if not path.is_file():
        raise UserError(
            f"weights {str(path)!r}: no such file (looked at {path.absolute()}). Give a "
            "safetensors file or a state dict, or leave `weights` out."
        )
    head = _head(path)
    safe = _is_safetensors(head)
    if why := instead(head) or ("" if safe else _of_another_kind(head)):
        raise UserError(f"weights {str(path)!r} cannot be read: {why}.")
    content = _read_safetensors(path) if safe else _read_torch(path)
    found = dict(_states(content))
    if not found:
        raise UserError(
            f"weights {str(path)!r} hold no state dict (names to tensors): save one with "
            "torch.save(model.state_dict(), path) or safetensors."
        )
    if key and key not in found:
        names = sorted(filter(None, found)) or ["none: it is one state dict by itself"]
        raise UserError(
            f"key: weights {str(path)!r} hold no state dict {key!r}.{near(key, found)} "
            f"Those it holds: {', '.join(names)}."
        )
    return {key: found[key]} if key else found


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(HEAD)
    except OSError as error:
        raise UserError(f"weights {str(path)!r} cannot be read: {error.strerror}.") from error


def _of_another_kind(head: bytes) -> str:
    """Return what a file is that holds weights in no form of PyTorch's, ``""``: unknown."""
    if head.startswith(b"\x89HDF"):
        return "it is HDF5 (Keras, TensorFlow): export that network to ONNX and give it as `onnx`"
    if re.match(rb'\s*\{\s*"', head):
        return (
            "it is JSON, the index of a model in several files perhaps: give one file of tensors"
        )
    return ""


def refuse_other_numbers(state: State, names: Mapping[str, Any], whose: str) -> None:
    """Refuse stored integers or complex numbers where a network has floats.

    Raises:
        UserError: copied, they would be other weights than were trained.
    """
    odd = [
        f"{name} ({str(tensor.dtype).removeprefix('torch.')})"
        for name, tensor in state.items()
        if name in names and names[name].is_floating_point() and not tensor.is_floating_point()
    ]
    if odd:
        raise UserError(
            f"{whose} hold no floats in {', '.join(odd[:5])}, where the network has them: they "
            "are quantized without their scales, or of another kind. Give float weights."
        )


def fitting(found: Mapping[str, State], names: Mapping[str, Any], prefix: str) -> State | None:
    """Return the one state dict that has a network's names, these taken from their prefix.

    None: there is none, or what is nearest has other shapes. ``names`` are the network's, with its
    tensors; ``prefix`` is the one to take, ``""``: whichever fits.

    Raises:
        UserError: several fit, so that one has to be named.
    """
    fit = {
        (key, start): state
        for key, whole in found.items()
        for start, state in _unprefixed(whole, names, prefix)
    }
    exact = {place: state for place, state in fit.items() if not place[1]}
    chosen = exact or fit
    if len(chosen) > 1:
        keys = sorted({key for key, _ in chosen})
        asked, values = ("key", keys) if len(keys) > 1 else ("prefix", [p for _, p in chosen])
        raise UserError(
            f"the weights hold the network {len(chosen)} times ({asked}: {', '.join(values)}). "
            f"Say which is meant: `{asked}: {values[0]}`."
        )
    return next(iter(chosen.values()), None)


def without_wrappers(state: State) -> State:
    """Return a state dict whose names have lost what DataParallel and ``torch.compile`` put."""
    for wrapper in WRAPPERS:
        while state and all(name.startswith(f"{wrapper}.") for name in state):
            state = {name.removeprefix(f"{wrapper}."): t for name, t in state.items()}
    return state


def _states(content: Any, at: str = "", depth: int = DEPTH) -> Iterator[tuple[str, State]]:
    """Find the dictionaries that hold tensors by name, from the outermost in."""
    if not isinstance(content, Mapping):
        return
    tensors = {
        name: _tensor(t) for name, t in content.items() if isinstance(name, str) and _is_tensor(t)
    }
    if tensors:
        yield at, tensors
    for name, inner in content.items() if depth else ():
        yield from _states(inner, f"{at}.{name}" if at else str(name), depth - 1)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _tensor(value: Any) -> Any:
    """Return a tensor; NumPy's arrays become one."""
    import torch

    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)


def _plain_data() -> list[Any]:
    """Return what holds settings and numbers alone, and stands beside weights in many files."""
    import argparse

    import numpy as np
    from numpy._core import multiarray

    kinds = {type(np.dtype(letter)) for letter in "?bhilqBHILQefd"}
    made: list[Any] = [argparse.Namespace, np.dtype, np.ndarray, *kinds]
    for function in (multiarray.scalar, multiarray._reconstruct):
        made += [function, (function, f"numpy.core.multiarray.{function.__name__}")]
    return made


def _unprefixed(
    whole: State, names: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, State]]:
    """Give each prefix under which all names of the network stand, with what stands there."""
    needed = {name for name in names if not name.endswith(COUNTER)}
    left = {n for n in whole if n.rpartition(".")[2] in PROFILED and n not in names}
    whole = {name: tensor for name, tensor in whole.items() if name not in left}
    for state in _unwrapped(whole):
        starts = {prefix} if prefix else _prefixes(state, needed)
        fit = {s: _under(state, s) for s in starts}
        good = {s: part for s, part in fit.items() if _is_it(part, names, needed)}
        if good:
            yield from sorted(good.items())
            return


def _unwrapped(whole: State) -> Iterator[State]:
    """Give the names as they are, then without the wrappers' parts, wherever these stand."""
    yield whole
    gone: set[str] = set()
    for wrapper in reversed(WRAPPERS):
        gone.add(wrapper)
        bare = {".".join(p for p in name.split(".") if p not in gone): name for name in whole}
        if len(bare) == len(whole):
            yield {name: whole[old] for name, old in bare.items()}


def _prefixes(state: State, needed: set[str]) -> set[str]:
    if not needed:
        return {""}
    anchor = min(needed)
    return {
        name.removesuffix(anchor)
        for name in state
        if name == anchor or name.endswith(f".{anchor}")
    }


def _under(state: State, prefix: str) -> State:
    start = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
    return {name.removeprefix(start): t for name, t in state.items() if name.startswith(start)}


def _is_it(part: State, names: Mapping[str, Any], needed: set[str]) -> bool:
    return needed <= set(part) <= set(names) and all(
        tuple(part[name].shape) == tuple(names[name].shape) for name in part
    )


def _is_safetensors(head: bytes) -> bool:
    """Tell by the first bytes: 8 of length, then JSON; read as a length, text is far too long."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LONGEST_HEADER


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"weights {str(path)!r} are damaged: {error}. Get them anew.") from error


def _read_torch(path: Path) -> Any:
    import pickle

    import torch

    try:
        with torch.serialization.safe_globals(_plain_data()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"weights {str(path)!r} are refused: the file holds more than tensors, and reading it "
            "could execute code. Save only the state dict, "
            "torch.save(model.state_dict(), path), or safetensors. "
            f"(torch: {str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        if "TorchScript" in str(error):
            raise UserError(
                f"weights {str(path)!r} are a TorchScript archive, which holds code: save the "
                "state dict of it, torch.save(torch.jit.load(path).state_dict(), other)."
            ) from error
        raise UserError(
            f"weights {str(path)!r} are neither safetensors nor a file of torch.save: {error}"
        ) from error
