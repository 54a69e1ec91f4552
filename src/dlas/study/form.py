"""The form of a study file: its keys, their types, and the JSON Schema made from them.

What stands below ``layers``, ``base`` and ``stacks`` depends on the techniques installed and is
read in ``choices.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic_core import ErrorDetails

from dlas.core.errors import near
from dlas.core.goals import AT_LEAST, AT_MOST, Goals
from dlas.core.keys import Json
from dlas.core.records import MeasureSettings, RoundRange
from dlas.core.stack import LAYERS
from dlas.study.source import Place, Source, shown

SCHEMA = Path(__file__).with_name("study.schema.json")
MAX_STACKS = 100_000
"""A study may have at most so many stacks."""

METRICS = (
    "quiet_ms", "latency_ms", "latency_p90_ms", "latency_p99_ms", "first_inference_ms",
    "load_ms", "import_s", "build_s", "memory_mb", "weights_mb", "artifact_mb", "params",
    "nonzero_params", "macs", "effective_macs", "accuracy", "accuracy_drop", "flips",
    "max_abs_error", "energy_mj",
)  # fmt: skip
"""The columns of the table that a goal can name."""

Metric = Literal[METRICS]  # type: ignore[valid-type]

SHARES: Mapping[str, tuple[float, float]] = {"accuracy": (0, 1), "accuracy_drop": (-1, 1)}
"""Metrics that are shares, not per cent, and what they can be; the others are not negative."""

Schema = dict[str, Json]
"""A part of the JSON Schema."""

_NAMED: list[Json] = [
    {"type": "string"},
    {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": {"type": ["object", "null"]},
    },
]
_CHOICE: Schema = {
    "description": "a technique's name, or `name: {parameter: value or list of values}`",
    "anyOf": _NAMED,
}
_ONE: list[Json] = [*_NAMED, {"type": "array", "minItems": 1, "items": _CHOICE}]
_LEVEL: Schema = {
    "description": "a choice, or a pipeline: a list of choices applied in turn",
    "anyOf": _ONE,
}
_SEVERAL: list[Json] = [{"type": "string"}, {"type": "array", "minItems": 1, "items": _LEVEL}]
_BLOCK: Schema = {
    "description": "a list of choices, or sub-layers that are crossed and applied in turn",
    "anyOf": [
        *_SEVERAL,
        {"type": "object", "minProperties": 1, "additionalProperties": {"anyOf": _SEVERAL}},
    ],
}
_POINT: Schema = {"anyOf": [*_ONE, {"type": "object", "additionalProperties": _LEVEL}]}


def _by_layer(block: Schema, required: list[str]) -> WithJsonSchema:
    properties = {layer: dict(block) for layer in LAYERS}
    return WithJsonSchema(
        {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "required": required,
        }
    )


REQUIRED = ["dataset", "model", "software"]
"""Layers without a neutral choice."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RandomSize(_Strict):
    """How many stacks a random design draws."""

    n: int = Field(ge=1, le=MAX_STACKS, description="stacks to draw")
    seed: int = Field(0, ge=0, description="the same seed draws the same stacks")


class RandomDesign(_Strict):
    """Stacks drawn evenly from the full factorial, among those that the rules allow."""

    random: RandomSize


class PairwiseSize(_Strict):
    """A design that covers pairs."""

    seed: int = Field(0, ge=0, description="breaks ties")


class PairwiseDesign(_Strict):
    """Few stacks in which every pair of choices that the rules allow occurs."""

    pairwise: PairwiseSize


class DOptimalSize(_Strict):
    """How many stacks, and which effects they are to tell."""

    n: int = Field(ge=2, le=2000, description="stacks to choose")
    effects: Literal["singles", "pairs"] = Field(
        "singles", description="effects of single choices, or interactions of two as well"
    )
    seed: int = Field(0, ge=0, description="breaks ties")


class DOptimalDesign(_Strict):
    """The stacks that tell effects best: the largest determinant of their information."""

    d_optimal: DOptimalSize = Field(alias="d-optimal")


