"""A kernel for each operator by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

from dlas.core.errors import UserError, near
from dlas.core.keys import key
from dlas.core.protocols import (
    Algorithm,
    KernelChoice,
    Refusal,
    Techniques,
    impossible,
    unavailable,
)
from dlas.kernels.ground.types import ASKED_SPARSE_INT8, no_csr
from dlas.layers.algorithm.shared.sparsity import refuse_without_zeros

OTHERS, BEST = "*", "best"
PRIMITIVES = ("best", "best-by-rule", "direct", "gemm", "native", "spatial-pack", "winograd")
KEYS = ("primitive", "weights", "threshold")
FORMATS = ("dense", "csr")
THRESHOLD = 0.4


@dataclass(frozen=True, kw_only=True)
class OperatorMap(Algorithm):
    """``map``: each operator by the kernel that stands below its name, all others by that of `*`.

    A kernel is a primitive's name (``best`` measures) or ``{primitive: gemm, weights: csr,
    threshold: 0.5}``. Operators are called as the modules of the network, e.g. ``layer1.0.conv1``;
    ``dlas show`` lists what ran by name. Without `*` the others run by ``best``.
    """

    name: ClassVar[str] = "map"
    chooses: ClassVar[bool] = True
    """It names kernels, so it needs software whose kernels can be chosen."""
    sources: ClassVar[tuple[str, ...]] = ("dlas.layers.algorithm.shared.sparsity",)
    whole: ClassVar[str] = "operators"
    unshown: ClassVar[tuple[str, ...]] = ("operators",)

    operators: dict[str, Any]
    """What is written below ``map:``."""
    hash: str = ""
    """Of the operators: it stands for them in the canonical text."""

    def __post_init__(self) -> None:
        problems = [p for name, asked in self.operators.items() for p in _problems(name, asked)]
        if not self.operators:
            problems = ["map: needs a kernel for at least one operator, or for '*': all others."]
        if problems:
            raise UserError(problems)
        full = {name: _full(asked) for name, asked in self.operators.items()}
        object.__setattr__(self, "operators", full)
        object.__setattr__(self, "hash", key("operators", full)[:8])

    @property
    def names(self) -> tuple[str, ...]:
        """The operators that have a kernel of their own."""
        return tuple(name for name in self.operators if name != OTHERS)

    @property
    def measures(self) -> bool:
        """Whether some operator runs by what is measured fastest."""
        asked = {entry["primitive"] for entry in self.operators.values()}
        return BEST in asked or OTHERS not in self.operators

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse CSR where nothing makes weights zero, in narrow types, and with winograd."""
        sparse = {n: e for n, e in self.operators.items() if e["weights"] == "csr"}
        mixed = [name for name, entry in sparse.items() if entry["primitive"] == "winograd"]
        if mixed:
            return impossible(
                f"map: {', '.join(mixed)}: winograd multiplies by transformed filters, and the "
                "transform mixes the taps of a filter: CSR has nothing to leave out"
            )
        if not sparse:
            return None
        int8 = stack.precision == "int8"
        if int8 and all(entry["primitive"] in ASKED_SPARSE_INT8 for entry in sparse.values()):
            return refuse_without_zeros(stack, min(e["threshold"] for e in sparse.values()))
        if stack.precision != "float32":
            return unavailable(f"map: {no_csr(stack.precision)}")
        return refuse_without_zeros(stack, min(e["threshold"] for e in sparse.values()))

    def kernel(self, operator: Any, target: str) -> KernelChoice:
        """Return the kernel of an operator that has no entry of its own."""
        return KernelChoice(**self.operators.get(OTHERS, _full(BEST)))

    def named(self, name: str, operator: Any, target: str) -> KernelChoice:
        """Return the kernel that stands below an operator's name."""
        if name in self.operators:
            return KernelChoice(**self.operators[name])
        return self.kernel(operator, target)


def _full(asked: Any) -> dict[str, Any]:
    """Return an entry with all that it leaves to its defaults: two ways to write are one map."""
    given = {"primitive": asked} if isinstance(asked, str) else dict(asked)
    full = {"primitive": BEST, "weights": "dense", "threshold": THRESHOLD, **given}
    return {**full, "threshold": float(full["threshold"])}


def _problems(name: str, asked: Any) -> list[str]:
    """Return what is wrong with one entry, each a sentence."""
    what = f"map.{name}:"
    if isinstance(asked, str):
        return _primitive(what, asked)
    if not isinstance(asked, Mapping):
        return [
            f"{what} must be a primitive's name or {{primitive: NAME, weights: csr, threshold: "
            f"0.5}}, got {asked!r}."
        ]
    found = [
        f"{what} has no key {key!r}.{near(str(key), KEYS)} Keys: {', '.join(KEYS)}."
        for key in asked
        if key not in KEYS
    ]
    found += _primitive(what, asked.get("primitive", BEST))
    weights, share = asked.get("weights", "dense"), asked.get("threshold", THRESHOLD)
    if weights not in FORMATS:
        found.append(f"{what} weights must be dense or csr, got {weights!r}.")
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= float(share) <= 1:
        found.append(f"{what} threshold must be a share of zeros from 0 to 1, got {share!r}.")
    return found


def _primitive(what: str, asked: Any) -> list[str]:
    if asked in PRIMITIVES:
        return []
    known = ", ".join(PRIMITIVES)
    return [
        f"{what} no primitive is called {asked!r}.{near(str(asked), PRIMITIVES)} Known: {known}."
    ]
