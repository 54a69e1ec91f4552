"""A network on disk, without pickle: a recipe, what optimizations changed, and the tensors.

A folder holds ``network.json`` and, where there is one, ``tensors.safetensors`` (a torch module's
parameters and buffers, in their own types) and ``model.onnx``. The module itself is not stored: it
is built anew from its recipe (the choices of dataset and model); then the plain attributes that
optimizations changed are set (``in_channels``, ``num_heads``, ...) and every tensor is replaced by
the stored one. Saving checks that this yields the same outputs, so what was saved can be loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict, TypeGuard

from dlas.core import registry
from dlas.core.errors import StepError, StorageError
from dlas.core.keys import Json, canonical
from dlas.core.protocols import DataSpec, Network, Precision
from dlas.core.stack import Choice
from dlas.networks.export import ONNX_FILE, copy_onnx

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1
INFO = "network.json"
TENSORS = "tensors.safetensors"
ONNX = ONNX_FILE

_ABSENT = object()

Plain = None | bool | int | float | str | list["Plain"] | tuple["Plain", ...]
"""The value of an attribute that can be stored."""
Encoded = None | bool | int | float | str | list["Encoded"] | dict[str, list["Encoded"]]
"""The same as JSON: a tuple is ``{"tuple": [...]}``."""


class Recipe(TypedDict):
    """The choices of which a module is built, as JSON."""

    dataset: Mapping[str, Json]
    model: Mapping[str, Json]


class NetworkInfo(TypedDict):
    """What ``network.json`` says."""

    format: int
    spec: dict[str, int]
    precision: Precision
    recipe: Recipe
    module: bool
    """Whether there is one; with it come the last two."""
    onnx: bool
    calibration: NotRequired[list[int]]
    """Which training images the runtime quantizes on."""
    attributes: NotRequired[dict[str, dict[str, Encoded]]]
    """``{module: {attribute: value}}`` that optimizations changed."""
    tied: NotRequired[dict[str, str]]
    """``{name: name of the tensor it shares}``."""


def recipe(dataset: Choice, model: Choice) -> Recipe:
    """Return the recipe of a module: the choices from which the registry rebuilds it."""
    return {"dataset": dataset.to_json(), "model": model.to_json()}


def save_network(network: Network, folder: Path, recipe: Recipe) -> None:
    """Write a network into a folder (made if need be).

    ``recipe`` is what :func:`recipe` returns; a network without a module keeps it as a remark. The
    bytes written depend on the network and the recipe alone.

    Raises:
        StepError: the module cannot be rebuilt from its recipe: an optimization replaced modules,
            or changed something that is neither a tensor nor a plain value.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info: NetworkInfo = {
        "format": FORMAT,
        "spec": asdict(network.spec),
        "precision": network.precision,
        "recipe": recipe,
        "module": network.module is not None,
        "onnx": network.onnx is not None,
    }
    if network.calibration:
        info["calibration"] = list(network.calibration)
    if network.module is not None:
        attributes, tied = _save_module(network.module, network.spec, folder, recipe)
        info |= {"attributes": attributes, "tied": tied}
    if network.onnx is not None:
        copy_onnx(network.onnx, folder / ONNX, network.spec)
    (folder / INFO).write_text(canonical(info) + "\n", encoding="utf-8")


def read_network_info(folder: Path) -> NetworkInfo:
    """Return what ``network.json`` says, without torch.

    Raises:
        StorageError: there is no network in the folder, or one of another format.
    """
    path = folder / INFO
    try:
        info: NetworkInfo = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: no network can be read from it: {error}") from error
    if info.get("format") != FORMAT:
        raise StorageError(
            f"{path}: its format is {info.get('format')!r}, this version of dlas reads {FORMAT}. "
            "Run the study again to make it anew."
        )
    return info


def load_network(folder: Path) -> Network:
    """Return the network of a folder, its module in eval mode on the CPU.

    Raises:
        StorageError: the folder holds no network, or not the one its recipe builds.
        UserError: a technique of the recipe is not there any more.
    """
    info = read_network_info(folder)
    spec = DataSpec(**info["spec"])
    module = None
    if info["module"]:
        from safetensors.torch import load_file

        module = build_fresh(info["recipe"])
        try:
            _restore(module, info["attributes"], info["tied"], load_file(folder / TENSORS))
        except (AttributeError, KeyError, RuntimeError) as error:
            raise StorageError(
                f"{folder}: its tensors do not fit the network that its recipe builds: {error}"
            ) from error
    return Network(
        spec=spec,
        module=module,
        onnx=folder / ONNX if info["onnx"] else None,
        precision=info["precision"],
        calibration=tuple(info.get("calibration", ())),
    )


def build_fresh(recipe: Recipe) -> nn.Module:
    """Return the module that a recipe builds, in eval mode, weights as the model made them.

    The global random state is left as it was.
    """
    import torch

    dataset = registry.dataset(recipe["dataset"])
    model = registry.model(recipe["model"])
    with torch.random.fork_rng(devices=[]):
        module = model.build(dataset).module
    if module is None:
        raise StepError(f"the model {recipe['model']['name']!r} builds no torch module")
    return module.eval()


# ---------------------------------------------------------------- saving