class NeighboursSize(_Strict):
    """Around which stack, and how far."""

    of: str = Field(min_length=4, description="a cell: the start of its hash")
    changes: int = Field(2, ge=1, le=20, description="choices that may differ, at most")


class NeighboursDesign(_Strict):
    """A stack and all that differ from it in few choices."""

    neighbours: NeighboursSize


DESIGNS: Mapping[str, type[BaseModel]] = {
    "random": RandomDesign,
    "pairwise": PairwiseDesign,
    "d-optimal": DOptimalDesign,
    "neighbours": NeighboursDesign,
}
"""The designs that have settings, by their key."""
_SIZES: Mapping[str, type[BaseModel]] = {
    "random": RandomSize,
    "pairwise": PairwiseSize,
    "d-optimal": DOptimalSize,
    "neighbours": NeighboursSize,
}
_TAG = "design:"
"""What the tags of designs begin with: they are no part of a place."""


def _tag(value: object) -> str:
    if isinstance(value, Mapping):
        known = [key for key in value if key in DESIGNS]
        close = [n for key in value for n in get_close_matches(str(key), DESIGNS, 1)]
        return f"{_TAG}{next(iter([*known, *close]), 'random')}"
    found = next((name for name, kind in DESIGNS.items() if isinstance(value, kind)), "text")
    return f"{_TAG}{found}"


def _bound(metric: str, bound: str) -> tuple[object, Any]:
    least, most = SHARES.get(metric, (0, None))
    return float | None, Field(None, ge=least, le=most, description=f"{metric} {bound}")


_BOUNDS: dict[str, Any] = {
    f"{metric}_{bound}": _bound(metric, bound)
    for metric in METRICS
    for bound in ("at_most", "at_least")
}
GoalsForm: Any = create_model(
    "GoalsForm",
    __base__=_Strict,
    __doc__="What is sought: metrics to minimize or maximize, and bounds on them.",
    minimize=(list[Metric], Field([], description="metrics to make small")),
    maximize=(list[Metric], Field([], description="metrics to make large")),
    **_BOUNDS,
)


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Rules = Annotated[
    list[str],
    BeforeValidator(_one_or_many),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    ),
]


class StudyForm(_Strict):
    """A study file: which stacks to run, how they are measured, what is sought."""

    dlas: Literal[1] = Field(description="version of this form")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80, description="name of the study"
    )
    description: str = Field("", description="what the study is for")
    folder: str | None = Field(
        None,
        min_length=1,
        description="where relative paths and own modules are looked for, "
        "instead of beside this file",
    )
    layers: Annotated[object, _by_layer(_BLOCK, REQUIRED)] = Field(
        None, description="the choices at each layer"
    )
    design: Annotated[
        Annotated[Literal["full", "one-at-a-time"], Tag("design:text")]
        | Annotated[RandomDesign, Tag("design:random")]
        | Annotated[PairwiseDesign, Tag("design:pairwise")]
        | Annotated[DOptimalDesign, Tag("design:d-optimal")]
        | Annotated[NeighboursDesign, Tag("design:neighbours")],
        Discriminator(_tag),
    ] = Field("full", description="which combinations of the choices are run")
    base: Annotated[object, _by_layer(_POINT, [])] = Field(
        None, description="where one-at-a-time starts; a layer left out starts at its first choice"
    )
    stacks: Annotated[
        object,
        WithJsonSchema(
            {
                "type": "array",
                "minItems": 1,
                "items": _by_layer(_LEVEL, REQUIRED).json_schema,
            }
        ),
    ] = Field(None, description="stacks to run, one by one; they come before those of `layers`")
    where: Rules = Field([], description="rules that every stack must meet")
    exclude: Rules = Field([], description="rules that no stack may meet")
    measure: MeasureSettings = MeasureSettings.model_validate({})
    goals: GoalsForm = GoalsForm()


