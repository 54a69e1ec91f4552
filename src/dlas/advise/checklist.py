"""The whole of the advice: gathered, laid out by layer, ended by what to do next."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dlas.advise.combined import combinations
from dlas.advise.evidence import METRIC, Evidence, gather
from dlas.advise.experiments import experiments
from dlas.advise.found_here import diminishing, interacts, tried
from dlas.advise.said import HERE, Advice, LayerAdvice, Said
from dlas.advise.untried import RuleBook, Untried, candidates, expectation, refused
from dlas.analyze import Analysis
from dlas.core.stack import LAYERS
from dlas.tables.intake import study_folder


def advise(
    folders: Sequence[Path], analysed: Analysis | None = None, metric: str = METRIC
) -> Advice:
    """Return the checklist for output folders, and the next three experiments.

    Of several folders the one of this machine is ``here``, the others are evidence from elsewhere.
    ``analysed``: what the analysis of the only folder found (of the undisturbed latency, under the
    study's goals), where that is known already; it takes most of the time. ``metric``: by which
    latency stacks are compared, undisturbed or as seen (``latency_ms``).

    Raises:
        UserError: a folder holds no results, or nothing is complete.
        StorageError: a file is damaged.
    """
    here, elsewhere, notes = gather(folders, analysed, metric)
    here = replace(here, folder=here.folder.absolute())
    with contextlib.chdir(study_folder(here.folder)):
        return _advice(folders, here, elsewhere, notes)


def _advice(
    folders: Sequence[Path], here: Evidence, elsewhere: Sequence[Evidence], notes: Sequence[str]
) -> Advice:
    rules = RuleBook(here)
    found = candidates(here, rules)
    allowed = [(one, expectation(here, elsewhere, one)) for one in found if one.stack is not None]
    return Advice(
        folders=tuple(str(folder) for folder in folders),
        best=_best(here),
        notes=tuple(notes),
        layers=tuple(_layer(here, layer, found, allowed) for layer in LAYERS),
        experiments=experiments(here, allowed, combinations(here, rules)),
    )


def _layer(
    here: Evidence,
    layer: str,
    found: Sequence[Untried],
    allowed: Sequence[tuple[Untried, Sequence[Said]]],
) -> LayerAdvice:
    return LayerAdvice(
        layer=layer,
        tried=tried(here, layer),
        interacts=interacts(here, layer),
        diminishing=diminishing(here, layer),
        untried=tuple(said for one, each in allowed if one.layer == layer for said in each),
        refused=refused(found, layer),
    )


def _best(here: Evidence) -> Said:
    columns = (here.metric, "memory_mb", "accuracy", "accuracy_drop")
    numbers = here.numbers(here.best, columns=columns)
    told = ", ".join(f"{name} {value:.4g}" for name, value in numbers[here.best].items())
    stack = " ".join(here.stack.text(layer) for layer in LAYERS)
    meets = "" if here.analysis.best.cell else "; no stack meets the goals, this is the fastest"
    return Said(f"{stack} (cell {here.best}): {told}{meets}", HERE, stack, cells=(here.best,),
                numbers=numbers)  # fmt: skip
