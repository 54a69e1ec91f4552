"""Short names of choices: parameters that tell no two choices apart are left out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

STEP = re.compile(r"([^()+]+)(?:\(([^()]*)\))?")


def short_names(levels: Iterable[str]) -> dict[str, str]:
    """Return a short name for each level of a layer; the whole text where two would collide.

    ``prune(epochs=1,sparsity=0.5)`` beside ``prune(epochs=1,sparsity=0.8)`` becomes
    ``prune(sparsity=0.5)``; alone it becomes ``prune``.
    """
    texts = list(dict.fromkeys(levels))
    parsed = {text: _steps(text) for text in texts}
    varying = _varying(steps for steps in parsed.values() if steps)
    names = {text: _named(steps, varying) if steps else text for text, steps in parsed.items()}
    taken = list(names.values())
    return {text: name if taken.count(name) == 1 else text for text, name in names.items()}


def _steps(text: str) -> list[tuple[str, dict[str, str]]]:
    """Return technique and parameters of each step; none where the text is not of that form."""
    found, end = [], 0
    for match in STEP.finditer(text):
        if text[end : match.start()] not in ("", "+"):
            return []
        pairs = [p.partition("=") for p in (match[2] or "").split(",") if p]
        found.append((match[1], {name: value for name, _, value in pairs}))
        end = match.end()
    return found if end == len(text) else []


def _varying(all_steps: Iterable[Sequence[tuple[str, Mapping[str, str]]]]) -> set[tuple[str, str]]:
    """Return technique and parameter where a parameter has more than one value, or is absent."""
    seen: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for steps in all_steps:
        for name, params in steps:
            seen[name].append(params)
    return {
        (name, param)
        for name, each in seen.items()
        for param in {p for params in each for p in params}
        if len({params.get(param) for params in each}) > 1
    }


def _named(steps: Sequence[tuple[str, Mapping[str, str]]], varying: set[tuple[str, str]]) -> str:
    parts = []
    for name, params in steps:
        kept = [f"{p}={v}" for p, v in params.items() if (name, p) in varying]
        parts.append(f"{name}({','.join(kept)})" if kept else name)
    return "+".join(parts)
