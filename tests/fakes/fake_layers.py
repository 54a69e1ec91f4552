"""A small stack of made-up techniques, so that studies can be tested without the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from dlas.core.protocols import (
    Algorithm,
    Dataset,
    HardwareTechnique,
    Model,
    Optimization,
    Software,
)
from dlas.testing import registered


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


FAKES = (Pictures, Small, Large, Nothing, Prune, Distil, Int8, Native, Gemm, Eager, TorchCompile,
         Cpu)  # fmt: skip


@pytest.fixture
def fakes() -> Iterator[None]:
    """Let the registry know the made-up techniques only."""
    with registered(*FAKES, only=True):
        yield
