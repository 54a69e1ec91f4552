"""The user's own network: a function that returns an ``nn.Module``."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dlas.core.errors import StepError, UserError, near
from dlas.core.protocols import Dataset, DataSpec, Model, Network
from dlas.layers.model.shared import bare, own_source, state
from dlas.layers.model.shared.first_run import check_outputs


@dataclass(frozen=True, kw_only=True)
class TorchModel(Model):
    """Your ``nn.Module``: ``factory: "module:function"``, looked for beside the study file first.

    The function is called as ``function(num_classes=10, in_channels=3, size=(32, 32))`` and
    returns a float32 module from images ``(n, channels, h, w)`` to logits ``(n, classes)``. Its
    source decides whether anything is built anew: the module's file, those of your own that it
    imports, of a package all files. ``weights`` is a safetensors file or a checkpoint; without one
    they are random by ``seed``. Parametrizations, weight norm and pruning masks are made
    permanent, as at a deployment.
    """

    name: ClassVar[str] = "torch"
    requires: ClassVar[tuple[str, ...]] = ("torch", "safetensors")
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    sources: ClassVar[tuple[str, ...]] = (*state.SOURCES, check_outputs.__module__)
    places: ClassVar[tuple[str, ...]] = ("weights_file",)
    factory: str
    weights_file: Annotated[str, Field(alias="weights")] = ""
    key: Annotated[str, Field(exclude_if=lambda value: not value)] = ""
    """The state dict in the file, where it holds several: ``state_dict_ema``; dots lead inside."""
    prefix: Annotated[str, Field(exclude_if=lambda value: not value)] = ""
    """What stands before the network's names there, where several would fit: ``teacher.``"""
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        module, _, function = self.factory.partition(":")
        if not all(p.isidentifier() for p in [*module.split("."), function]):
            raise UserError(
                f'torch.factory: {self.factory!r} is not of the form "module:function", '
                'e.g. "my_net:build" for the function build in my_net.py beside the study file.'
            )

    def build(self, dataset: Dataset) -> Network:
        """Return the module that the function makes, with its weights.

        Raises:
            UserError: there is no such module or function, or it returns no module.
            StepError: the network does not take the data set's images.
        """
        spec = dataset.spec()
        module = state.built(
            lambda: self._network(spec), self.seed, self.weights(dataset), self.key, self.prefix
        )
        check_outputs(module, spec, self.factory)
        return Network(spec, module)

    def weights(self, dataset: Dataset) -> Path | None:
        """Return the user's file."""
        return state.chosen(self, self.weights_file, dataset)

    def fingerprint(self) -> Any:
        """Return the hashes of the source, without running it, and of the weights."""
        module = self.factory.partition(":")[0]
        return [own_source.source_hash(module), state.weights_hash(self.weights_file)]

    def _network(self, spec: DataSpec) -> Any:
        name, _, function = self.factory.partition(":")
        own_source.find(name)
        with own_source.beside_first():
            module = _imported(name)
            factory = getattr(module, function, None)
            if not callable(factory):
                raise UserError(
                    f"torch.factory: {name!r} has no function {function!r}."
                    f"{near(function, vars(module))}"
                )
            given = {
                "num_classes": spec.classes,
                "in_channels": spec.channels,
                "size": (spec.height, spec.width),
            }
            _check_signature(self.factory, factory, given)
            try:
                return bare.materialized(factory(**given), spec.shape)
            except Exception as error:  # what a stranger's factory raises is unknown
                raise StepError(
                    f"{self.factory} cannot build a network for {spec.classes} classes and images "
                    f"of {spec.shape[1:]}: {type(error).__name__}: {error}"
                ) from error


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # what a stranger's module raises is unknown
        raise UserError(
            f"torch.factory: the module {name!r} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_signature(name: str, factory: Any, given: dict[str, Any]) -> None:
    """Refuse a function that does not take what it is called with."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**given)
    except TypeError as error:
        raise UserError(
            f"torch.factory: {name} is called as "
            f"{name.partition(':')[2]}(num_classes=10, in_channels=3, size=(32, 32)), and its "
            f"parameters are {signature}: {error}. Write a function with these three that calls "
            "it."
        ) from error
