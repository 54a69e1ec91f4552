"""The type a network ran in: that of most of its convolutions and matrix products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """A convolution or matrix product that ran: its name and the type of its operands."""

    name: str
    precision: str


def settle(works: Sequence[Work]) -> tuple[str | None, tuple[str, ...]]:
    """Return the type of most operators (None for no work) and a sentence for each other type.

    Of two types with as many operators each the narrower is taken.
    """
    count = Counter(work.precision for work in works)
    if not count:
        return None, ()
    main = max(count, key=lambda kind: (count[kind], _narrow(kind)))
    sentences = []
    for kind in sorted(set(count) - {main}):
        names = [w.name for w in works if w.precision == kind]
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        sentences.append(
            f"{count[kind]} of {len(works)} convolutions and matrix products "
            f"ran in {kind}: {shown}"
        )
    return main, tuple(sentences)


def _narrow(kind: str) -> int:
    order = ("float64", "float32", "bfloat16", "float16", "int8")
    return order.index(kind) if kind in order else -1
