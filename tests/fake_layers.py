"""A small stack of made-up techniques, so that studies can be tested without the real ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from dlas import registry
from dlas.protocols import Algorithm, Dataset, HardwareTechnique, Model, Optimization, Software


@dataclass(frozen=True, kw_only=True)
class Pictures(Dataset):
    name: ClassVar[str] = "pictures"
    root: str = ""


@dataclass(frozen=True, kw_only=True)
class Small(Model):
    name: ClassVar[str] = "small"
    width: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Large(Model):
    name: ClassVar[str] = "large-net"
    widths: list[int] = field(default_factory=lambda: [8, 16])


@dataclass(frozen=True, kw_only=True)
class Nothing(Optimization):
    name: ClassVar[str] = "none"


@dataclass(frozen=True, kw_only=True)
class Prune(Optimization):
    name: ClassVar[str] = "weight-pruning"
    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.5
    epochs: int = 1


@dataclass(frozen=True, kw_only=True)
class Distil(Optimization):
    name: ClassVar[str] = "distil"
    epochs: int = 2


@dataclass(frozen=True, kw_only=True)
class Int8(Optimization):
    name: ClassVar[str] = "int8"


@dataclass(frozen=True, kw_only=True)
class Native(Algorithm):
    name: ClassVar[str] = "native"


@dataclass(frozen=True, kw_only=True)
class Gemm(Algorithm):
    name: ClassVar[str] = "gemm"


@dataclass(frozen=True, kw_only=True)
class Eager(Software):
    name: ClassVar[str] = "eager"
    layout: Literal["nchw", "nhwc"] = "nchw"


@dataclass(frozen=True, kw_only=True)
class TorchCompile(Software):
    name: ClassVar[str] = "torch-compile"


@dataclass(frozen=True, kw_only=True)
class Cpu(HardwareTechnique):
    name: ClassVar[str] = "cpu"
    threads: Annotated[int, Field(ge=1)] = 1


class _Entry:
    dist = None

    def __init__(self, cls: type) -> None:
        self.name, self.value, self._cls = cls.name, f"fake_layers:{cls.__name__}", cls

    def load(self) -> type:
        return self._cls


FAKES = (Pictures, Small, Large, Nothing, Prune, Distil, Int8, Native, Gemm, Eager, TorchCompile,
         Cpu)  # fmt: skip


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the registry know the made-up techniques only."""
    entries: dict[str, dict[str, _Entry]] = {}
    for cls in FAKES:
        entries.setdefault(cls.layer, {})[cls.name] = _Entry(cls)
    registry.find.cache_clear()
    monkeypatch.setattr(registry, "_entries", lambda layer: entries.get(layer, {}))
    yield
    registry.find.cache_clear()
