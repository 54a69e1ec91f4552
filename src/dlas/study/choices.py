"""What stands below ``layers``, ``base`` and ``stacks``: text to factors and levels.

A layer is a list of choices, or a mapping of sub-layers, each a list of choices. A choice is a
name, ``name: {parameters}``, or (at ``optimization``) a list of steps. A list given to a parameter
whose own type is no list stands for several choices; ``{values: [...]}`` always does.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dlas.core import registry
from dlas.core.errors import UserError, near
from dlas.core.protocols import Technique
from dlas.core.rules import ALIASES
from dlas.core.stack import DEFAULTS, LAYERS, TITLES, Choice
from dlas.study.design import Factor, Level, pipeline
from dlas.study.form import REQUIRED
from dlas.study.source import Place, Source, parse, shown

PIPELINES = ("optimization",)
"""Layers that take several choices one after the other."""

MAX_LEVELS = 10_000
"""One entry of a list may stand for at most so many choices."""

_SUBLAYER = re.compile(r"[A-Za-z]\w*(-\w+)*")


@dataclass
class Layers:
    """The factors of a study, and the layers that could not be read."""

    factors: list[Factor] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)


def read_layers(source: Source, data: object, place: Place = ("layers",)) -> Layers:
    """Return the factors of a ``layers:`` block; problems are noted in the source."""
    found = Layers()
    given = _by_layer(source, data, place)
    for layer in LAYERS:
        before = len(source.problems)
        if layer in given:
            found.factors += _block(source, layer, given[layer], (*place, layer))
        else:
            found.factors += _left_out(source, layer, place)
        if len(source.problems) > before:
            found.broken.add(layer)
    return found


def read_stack(source: Source, data: object, place: Place) -> list[Factor]:
    """Return one explicit stack as factors (a listed parameter makes several levels)."""
    given = _by_layer(source, data, place)
    factors: list[Factor] = []
    for layer in LAYERS:
        if layer in given:
            levels = _level(source, layer, given[layer], (*place, layer))
            factors.append(Factor(layer, "", tuple(levels)))
        else:
            factors += _left_out(source, layer, place)
    return factors


def read_choice(layer: str, text: str) -> Choice:
    """Return the one choice that text is, written as in a study file: ``name: {p: value}``.

    Raises:
        UserError: it is no YAML, no choice or several, a name is unknown or a parameter is wrong.
    """
    if not text.strip():
        raise UserError(
            f"{layer}: the choice is empty: give a name, or `name: {{parameter: value}}`"
        )
    source = parse(text, layer)
    found = _choices(source, layer, source.data, ())
    source.check()
    if len(found) != 1:
        raise UserError(f"{layer}: {text!r} stands for {len(found)} choices: give one value each")
    return found[0]


def read_base(source: Source, data: object, factors: Sequence[Factor]) -> list[Level]:
    """Return the level of each factor at which one-at-a-time starts: the first, unless said."""
    given = _by_layer(source, {} if data is None else data, ("base",))
    levels: list[Level] = []
    for factor in factors:
        place: Place = ("base", factor.layer)
        item = given.get(factor.layer)
        if factor.sublayer and item is not None:
            item = _sub_base(source, factor, item, factors)
            place = (*place, factor.sublayer)
        if item is None:
            levels += factor.levels[:1]
            continue
        found = _level(source, factor.layer, item, place)
        if len(found) > 1:
            source.problem(place, f"a base is one choice, got {len(found)}: {shown(item)}")
        levels += found[:1]
    return levels


def _sub_base(source: Source, factor: Factor, item: object, factors: Sequence[Factor]) -> object:
    known = [f.sublayer for f in factors if f.layer == factor.layer]
    place = ("base", factor.layer)
    if not isinstance(item, Mapping):
        source.problem(place, f"must be a mapping of the sub-layers {', '.join(known)}")
        return None
    for name in item:
        if name not in known:
            source.problem(
                (*place, name),
                f"no such sub-layer.{near(name, known)} Sub-layers: {', '.join(known)}.",
            )
    return item.get(factor.sublayer)


def _by_layer(source: Source, data: object, place: Place) -> Mapping[str, object]:
    if not isinstance(data, Mapping):
        source.problem(
            place, f"must be a mapping of layers, got {shown(data)}. Layers: {', '.join(LAYERS)}."
        )
        return {}
    for name in data:
        if name not in LAYERS:
            source.problem(
                (*place, name),
                f"no such layer.{near(str(name), LAYERS)} Layers: {', '.join(LAYERS)}.",
            )
    return {k: v for k, v in data.items() if k in LAYERS}


def _left_out(source: Source, layer: str, place: Place) -> list[Factor]:
    if layer in REQUIRED:
        known = ", ".join(registry.names(layer))
        source.problem(place, f"needs the layer {layer!r} ({TITLES[layer]}). Known: {known}.")
        return []
    levels = _level(source, layer, DEFAULTS[layer], (*place, layer))
    return [Factor(layer, "", tuple(levels))]


def _block(source: Source, layer: str, data: object, place: Place) -> list[Factor]:
    if isinstance(data, Mapping):
        return _sublayers(source, layer, data, place)
    return [Factor(layer, "", _levels(source, layer, data, place))]


def _levels(source: Source, layer: str, data: object, place: Place) -> tuple[Level, ...]:
    if isinstance(data, str):
        return tuple(_level(source, layer, data, place))
    if not isinstance(data, list) or not data:
        source.problem(place, f"must be a list of choices, at least one, got {shown(data)}")
        return ()
    levels: list[Level] = []
    for at, item in enumerate(data):
        levels += _level(source, layer, item, (*place, at))
    return tuple(_once(levels))


def _once(levels: Sequence[Level]) -> list[Level]:
    kept: list[Level] = []
    for level in levels:
        if level not in kept:
            kept.append(level)
    return kept


def _sublayers(
    source: Source, layer: str, data: Mapping[str, object], place: Place
) -> list[Factor]:
    factors: list[Factor] = []
    for name, block in data.items():
        inner = (*place, name)
        if isinstance(block, Mapping) or block is None:
            source.problem(
                inner,
                f"a sub-layer holds a list of choices, got {shown(block)}; "
                f"a choice of the layer itself is written `- {name}: {{...}}`",
            )
            continue
        if not _SUBLAYER.fullmatch(name):
            source.problem(inner, "a sub-layer's name holds letters, digits, '_' and '-' only")
        factors.append(Factor(layer, name, _levels(source, layer, block, inner)))
    if layer not in PIPELINES and len(data) != 1:
        source.problem(
            place,
            f"takes one choice, so it can have one sub-layer, got {len(data)}: "
            f"{', '.join(data)}; write its choices as a list",
        )
    _check_names(source, layer, factors, place)
    return factors


def _check_names(source: Source, layer: str, factors: Sequence[Factor], place: Place) -> None:
    taken = {"technique": "the technique's name"}
    if layer in ALIASES:
        taken[ALIASES[layer]] = "the technique's name"
    for factor in factors:
        for level in factor.levels:
            for step in level.steps:
                taken[step.name] = f"the technique {step.name}"
                taken.update(dict.fromkeys(step.params, f"a parameter of {step.name}"))
    for factor in factors:
        if factor.sublayer in taken:
            source.problem(
                (*place, factor.sublayer),
                f"the column {factor.column} already is {taken[factor.sublayer]}: "
                "give the sub-layer another name",
            )


# ---------------------------------------------------------------- one entry of a list


def _level(source: Source, layer: str, item: object, place: Place) -> list[Level]:
    """Return the levels that one entry stands for."""
    if not isinstance(item, list):
        return [Level((choice,)) for choice in _choices(source, layer, item, place)]
    if layer not in PIPELINES:
        source.problem(place, f"takes one choice, not a list of steps, got {shown(item)}")
        return []
    if not item:
        source.problem(place, "a pipeline has at least one step, got []")
        return []
    steps = [_choices(source, layer, step, (*place, at)) for at, step in enumerate(item)]
    if not _bounded(source, place, [len(s) for s in steps]):
        return []
    return [Level(pipeline(each)) for each in itertools.product(*steps)]


def _bounded(source: Source, place: Place, sizes: Sequence[int]) -> bool:
    count = math.prod(sizes)
    if count > MAX_LEVELS:
        source.problem(place, f"stands for {count} choices; at most {MAX_LEVELS} are allowed")
    return count <= MAX_LEVELS


def _choices(source: Source, layer: str, item: object, place: Place) -> list[Choice]:
    """Return the choices that a name, or a name with parameters, stands for."""
    name, params = _named(item)
    if name is None:
        hint = " (write none, not null)" if item is None else ""
        source.problem(
            place,
            f"a choice is a name or one `name: {{parameter: value}}`, got {shown(item)}{hint}",
        )
        return []
    try:
        technique = registry.find(layer, name)
    except UserError as error:
        source.problem(place, str(error))
        return []
    if params is None:
        params = {}
    if not isinstance(params, Mapping):
        source.problem((*place, name), f"parameters are a mapping, got {shown(params)}")
        return []
    values = [_values(source, technique, p, v, (*place, name, p)) for p, v in params.items()]
    if not _bounded(source, place, [len(v) for v in values]):
        return []
    found = []
    for each in itertools.product(*values):
        made = _make(source, layer, name, dict(zip(params, each, strict=True)), place)
        if made is not None and made not in found:
            found.append(made)
    return found


def _named(item: object) -> tuple[str | None, object]:
    if isinstance(item, str):
        return item, None
    if isinstance(item, Mapping) and len(item) == 1:
        name, params = next(iter(item.items()))
        return (name, params) if isinstance(name, str) else (None, None)
    return None, None


def _values(
    source: Source, technique: type[Technique], parameter: str, value: object, place: Place
) -> list[object]:
    """Return the values that what is written at a parameter stands for."""
    value = _as_written(source, technique, parameter, value, place)
    listed = value
    if isinstance(value, Mapping) and set(value) == {"values"}:
        inner = (*place, "values")
        listed = _as_written(source, technique, parameter, value["values"], inner)
    elif not isinstance(value, list) or registry.takes_list(technique, parameter):
        return [value]
    if not isinstance(listed, list) or not listed:
        source.problem(place, f"needs a list of values, at least one, got {shown(listed)}")
        return []
    return listed


def _as_written(
    source: Source, technique: type[Technique], parameter: str, value: object, place: Place
) -> object:
    """Return numbers as the text that they were, where a parameter is text: ``1.10``."""
    if registry.fields(technique).get(parameter) not in (str, str | None):
        return value
    if isinstance(value, list):
        return [source.written.get((*place, at), each) for at, each in enumerate(value)]
    return source.written.get(place, value)


def _make(
    source: Source, layer: str, name: str, params: dict[str, object], place: Place
) -> Choice | None:
    try:
        return registry.choice(registry.make(layer, name, params))
    except UserError as error:
        for problem in error.problems:
            at = [p for p in params if f"{name}.{p}" in problem or f"parameter {p!r}" in problem]
            source.problem(
                (*place, name, *at[:1]), problem.removeprefix(f"{name}.{at[0]}: " if at else "")
            )
        return None


def known_columns(factors: Sequence[Factor]) -> set[str]:
    """Return every column that a rule can name in a stack of these factors."""
    known: set[str] = set()
    for factor in factors:
        known |= {factor.column, factor.layer, f"{factor.layer}.technique"}
        if factor.layer in ALIASES:
            known.add(f"{factor.layer}.{ALIASES[factor.layer]}")
        for step in (step for level in factor.levels for step in level.steps):
            for parameter in step.params:
                known |= {f"{factor.layer}.{parameter}", f"{factor.layer}.{step.name}.{parameter}"}
    return known
