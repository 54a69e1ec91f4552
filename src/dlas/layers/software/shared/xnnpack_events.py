"""What XNNPACK's operators are called in ExecuTorch's traces, and what that tells.

``Convolution (NHWC, QS8, QC8W) IGEMM #3``: a kind, the layout and the types of input, output and
weights, which kernel computes it, and which of its kind it is. ``QD8`` and ``QDU8`` are eight bits
whose ranges are those of each row as it comes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlas.layers.software.shared.work import Work

PRODUCTS = ("Convolution", "Deconvolution", "Fully Connected", "Batch Matrix Multiply")
"""Operators that multiply."""
_NAME = re.compile(r"(?P<kind>[^(#]+?) \((?P<types>[^)]*)\)(?: (?P<how>[^#]+?))? #(?P<number>\d+)")
_NATIVE = "native_call_"
"""How operators of ExecuTorch's own kernels are called."""


@dataclass(frozen=True)
class XnnpackOperator:
    """An operator that XNNPACK ran."""

    name: str
    kind: str
    types: str
    kernel: str

    @property
    def precision(self) -> str:
        """The type of its input: the first that is named behind the layout."""
        for each in re.split(r"[,\s]+", self.types):
            if each in ("F32", "F16", "BF16"):
                return {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[each]
            if re.fullmatch(r"Q([CSU]|[DP]U?)8W?", each):
                return "int8"
        return "other"


def named(names: Iterable[str]) -> list[XnnpackOperator]:
    """Return the operators of XNNPACK among the names of a trace's events."""
    found = (_NAME.fullmatch(name) for name in names)
    return [
        XnnpackOperator(m[0], m["kind"], m["types"], m["how"] or "XNNPACK") for m in found if m
    ]


def works(operators: Sequence[XnnpackOperator]) -> list[Work]:
    """Return those that multiply, with their types."""
    return [Work(o.name, o.precision) for o in operators if o.kind in PRODUCTS]


def kernels(operators: Sequence[XnnpackOperator]) -> dict[str, str]:
    """Return for each kind of operator its kernels, types, and how many."""
    found: dict[str, Counter[str]] = {}
    for each in operators:
        found.setdefault(each.kind, Counter())[f"{each.kernel} ({each.types})"] += 1
    return {
        kind: ", ".join(f"{kernel} x{n}" for kernel, n in sorted(count.items()))
        for kind, count in sorted(found.items())
    }


def portable(names: Iterable[str]) -> list[str]:
    """Return a sentence on the operators that XNNPACK did not take."""
    count = Counter(
        name.removeprefix(_NATIVE).partition(".")[0] for name in names if name.startswith(_NATIVE)
    )
    if not count:
        return []
    told = ", ".join(f"{name} x{n}" for name, n in sorted(count.items()))
    return [f"{sum(count.values())} operators ran by ExecuTorch's portable kernels: {told}"]