def read_form(source: Source) -> StudyForm | None:
    """Return the checked form of a source, or None: then its problems are noted in the source."""
    if not isinstance(source.data, Mapping):
        source.problem((), f"a study file is a mapping of keys, got {shown(source.data)}")
        return None
    words = {k: source.written[(k,)] for k in ("name", "description") if (k,) in source.written}
    try:
        return StudyForm.model_validate({**source.data, **words})
    except ValidationError as error:
        for each in error.errors():
            place = tuple(part for part in each["loc"] if not str(part).startswith(_TAG))
            source.problem(*_translate(place, each))
        return None


def _translate(place: Place, error: ErrorDetails) -> tuple[Place, str]:
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        known = _keys(place[:-1])
        return place, f"unknown key.{near(str(place[-1]), known)} Allowed: {_listed(known)}."
    if kind == "missing":
        return place[:-1], f"needs the key {str(place[-1])!r}{_HINTS.get(place, '')}"
    if place[:1] == ("design",) and place != ("design",):
        return place, f"{error['msg']}, got {shown(given)}"
    if place == ("design",):
        form = (
            "full, one-at-a-time or {random: {n: 200, seed: 1}}, {pairwise: {}}, {d-optimal: "
            "{n: 60, effects: pairs}}, {neighbours: {of: CELL, changes: 2}}"
        )
        return place, f"must be {form}, got {shown(given)}.{near(str(given), _DESIGNS)}"
    if place[:1] == ("goals",) and kind == "literal_error":
        metrics = ", ".join(METRICS)
        return (
            place,
            f"no metric is called {shown(given)}.{near(str(given), METRICS)} Metrics: {metrics}.",
        )
    if place[:1] == ("goals",) and kind in ("greater_than_equal", "less_than_equal"):
        return place, _off_limits(str(place[-1]), given)
    if kind == "string_pattern_mismatch":
        return place, f"may hold letters, digits, '.', '_' and '-' only, got {shown(given)}"
    return place, f"{error['msg']}, got {shown(given)}"


def _off_limits(key: str, given: float) -> str:
    metric = key.removesuffix(AT_MOST).removesuffix(AT_LEAST)
    if metric not in SHARES:
        return f"{metric} is never negative, got {shown(given)}"
    least, most = SHARES[metric]
    percent = f": {given:g} % is {given / 100:g}" if abs(given) <= 100 else ""
    return f"{metric} is a share from {least:g} to {most:g}, got {shown(given)}{percent}"


def within_limits(goals: Goals) -> tuple[Goals, tuple[str, ...]]:
    """Return goals without limits that no metric can meet or miss, and what is wrong with those.

    Studies of an earlier dlas may have some.
    """
    said: list[str] = []

    def kept(limits: Sequence[tuple[str, float]], end: str) -> tuple[tuple[str, float], ...]:
        good = []
        for metric, value in limits:
            least, most = SHARES.get(metric, (0, math.inf))
            if metric in METRICS and not least <= value <= most:
                said.append(f"goals.{metric}{end}: {_off_limits(metric, value)}; left out")
            else:
                good.append((metric, value))
        return tuple(good)

    most, least = kept(goals.at_most, AT_MOST), kept(goals.at_least, AT_LEAST)
    return replace(goals, at_most=most, at_least=least), tuple(said)


_HINTS: dict[Place, str] = {
    ("dlas",): ": the version of the form, `dlas: 1`",
    ("name",): ": the study's name",
}
_DESIGNS = ("full", "one-at-a-time", *DESIGNS)


def _listed(known: list[str]) -> str:
    if "minimize" in known:
        return "minimize, maximize, and METRIC_at_most and METRIC_at_least of each metric"
    return ", ".join(known)


def _keys(place: Place) -> list[str]:
    inner: dict[Place, type[BaseModel]] = {
        (): StudyForm,
        ("measure",): MeasureSettings,
        ("measure", "rounds"): RoundRange,
        ("goals",): GoalsForm,
        **{("design", name): size for name, size in _SIZES.items()},
    }
    return list(DESIGNS) if place == ("design",) else list(inner[place].model_fields)


def schema() -> Schema:
    """Return the JSON Schema of a study file."""
    made = StudyForm.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "dlas study",
    }


def write_schema() -> None:
    """Write the schema into the package; a test says when this is due."""
    SCHEMA.write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")