def _save_module(
    module: nn.Module, spec: DataSpec, folder: Path, recipe: Recipe
) -> tuple[dict[str, dict[str, Encoded]], dict[str, str]]:
    """Write the tensors; return the attributes that were changed, and which tensors are tied."""
    from safetensors.torch import save_file

    fresh = build_fresh(recipe)
    tensors, tied = _tensors(module)
    attributes = _changed_attributes(module, fresh)
    try:
        _restore(fresh, attributes, tied, tensors)
    except (AttributeError, KeyError, RuntimeError) as error:
        raise StepError(
            f"the network cannot be stored: what its recipe builds differs from it in more than "
            f"the shapes of tensors and plain attributes: {error}"
        ) from error
    _check_same(module, fresh, spec)
    save_file(tensors, folder / TENSORS)
    return attributes, tied


def _named(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name, shared ones under each of their names."""
    named = dict(module.named_parameters(remove_duplicate=False))
    named.update(module.named_buffers(remove_duplicate=False))
    return named


def _tensors(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the distinct tensors by name, and for each shared one ``{other name: name}``."""
    first: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for name, tensor in sorted(_named(module).items()):
        if id(tensor) in first:
            tied[name] = first[id(tensor)]
            continue
        first[id(tensor)] = name
        # A copy: safetensors refuses tensors that are views of one another.
        tensors[name] = tensor.detach().cpu().clone().contiguous()
    return tensors, tied


def _changed_attributes(module: nn.Module, fresh: nn.Module) -> dict[str, dict[str, Encoded]]:
    """Return the plain attributes of each submodule that differ from a fresh build's."""
    before = dict(fresh.named_modules())
    after = dict(module.named_modules())
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())
        raise StepError(
            f"the network cannot be stored: its submodules are not those its recipe builds "
            f"({', '.join(odd[:5])})"
        )
    changed: dict[str, dict[str, Encoded]] = {}
    for name, now in after.items():
        was = before[name]
        # By name: a class made inside a function is another one each time.
        if _kind(was) != _kind(now):
            raise StepError(
                f"the network cannot be stored: {name} is a {type(now).__name__}, "
                f"its recipe builds a {type(was).__name__}"
            )
        values = _differences(vars(was), vars(now))
        if values:
            changed[name] = values
    return changed


def _kind(module: nn.Module) -> tuple[str, str]:
    cls = type(module)
    return cls.__module__, cls.__qualname__


def _differences(was: Mapping[str, object], now: Mapping[str, object]) -> dict[str, Encoded]:
    values: dict[str, Encoded] = {}
    for attribute, value in now.items():
        if attribute.startswith("_") or attribute == "training" or not _is_plain(value):
            continue
        before = was.get(attribute, _ABSENT)
        if type(before) is not type(value) or before != value:
            values[attribute] = _encode(value)
    return values


def _is_plain(value: object) -> TypeGuard[Plain]:
    if isinstance(value, tuple | list):
        return all(_is_plain(v) for v in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)


def _encode(value: Plain) -> Encoded:
    if isinstance(value, tuple):
        return {"tuple": [_encode(v) for v in value]}
    return [_encode(v) for v in value] if isinstance(value, list) else value


def _decode(value: Encoded) -> Plain:
    if isinstance(value, dict):
        return tuple(_decode(v) for v in value["tuple"])
    return [_decode(v) for v in value] if isinstance(value, list) else value


def _check_same(module: nn.Module, rebuilt: nn.Module, spec: DataSpec) -> None:
    """Raise unless a module and the one rebuilt from what is stored give the same outputs."""
    import torch

    x = torch.randn(spec.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = module.eval()(x.clone()), rebuilt(x.clone())
        if before.shape == after.shape and torch.equal(before.nan_to_num(), after.nan_to_num()):
            return
        again = module(x.clone())
    if again.shape == before.shape and not torch.equal(before.nan_to_num(), again.nan_to_num()):
        raise StepError(
            "the network cannot be stored: it is not deterministic, the same images give other "
            "outputs each time (random numbers in forward?)"
        )
    raise StepError(
        "the network cannot be stored: rebuilt from its recipe, its changed attributes and its "
        "tensors it gives other outputs. Either the model's factory builds another network each "
        "time, or an optimization changed something else than tensors and plain attributes"
    )


# ---------------------------------------------------------------- loading


def _restore(
    module: nn.Module,
    attributes: Mapping[str, Mapping[str, Encoded]],
    tied: Mapping[str, str],
    tensors: Mapping[str, Tensor],
) -> None:
    """Set attributes and tensors on a fresh build, in place."""
    for name, values in attributes.items():
        owner = module.get_submodule(name)
        for attribute, value in values.items():
            setattr(owner, attribute, _decode(value))
    expected, stored = set(_named(module)), {*tensors, *tied}
    if expected != stored:
        odd = ", ".join(sorted(expected ^ stored)[:5])
        raise KeyError(f"tensors of one but not of the other: {odd}")
    for name, tensor in tensors.items():
        _set_tensor(module, name, tensor)
    for name, shared in tied.items():
        owner, leaf = _owner(module, name)
        holder, other = _owner(module, shared)
        setattr(owner, leaf, getattr(holder, other))
    state = module.state_dict()
    names = {name: tensors[tied.get(name, name)] for name in state}
    module.load_state_dict(names, strict=True)


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _set_tensor(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor in the place of a parameter or buffer, whatever the shape of that was."""
    import torch

    owner, leaf = _owner(module, name)
    now = getattr(owner, leaf)
    # Cloned, since several loads or a save's own check must not share memory.
    fresh = tensor.clone()
    if isinstance(now, torch.nn.Parameter):
        fresh = torch.nn.Parameter(fresh, requires_grad=now.requires_grad)
    setattr(owner, leaf, fresh)
