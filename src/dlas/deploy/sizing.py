"""What was given -> a short study file: what this machine can run, as much as a budget allows.

A study begins with everything that may pay off. Menu that no stack can have here go, pairs that
are always refused become rules, and what pays off least often goes until the plan's guess of its
time fits the budget.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.deploy.given import Given
from dlas.run.executed import Answers
from dlas.run.plan import plan as planning
from dlas.run.plan.plan import Plan, Refused, Runnable
from dlas.run.plan.preview import preview
from dlas.study.source import flow
from dlas.study.study import Study

SAFETY = 1.5
"""Guesses of a plan are for small networks: so many times as long is reckoned with."""
DROPPED = (
    ("software", "torch-compile"), ("precision", "float16"), ("pruning", "channel-pruning"),
    ("software", "tvm"), ("precision", "bfloat16"), ("software", "pytorch"),
    ("software", "openvino"), ("precision", "int8"),
)  # fmt: skip
"""What goes first where the budget is too small for all: what takes longest for what it gives."""
PRUNED = {"channel-pruning": {"ratio": 0.3, "epochs": 1, "images": 2000}}
MEASURE = {"rounds": 3, "min_runs": 10, "min_seconds": 0.2, "accuracy_samples": 1000}
QUICK = {"rounds": 2, "min_runs": 10, "min_seconds": 0.1, "accuracy_samples": 500}


@dataclass(frozen=True)
class Wish:
    """What a person wants of the best stack."""

    minimize: tuple[str, ...] = ("latency_ms",)
    max_drop: float = 0.01
    threads: tuple[int, ...] = ()


@dataclass(frozen=True)
class Menu:
    """The choices at the layers that vary."""

    pruning: tuple[str, ...]
    precision: tuple[str, ...]
    algorithm: tuple[str, ...]
    software: tuple[str, ...]
    threads: tuple[int, ...]
    measure: Mapping[str, Any] = field(default_factory=lambda: dict(MEASURE))
    refused: tuple[str, ...] = ()
    """Rules: what is refused here."""

    def without(self, layer: str, name: str) -> Menu:
        """Return them without a choice; one that is the last of its layer stays."""
        kept = tuple(each for each in getattr(self, layer) if each != name)
        changed: dict[str, Any] = {layer: kept}
        return replace(self, **changed) if kept else self


@dataclass(frozen=True)
class Sized:
    """A study file, and what a plan says of it."""

    text: str
    study: Study
    runnable: int
    expected_s: float
    left_out: tuple[str, ...]
    """What was left out for the budget."""


def sized_study(given: Given, wish: Wish, seconds: float | None, name: str, at: Path) -> Sized:
    """Return the study for what was given, sized to a budget.

    ``at`` is the folder in which the file will stand.

    Raises:
        UserError: nothing of it can run on this machine.
    """
    levels = _possible(given, wish, _all(given, wish))
    left_out: list[str] = []
    steps = iter(DROPPED)
    while True:
        data = _study(given, wish, levels, name, at)
        study = Study.from_dict(data, given.folder)
        with study.inside():
            told = preview(study)
        expected = SAFETY * float(told["expected_s"])
        if seconds is None or expected <= seconds:
            break
        if levels.measure == MEASURE:
            levels = replace(levels, measure=dict(QUICK))
            continue
        layer, dropped = next(steps, ("", ""))
        if not layer:
            break
        fewer = levels.without(layer, dropped)
        if fewer != levels:
            left_out.append(dropped)
            levels = _pairs(given, wish, replace(fewer, refused=()))
    runnable = int(told["cells_by_status"].get("runnable", 0))
    text = written(data, given, seconds, runnable, expected, left_out)
    return Sized(text, study, runnable, expected, tuple(left_out))


def _all(given: Given, wish: Wish) -> Menu:
    cores = len(os.sched_getaffinity(0))
    return Menu(
        pruning=("none", *PRUNED) if given.torch and given.trains else ("none",),
        precision=("none", "int8", "bfloat16", "float16"),
        algorithm=("native", "best"),
        software=registry.names("software"),
        threads=wish.threads or tuple(dict.fromkeys((1, min(2, cores), cores))),
    )


# ---------------------------------------------------------------- what can be here


def _possible(given: Given, wish: Wish, levels: Menu) -> Menu:
    """Return the levels that some stack can have on this machine, with rules for the pairs.

    Raises:
        UserError: no stack can run; says the reasons.
    """
    plan = _plan(given, wish, levels)
    if not plan.runnable:
        reasons = dict.fromkeys(cell.refusal.reason for cell in plan.refused)
        raise UserError([f"nothing can run on this machine: {reason}" for reason in reasons])
    kept: dict[str, Any] = {
        layer: tuple(
            each
            for each in getattr(levels, layer)
            if any(_has(c, layer, each) for c in plan.runnable)
        )
        for layer in ("pruning", "precision", "algorithm", "software")
    }
    return _pairs(given, wish, replace(levels, **kept))


def _pairs(given: Given, wish: Wish, levels: Menu) -> Menu:
    """Add a rule for each type and the runtimes that always refuse it."""
    plan = _plan(given, wish, levels)
    rules = []
    for precision in levels.precision:
        refused = [
            software
            for software in levels.software
            if not any(_has(c, "precision", precision) and _has(c, "software", software)
                       for c in plan.runnable)
        ]  # fmt: skip
        if refused:
            listed = ", ".join(f"'{each}'" for each in refused)
            rules.append(
                f"optimization.precision == '{precision}' and software.runtime in [{listed}]"
            )
    return replace(levels, refused=tuple(rules))


def _plan(given: Given, wish: Wish, levels: Menu) -> Plan:
    study = Study.from_dict(_study(given, wish, levels, "sizing", given.folder), given.folder)
    with study.inside():
        return planning.make(study, seen=Answers().seen)


def _has(cell: Runnable | Refused, layer: str, name: str) -> bool:
    stack = cell.stack
    if layer in ("pruning", "precision"):
        text = str(stack.sublayers[f"optimization.{layer}"])
        return text.partition("(")[0] == name
    return stack.layer(layer)[0].name == name


# ---------------------------------------------------------------- as a file


def _study(given: Given, wish: Wish, levels: Menu, name: str, at: Path) -> dict[str, Any]:
    """Return the study as plain data, in the order in which it is written."""
    layers: dict[str, Any] = {
        "dataset": [given.dataset],
        "model": [given.model],
        "optimization": {
            "pruning": [
                {each: PRUNED[each]} if each in PRUNED else each for each in levels.pruning
            ],
            "precision": list(levels.precision),
        },
        "algorithm": [a for a in levels.algorithm if a == "native" or "tvm" in levels.software],
        "software": list(levels.software),
        "hardware": [{"cpu": {"threads": list(levels.threads)}}],
    }
    exclude = list(levels.refused)
    if "best" in layers["algorithm"]:
        exclude.append("algorithm == 'best' and software.runtime != 'tvm'")
        exclude.append("algorithm == 'native' and software.runtime == 'tvm'")
    data: dict[str, Any] = {"dlas": 1, "name": name}
    if at.absolute() != given.folder.absolute():
        data["folder"] = str(given.folder.absolute())
    data["layers"] = layers
    if exclude:
        data["exclude"] = exclude
    data["measure"] = dict(levels.measure)
    data["goals"] = {"minimize": list(wish.minimize), "accuracy_drop_at_most": wish.max_drop}
    return data


SAID = {
    "folder": "Paths and own modules are looked for here.",
    "layers": "Each layer's choices; all combinations are stacks.",
    "exclude": "What this machine cannot run, or what is never worth its time.",
    "measure": "How each stack is measured; raising a number only adds.",
    "goals": "What is sought. `dlas export OUT best --to FOLDER` takes the best under it.",
}


def written(
    data: Mapping[str, Any],
    given: Given,
    seconds: float | None,
    runnable: int,
    expected: float,
    left_out: Sequence[str],
) -> str:
    """Return the study file: short, with a comment at each part."""
    head = [
        f"# {runnable} stacks that this machine can run, about {expected / 60:.0f} min (a guess)."
    ]
    head += (
        [f"# Left out for a budget of {seconds / 60:g} min: {', '.join(left_out)}."]
        if (seconds and left_out)
        else []
    )
    head += [f"# {note}." for note in given.notes]
    parts = ["\n".join(head)]
    for key, value in data.items():
        if key == "layers":
            body = "layers:\n" + "".join(_layer(layer, v) for layer, v in value.items())
        elif key == "exclude":
            body = "exclude:\n" + "".join(f"  - {rule}\n" for rule in value)
        else:
            body = f"{key}: {flow(value)}"
        parts.append((f"# {SAID[key]}\n" if key in SAID else "") + body.rstrip("\n"))
    return "\n".join(parts) + "\n"


def _layer(layer: str, value: Any) -> str:
    if isinstance(value, Mapping):
        inner = "".join(f"    {name}: {flow(each)}\n" for name, each in value.items())
        return f"  {layer}:\n{inner}"
    return f"  {layer}: {flow(value)}\n"
