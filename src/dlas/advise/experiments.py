"""The next experiments: bundles of stacks, each a study file that runs as it is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlas.advise.combined import Combination
from dlas.advise.evidence import Evidence
from dlas.advise.said import Experiment, Said
from dlas.advise.untried import Untried
from dlas.core import registry
from dlas.core.errors import StorageError
from dlas.core.goals import AT_LEAST, AT_MOST, Goals
from dlas.core.stack import LAYERS, Choice, Stack
from dlas.study.source import flow
from dlas.study.study import Study
from dlas.tables.intake import study_folder

COUNT = 3
STACKS = 8
"""New stacks of one experiment, at most."""
WHY = 4
GROUPS = (
    ("runtimes and kernels that were not tried", ("software", "algorithm")),
    ("optimizations that were not tried", ("optimization",)),
    ("numbers of threads that were not tried", ("hardware",)),
)
Bundle = tuple[str, list[Stack], list[Said]]


def experiments(
    known: Evidence,
    untried: Sequence[tuple[Untried, Sequence[Said]]],
    combined: Sequence[Combination],
) -> tuple[Experiment, ...]:
    """Return the next three experiments, what may give most first.

    What is expected (by the model, or measured elsewhere) counts by its size. Of what nobody knows
    anything about, the group comes first whose layers make the greatest difference here.
    """
    bundles: list[tuple[float, Bundle]] = []
    if combined:
        said = [each.said for each in combined]
        gain = max(each.gain or 1.0 for each in said)
        title = "combinations of what was tried"
        bundles.append((math.log(gain), (title, [each.stack for each in combined], said)))
    for title, layers in GROUPS:
        mine = [(c, s) for c, s in untried if c.layer in layers and c.stack is not None]
        mine.sort(key=lambda each: -_hope(each[1]))
        if mine:
            stacks = [c.stack for c, _ in mine if c.stack is not None]
            said = [one for _, each in mine for one in each]
            bundles.append((_worth(known, layers, said), (title, stacks, said)))
    if len(bundles) > COUNT:
        bundles = _joined(bundles)
    bundles.sort(key=lambda each: -each[0])
    return tuple(_experiment(known, n, bundle) for n, (_, bundle) in enumerate(bundles, start=1))


def _joined(bundles: list[tuple[float, Bundle]]) -> list[tuple[float, Bundle]]:
    """Let the least go along with the second least, so that nothing is left out of three."""
    ranked = sorted(bundles, key=lambda each: -each[0])
    *first, (worth, (title, stacks, said)), (_, (other, more, also)) = ranked
    return [*first, (worth, (f"{title}; {other}", [*stacks, *more], [*said, *also]))]


def _hope(said: Sequence[Said]) -> float:
    """Return the greatest gain that any sentence expects, on the logarithm; 0 where none does."""
    return max((math.log(one.gain) for one in said if one.gain), default=0.0)


def _worth(known: Evidence, layers: Sequence[str], said: Sequence[Said]) -> float:
    """Return what a bundle is ranked by."""
    expected = _hope(said)
    if any(one.gain for one in said):
        return expected
    rows = known.analysis.losses
    spread = rows[rows["layer"].isin(layers)]["worst_median"].dropna()
    # Nobody knows: less than any gain that is expected, more where the layer has mattered.
    return 1e-3 * (1 + math.log(float(spread.max()))) if len(spread) else 1e-3


# ---------------------------------------------------------------- as a study


def _experiment(known: Evidence, number: int, bundle: Bundle) -> Experiment:
    title, every, said = bundle
    new = list({stack.cell: stack for stack in every}.values())[:STACKS]
    name = f"next-{number}"
    file = known.folder / f"{name}.yaml"
    place = study_folder(known.folder)
    data: dict[str, Any] = {
        "dlas": 1,
        "name": name,
        "description": title,
        "folder": str(place) if place != known.folder.resolve() else "",
        "stacks": [_written(stack) for stack in (known.stack, *new)],
        "measure": known.settings(),
        "goals": _goals(known.goals),
    }
    data = {key: value for key, value in data.items() if value}
    Study.from_dict(data, known.folder)  # a study that nobody can read is a bug of ours
    return Experiment(
        title, tuple(said[:WHY]), _text(data), len(new), str(file),
        f"dlas run {file} --out {known.folder}-{name} --store {known.folder / 'store'}",
    )  # fmt: skip


def _goals(goals: Goals) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if goals.minimize:
        found["minimize"] = list(goals.minimize)
    if goals.maximize:
        found["maximize"] = list(goals.maximize)
    found |= {f"{c}{AT_MOST}": b for c, b in goals.at_most}
    return found | {f"{c}{AT_LEAST}": b for c, b in goals.at_least}


def _written(stack: Stack) -> dict[str, Any]:
    """Return a stack as a study file writes it."""
    return {layer: _level(layer, stack.layer(layer)) for layer in LAYERS}


def _level(layer: str, steps: Sequence[Choice]) -> Any:
    entries = [_entry(layer, step) for step in steps]
    return entries[0] if len(entries) == 1 else entries


def _entry(layer: str, step: Choice) -> Any:
    whole = registry.find(layer, step.name).whole
    if whole:
        return {step.name: step.params[whole]}
    params = {name: step.params[name] for name in step.shown if name in step.params}
    return {step.name: params} if params else step.name


def _text(data: Mapping[str, Any]) -> str:
    """Return the study file: a stack a line."""
    lines = []
    for key, value in data.items():
        if key == "stacks":
            lines += ["stacks:", *(f"  - {_flow(each)}" for each in value)]
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return flow(value)


def save(found: Sequence[Experiment]) -> None:
    """Write the study files beside the results.

    Raises:
        StorageError: one cannot be written.
    """
    for each in found:
        try:
            Path(each.file).write_text(each.study, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{each.file} cannot be written: {error.strerror}") from error
