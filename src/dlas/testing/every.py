"""What every technique promises, whatever its layer."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
from collections.abc import Mapping

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.keys import Json, canonical, key
from dlas.core.protocols import Refusal, Technique, Techniques
from dlas.testing import parent
from dlas.testing.check import Suite
from dlas.testing.jobs import Planned
from dlas.testing.stand_ins import many_stacks

UNKNOWN = "no_such_parameter"
WRONG: tuple[Json, ...] = ({"wrong": [None]}, "\x00 no such value", [[[]]], None, -1e300)
"""Values of which a checked parameter refuses one at least."""
RUNTIMES = (
    "torch",
    "tvm",
    "onnxruntime",
    "openvino",
    "ncnn",
    "executorch",
    "ai_edge_litert",
    "tensorflow",
    "jax",
)
"""What planning must not load; a light reader (of ONNX files, say) it may."""


def it_is_found_by_its_name(suite: Suite) -> None:
    """An entry point of its layer leads to a technique of the layer, under its own name."""
    cls = suite.cls
    suite.demand(
        getattr(cls, "name", None) == suite.name,
        f"its class is called {getattr(cls, 'name', None)!r}; entry point and name must agree",
    )
    suite.demand(cls.layer == suite.layer, f"its layer is {cls.layer!r}")
    said = {row["name"]: row for row in registry.catalogue(suite.layer)}[suite.name]
    suite.demand(
        said["summary"] and not said["summary"].startswith(f"{cls.__name__}("),
        "it has no docstring, whose first line is what `dlas catalog` shows",
    )


def it_is_a_frozen_dataclass_that_says_what_it_is(suite: Suite) -> None:
    """It is a frozen dataclass, and the facts in its class are of the right kind and true."""
    cls = suite.cls
    params = getattr(cls, "__dataclass_params__", None)
    suite.demand(
        params and params.frozen and "__dataclass_fields__" in cls.__dict__,
        "it is not decorated with @dataclass(frozen=True, kw_only=True)",
    )
    for fact in ("requires", "libraries", "sources", "places"):
        value = getattr(cls, fact)
        good = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
        suite.demand(good, f"{fact} must be a tuple of strings, it is {value!r}")
    strange = [p for p in cls.places if p not in {f.name for f in dataclasses.fields(cls)}]
    suite.demand(not strange, f"places names what is no parameter: {', '.join(strange)}")
    absent = [s for s in cls.sources if importlib.util.find_spec(s) is None]
    suite.demand(not absent, f"sources names modules that are not there: {', '.join(absent)}")
    _facts_of_layer(suite)


def _facts_of_layer(suite: Suite) -> None:
    allowed: dict[str, dict[str, tuple[str | bool | None, ...]]] = {
        "model": {"form": ("torch", "onnx")},
        "optimization": {
            "precision": (None, "float32", "float16", "bfloat16", "int8"),
            "data": ("none", "train"),
            "sparse": (True, False),
            "changes_nothing": (True, False),
        },
        "algorithm": {"chooses": (True, False)},
        "software": {"form": ("module", "exported", "onnx")},
    }
    for fact, values in allowed.get(suite.layer, {}).items():
        value = getattr(suite.cls, fact)
        suite.demand(value in values, f"{fact} is {value!r}; it must be one of {values}")
    if suite.layer == "dataset":
        licence = getattr(suite.cls, "licence", "")
        suite.demand(isinstance(licence, str) and licence.strip(), "it names no licence")


def unknown_parameters_are_refused(suite: Suite) -> None:
    """A parameter that does not exist is a UserError that names it."""
    problem = _refused(suite, {**suite.parameters, UNKNOWN: 1})
    suite.demand(problem is not None, f"it accepted the parameter {UNKNOWN!r}")
    suite.demand(UNKNOWN in str(problem), f"the refusal does not name the parameter: {problem}")


def values_of_the_wrong_type_are_refused(suite: Suite) -> None:
    """A value that a parameter cannot have is a UserError, for every parameter."""
    assert suite.technique is not None
    for parameter in registry.fields(suite.cls):
        refused = [v for v in WRONG if _refused(suite, {**suite.parameters, parameter: v})]
        suite.demand(
            refused, f"its parameter {parameter!r} accepts anything: say its type and limits"
        )


def _refused(suite: Suite, params: Mapping[str, Json]) -> UserError | None:
    try:
        registry.make(suite.layer, suite.name, params)
    except UserError as error:
        return error
    return None


def its_choice_is_json_and_can_be_revived(suite: Suite) -> None:
    """Choice and back gives an equal, equally hashed technique; the choice is JSON."""
    technique = suite.technique
    made = registry.choice(technique)
    canonical(made.to_json())
    again = registry.revive(suite.layer, made)
    suite.demand(again == technique, f"{made.text} revived is {again!r}, not {technique!r}")
    known = set(made.params)
    fields = set(registry.fields(suite.cls))
    # What came later is left out while it says nothing (``exclude_if``): old keys stay.
    left_out = {name for name in fields - known if name not in made.shown}
    suite.demand(
        known | left_out == fields,
        f"the choice holds {sorted(known)}, parameters are {sorted(fields)}",
    )


def its_identity_is_json_and_stable(suite: Suite) -> None:
    """What its keys are made of is JSON, and the same for equal techniques and in any process."""
    one = registry.identity(suite.technique)
    two = registry.identity(registry.make(suite.layer, suite.name, suite.parameters))
    try:
        said = [key("identity", identity) for identity in (one, two)]
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"{suite.layer} {suite.name!r}: the identity (or fingerprint) is not JSON: {error}"
        ) from error
    suite.demand(said[0] == said[1], f"identity and fingerprint change: {one!r}, then {two!r}")
    other = _planned(suite)["identity"]
    here = json.loads(json.dumps(one))
    suite.demand(other == here, f"another process says {other!r}, this one {here!r}")


def importing_it_loads_no_heavy_library(suite: Suite) -> None:
    """Importing its module loads neither torch and its like nor what it requires."""
    loaded = _planned(suite)["imported"]
    suite.demand(
        not loaded, f"importing it loads {', '.join(loaded)}: import them inside the methods"
    )


def planning_with_it_loads_no_runtime(suite: Suite) -> None:
    """Making it and asking for its identity loads no runtime."""
    loaded = [name for name in _planned(suite)["planned"] if name in RUNTIMES]
    suite.demand(not loaded, f"planning with it loads {', '.join(loaded)}")


def _planned(suite: Suite) -> Planned:
    """Return what a process of its own says that only plans with the technique."""
    given = (suite.cls, suite.layer, suite.name, suite.parameters)
    return suite.once("plan", lambda: parent.planned(*given))


def it_answers_for_any_stack(suite: Suite) -> None:
    """``why_not`` answers None or a refusal with a reason for any stack, and the same twice."""
    for stack in stacks(suite):
        said = suite.technique.why_not(stack)
        good = said is None or (
            isinstance(said, Refusal)
            and said.status in ("impossible", "unavailable")
            and isinstance(said.reason, str)
            and len(said.reason.split()) > 2
        )
        suite.demand(
            good, f"why_not must answer None or a Refusal with a sentence, it answered {said!r}"
        )
        again = suite.technique.why_not(stack)
        suite.demand(said == again, f"why_not answers {said!r}, then {again!r}")


def it_refuses_not_every_stack(suite: Suite) -> None:
    """There is a stack in which it can stand."""
    suite.needs()
    said = [suite.technique.why_not(stack) for stack in stacks(suite)]
    suite.demand(None in said, f"it refuses every stack, e.g. {said[0]}")


def stacks(suite: Suite) -> tuple[Techniques, ...]:
    """Return the stacks around a suite's technique, on the suite's data set and model."""

    def make() -> tuple[Techniques, ...]:
        others: list[Technique] = [suite.on.dataset, suite.on.model]
        others = [t for t in others if t.layer != suite.layer]
        return tuple(many_stacks(suite.technique, *others))

    return suite.once("stacks", make)


def its_methods_are_not_those_of_the_base(suite: Suite) -> None:
    """It has its own of what its layer must have."""
    base = registry.BASES[suite.layer]
    must = {
        "dataset": ("spec", "load"),
        "model": ("build",),
        "optimization": ("apply",),
        "algorithm": ("kernel",),
        "software": ("build", "load"),
        "hardware": ("describe",),
    }
    lacking = [
        m for m in must[suite.layer] if getattr(suite.cls, m, None) is getattr(base, m, None)
    ]
    suite.demand(not lacking, f"it lacks {', '.join(lacking)}")
    for method in must[suite.layer]:
        wanted = list(inspect.signature(getattr(base, method)).parameters)
        found = list(inspect.signature(getattr(suite.cls, method)).parameters)
        suite.demand(found == wanted, f"{method}({', '.join(found)}): needed {wanted}")


EVERY = (
    it_is_found_by_its_name,
    it_is_a_frozen_dataclass_that_says_what_it_is,
    its_methods_are_not_those_of_the_base,
    unknown_parameters_are_refused,
    values_of_the_wrong_type_are_refused,
    its_choice_is_json_and_can_be_revived,
    its_identity_is_json_and_stable,
    importing_it_loads_no_heavy_library,
    planning_with_it_loads_no_runtime,
    it_answers_for_any_stack,
    it_refuses_not_every_stack,
)
