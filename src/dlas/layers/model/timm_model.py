"""Any network of timm."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dlas.core.errors import StepError, UserError, near
from dlas.core.protocols import Dataset, DataSpec, Model, Network
from dlas.layers.model.shared import state
from dlas.layers.model.shared.first_run import check_outputs

REGISTERED = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class TimmModel(Model):
    """Any of timm's networks by ``name``, for the data set's classes, channels and size.

    ``weights`` is a local file (safetensors or a state dict) for exactly that number of classes;
    without one the weights are random by ``seed``, no branch of them zero. Nothing is downloaded.
    For images of 32 x 32, ``cifar-form`` has stems that keep the map.
    """

    name: ClassVar[str] = "timm"
    requires: ClassVar[tuple[str, ...]] = ("torch", "timm", "safetensors")
    extra: ClassVar[str] = "torch"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "timm")
    sources: ClassVar[tuple[str, ...]] = (*state.SOURCES, check_outputs.__module__)
    places: ClassVar[tuple[str, ...]] = ("weights_file",)
    # "name" is taken: it is what the technique itself is called.
    architecture: Annotated[str, Field(alias="name")]
    weights_file: Annotated[str, Field(alias="weights")] = ""
    key: Annotated[str, Field(exclude_if=lambda value: not value)] = ""
    """The state dict in the file, where it holds several: ``state_dict_ema``; dots lead inside."""
    prefix: Annotated[str, Field(exclude_if=lambda value: not value)] = ""
    """What stands before the network's names there, where several would fit: ``teacher.``"""
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        base, _, tag = self.architecture.partition(".")
        known = _known()
        if ":" in base or "/" in base or (tag and not self.weights_file):
            raise UserError(
                f"timm.name: {self.architecture!r} names pretrained weights, and dlas downloads "
                f"nothing. Get the file yourself and give `weights: PATH` with the plain name."
            )
        if known and base not in known:
            raise UserError(
                f"timm.name: timm has no model {base!r}.{near(base, known)} "
                "`timm.list_models()` lists them."
            )

    def build(self, dataset: Dataset) -> Network:
        """Return the network with its weights.

        Raises:
            StepError: timm cannot build it for this problem.
            UserError: the weights do not fit.
        """
        spec = dataset.spec()
        module = state.built(
            lambda: self._network(spec), self.seed, self.weights(dataset), self.key, self.prefix
        )
        check_outputs(module, spec, self.architecture)
        return Network(spec, module)

    def weights(self, dataset: Dataset) -> Path | None:
        """Return the user's file."""
        return state.chosen(self, self.weights_file, dataset)

    def untrained(self, dataset: Dataset) -> bool:
        """Say that the weights are random where no file of them is given."""
        return self.weights(dataset) is None

    def fingerprint(self) -> Any:
        """Return the hash of the weights."""
        return state.weights_hash(self.weights_file)

    def _network(self, spec: DataSpec) -> Any:
        import timm

        base = self.architecture.partition(".")[0]
        common = {"pretrained": False, "num_classes": spec.classes, "in_chans": spec.channels}
        try:
            return _created(partial(timm.create_model, base, **common), spec)
        except Exception as error:  # timm's constructors raise whatever goes wrong in them
            raise StepError(
                f"timm cannot build {base} for {spec.channels} x {spec.height} x {spec.width}: "
                f"{type(error).__name__}: {error}"
            ) from error


def _created(create: Callable[..., Any], spec: DataSpec) -> Any:
    """Return a network, made with those of the wishes that its kind knows.

    Convolutions take any size. Residual branches that begin as zeros are dead where weights are
    random, and converters leave them out: a network that was measured would be another one.
    """
    wishes = {"img_size": (spec.height, spec.width), "zero_init_last": False}
    while True:
        try:
            return create(**wishes)
        except TypeError as error:
            unknown = next((name for name in wishes if name in str(error)), None)
            if unknown is None:
                raise
            del wishes[unknown]


@cache
def _known() -> frozenset[str]:
    """Return the names of timm's models, read from its source: importing it would load torch."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    files = (Path(spec.origin).parent / "models").glob("*.py")
    return frozenset(n for f in files for n in REGISTERED.findall(f.read_text(encoding="utf-8")))
