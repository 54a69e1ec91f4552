"""Weights of networks: read without executing anything, shipped beside a card that says of what.

A card (``weights/<model>.json``) names the model's parameters, the data set and the recipe that
``dlas train`` used; shipped weights serve that model on that data set, and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlas.core.errors import UserError
from dlas.core.keys import file_hash
from dlas.layers.model.shared import bare, checkpoint
from dlas.networks.permanent import make_permanent

if TYPE_CHECKING:
    from dlas.core.protocols import Dataset, DataSpec, Model

SOURCES = (__name__, checkpoint.__name__, bare.__name__, make_permanent.__module__)
"""The modules that decide what a network's weights are."""
SHIPPED = Path(__file__).parent / "weights"
RANDOM = "random"
"""The word that stands for random weights where a path to a file could."""
NO_ARCHITECTURE = frozenset(("weights_file", "key", "prefix", "seed"))
"""Parameters that do not change the shape of a network."""


def built(
    module_of: Callable[[], Any], seed: int, weights: Path | None, key: str = "", prefix: str = ""
) -> Any:
    """Return a module in eval mode: random by the seed, or with the weights of a file.

    Weights that are computed from others (parametrizations, weight norm, pruning masks) are made
    permanent. The global random state is left as it was.

    Raises:
        UserError: it is no module, the weights do not fit it, or are not numbers.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = bare.unwrapped(module_of())
    bare.refuse_without_numbers(module)
    module = module.cpu()
    if weights is not None:
        load_into(module, weights, key, prefix)
    make_permanent(module)
    module = module.eval().float()
    bare.refuse_not_finite(
        module, "the network's own weights" if weights is None else f"weights {str(weights)!r}"
    )
    return module


def load_into(module: Any, path: Path, key: str = "", prefix: str = "") -> None:
    """Set the weights of a module from a file; narrower types are widened.

    ``key`` names the state dict that is meant where the file holds several, ``prefix`` the part of
    it; what fits is found without them where only one does.

    Raises:
        UserError: the file cannot be read, is of another network, or holds several that fit.
    """
    found = checkpoint.read(path, key)
    state = checkpoint.fitting(found, module.state_dict(), prefix)
    if state is None and prefix:
        starts = sorted({name.partition(".")[0] for whole in found.values() for name in whole})
        raise UserError(
            f"prefix: weights {str(path)!r} hold no such network under {prefix!r}. "
            f"Their names begin with: {', '.join(starts[:10])}."
        )
    if state is None:
        # What is nearest, so that the reason names tensors.
        nearest = max(found.values(), key=len)
        state = checkpoint.without_wrappers(nearest)
    checkpoint.refuse_other_numbers(state, module.state_dict(), f"weights {str(path)!r}")
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise UserError(
            f"weights {str(path)!r} do not fit the network: {' '.join(lines) or error} "
            "Give the file of this architecture, number of classes and input channels."
        ) from error


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
