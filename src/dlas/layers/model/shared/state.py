"""Weights of networks: read without executing anything, shipped beside a card that says of what.

A card (``weights/<model>.json``) names the model's parameters, the data set and the recipe that
``dlas train`` used; shipped weights serve that model on that data set, and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlas.core.errors import StepError, UserError
from dlas.core.keys import file_hash

if TYPE_CHECKING:
    from dlas.core.protocols import Dataset, DataSpec, Model

SOURCE = __name__
SHIPPED = Path(__file__).parent / "weights"
RANDOM = "random"
"""The word that stands for random weights where a path to a file could."""
NO_ARCHITECTURE = frozenset(("weights_file", "seed"))
"""Parameters that do not change the shape of a network."""


def built(module_of: Callable[[], Any], seed: int, weights: Path | None) -> Any:
    """Return a module in eval mode: random by the seed, or with the weights of a file.

    The global random state is left as it was.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = module_of()
    if not isinstance(module, torch.nn.Module):
        raise UserError(f"a model must be a torch.nn.Module, got {type(module).__name__}.")
    if weights is not None:
        load_into(module, weights)
    return module.eval().float()


def load_into(module: Any, path: Path) -> None:
    """Set the weights of a module from a file; narrower types are widened.

    Raises:
        UserError: the file cannot be read, or is of another network.
    """
    state = read_state(path)
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise UserError(
            f"weights {str(path)!r} do not fit the network: {' '.join(lines) or error} "
            "Give the file of this architecture, number of classes and input channels."
        ) from error


def read_state(path: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file or of a state dict saved by torch, on the CPU.

    Nothing in the file is executed: what is not plain tensors is refused.

    Raises:
        UserError: there is no such file, or it is neither.
    """
    if not path.is_file():
        raise UserError(
            f"weights {str(path)!r}: no such file (looked at {path.absolute()}). Give a "
            "safetensors file or a state dict, or leave `weights` out."
        )
    state = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(hasattr(t, "dtype") for t in state.values()):
        raise UserError(
            f"weights {str(path)!r} hold no state dict (names to tensors): save one with "
            "torch.save(model.state_dict(), path) or safetensors."
        )
    prefix = "module."  # left by DataParallel
    if state and all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def chosen(model: Model, weights_file: str, dataset: Dataset) -> Path | None:
    """Return the weights that a model gets: the user's file, the shipped ones, None: random."""
    if weights_file == RANDOM:
        return None
    if weights_file:
        return Path(weights_file).expanduser()
    return shipped(model, dataset)


def shipped(model: Model, dataset: Dataset) -> Path | None:
    """Return the shipped weights of exactly this architecture on exactly this problem, or None."""
    path = SHIPPED / f"{model.name}.safetensors"
    card = path.with_suffix(".json")
    if not (path.is_file() and card.is_file()):
        return None
    said = json.loads(card.read_text(encoding="utf-8"))
    is_it = said["model"] == {"name": model.name, "params": architecture(model)} and (
        said["dataset"]["name"] == dataset.name and said["spec"] == problem(dataset.spec())
    )
    return path if is_it else None


def architecture(model: Model) -> dict[str, Any]:
    """Return the parameters that decide the shape of a network."""
    params = dataclasses.asdict(model)
    return {name: value for name, value in params.items() if name not in NO_ARCHITECTURE}


def problem(spec: DataSpec) -> dict[str, int]:
    """Return what of a spec weights depend on: all but the batch."""
    return {name: n for name, n in dataclasses.asdict(spec).items() if name != "batch"}


def weights_hash(weights_file: str) -> str | None:
    """Return the hash of the file that a ``weights_file`` names, None: it names none.

    Raises:
        UserError: there is no such file.
    """
    if weights_file in ("", RANDOM):
        return None
    path = Path(weights_file).expanduser()
    if not path.is_file():
        raise UserError(
            f"weights {weights_file!r}: no such file (looked at {path.absolute()}). Give a "
            "safetensors file or a state dict, or leave `weights` out."
        )
    return file_hash(path)


def shipped_hash(name: str) -> str | None:
    """Return the hash of the weights shipped under a model's name, None: there are none."""
    path = SHIPPED / f"{name}.safetensors"
    return file_hash(path) if path.is_file() else None


def check_outputs(module: Any, spec: DataSpec, owner: str) -> None:
    """Run one black image through a module.

    Raises:
        StepError: it does not take the data set's images, or does not return one row of logits.
    """
    import torch

    x = torch.zeros((1, *spec.shape[1:]))
    try:
        with torch.inference_mode():
            out = module(x)
    except Exception as error:  # what a stranger's forward raises is unknown
        raise StepError(
            f"{owner} does not take images of {tuple(x.shape)}: {type(error).__name__}: {error}"
        ) from error
    shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
    if shape != (1, spec.classes):
        raise StepError(
            f"{owner} returns {shape} for an image of {tuple(x.shape)}, "
            f"needed: a tensor of (1, {spec.classes})"
        )


def _is_safetensors(path: Path) -> bool:
    """Tell by the content: 8 bytes of length, then JSON."""
    with path.open("rb") as handle:
        head = handle.read(9)
    return len(head) == 9 and head[8:9] == b"{"


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
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"weights {str(path)!r} are refused: the file holds more than tensors, and reading it "
            "could execute code. Save only the state dict, "
            "torch.save(model.state_dict(), path), or safetensors. "
            f"(torch: {str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f"weights {str(path)!r} are neither safetensors nor a file of torch.save: {error}"
        ) from error
