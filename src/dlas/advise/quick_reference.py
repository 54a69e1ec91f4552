"""One technique's quick reference: what it is, its rules, and what was measured of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from dlas.advise.evidence import gather
from dlas.advise.found_here import interacts, tried
from dlas.advise.said import ELSEWHERE, HERE, Said
from dlas.advise.untried import made, variants
from dlas.core import registry
from dlas.core.errors import DlasError, UserError, near
from dlas.core.stack import LAYERS, Choice, Stack

PROBLEM = {"dataset": "digits", "model": "resnet-8", "hardware": "cpu"}
VARIED = ("optimization", "algorithm", "software")
"""What a technique's rules are asked with."""


def reference(name: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Return what is known of a technique: its own words, rules, and evidence in folders.

    Raises:
        UserError: no technique has that name; a folder holds no results.
    """
    layers = [layer for layer in LAYERS if name in registry.names(layer)]
    if not layers:
        known = [each for layer in LAYERS for each in registry.names(layer)]
        raise UserError(f"no technique is called {name!r}.{near(name, known)}")
    (layer, *_) = layers
    cls = registry.find(layer, name)
    row = next(r for r in registry.catalogue(layer) if r["name"] == name)
    return {
        "layer": layer,
        "name": name,
        "what": inspect.getdoc(cls) or "",
        "parameters": row["parameters"],
        "needs": list(cls.requires),
        "unavailable": row["unavailable"],
        "refuses": list(dict.fromkeys(_refusals(layer, name))),
        "evidence": [vars(said) for said in _evidence(layer, name, folders)],
    }


def _refusals(layer: str, name: str) -> Iterator[str]:
    """Yield what its own rules say of stacks of the other layers' techniques."""
    for own in _variants(layer, name):
        for stack in _stacks(layer, own):
            try:
                techniques = registry.resolve(stack)
            except DlasError:
                continue  # its parameters and another's: told where they are written
            for each in techniques.all():
                mine = type(each).layer == layer and type(each).name == name
                refusal = each.why_not(techniques) if mine else None
                if refusal is not None:
                    yield f"{refusal.status}: {refusal.reason}"


def _variants(layer: str, name: str) -> Iterator[Choice]:
    """Yield a technique with its defaults, then with each other value of each list of values."""
    own = made(layer, name)
    if own is None:
        return
    yield own
    for _, other in variants(layer, own):
        yield other


def _stacks(layer: str, own: Choice) -> Iterator[Stack]:
    """Yield stacks around a choice: every technique of the layers that are decided."""
    levels = {
        x: [(c,) for n in registry.names(x) if (c := made(x, n)) is not None] for x in VARIED
    }
    fixed = [made(x, n) for x, n in PROBLEM.items()]
    dataset, model, cpu = (c for c in fixed if c is not None)
    for optimization, algorithm, software in product(*(levels[x] for x in VARIED)):
        stack = Stack((dataset,), (model,), optimization, algorithm, software, (cpu,))
        changed: dict[str, Any] = {layer: (own,)}
        yield replace(stack, **changed)


def _evidence(layer: str, name: str, folders: Sequence[Path]) -> Iterator[Said]:
    """Yield what folders measured of a technique's choices, and what they depend on."""
    if not folders:
        return
    here, elsewhere, _ = gather(folders)
    for known, status in ((here, HERE), *((other, ELSEWHERE) for other in elsewhere)):
        for said in (*tried(known, layer), *interacts(known, layer)):
            if name in said.choice.replace("(", "+").split("+") or name in said.text.split():
                yield replace(said, status=status)
