"""Short names of choices: parameters that tell no two choices apart are left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from dlas.core.stack import Choice

Steps = Sequence[tuple[str, Mapping[str, str]]]
"""Technique and parameters of each step of a choice."""


def short_names(
    levels: Iterable[str], choices: Mapping[str, Sequence[Choice]], defaults: bool = False
) -> dict[str, str]:
    """Return a short name for each level of a layer; the whole text where two would collide.

    ``choices`` are what the levels stand for; a level that is not among them stays whole.
    ``prune(epochs=1,sparsity=0.5)`` beside ``prune(epochs=1,sparsity=0.8)`` becomes
    ``prune(sparsity=0.5)``; alone it becomes ``prune``. With ``defaults``, ``cpu`` beside
    ``cpu(threads=2)`` becomes ``cpu(threads=1)``: who does not know the default is told it, where
    nothing else varies of the technique.
    """
    texts = list(dict.fromkeys(levels))
    steps: dict[str, Steps] = {
        text: [(c.name, c.written) for c in choices.get(text, ())] for text in texts
    }
    varying = _varying(each for each in steps.values() if each)
    if defaults:
        steps = {text: _told(choices.get(text, ()), varying) for text in texts}
    names = {text: _named(each, varying) if each else text for text, each in steps.items()}
    taken = list(names.values())
    return {text: name if taken.count(name) == 1 else text for text, name in names.items()}


def _told(choices: Sequence[Choice], varying: set[tuple[str, str]]) -> Steps:
    """Return a choice's steps with the default of the one parameter that varies, if it has it."""
    steps = []
    for choice in choices:
        own = [param for name, param in varying if name == choice.name]
        missing = len(own) == 1 and own[0] in choice.params
        steps.append((choice.name, choice.written | (choice.texts(own) if missing else {})))
    return steps


def _varying(all_steps: Iterable[Steps]) -> set[tuple[str, str]]:
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


def _named(steps: Steps, varying: set[tuple[str, str]]) -> str:
    parts = []
    for name, params in steps:
        kept = [f"{p}={v}" for p, v in params.items() if (name, p) in varying]
        parts.append(f"{name}({','.join(kept)})" if kept else name)
    return "+".join(parts)
