"""What every hardware technique promises."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any
from unittest import SkipTest

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.keys import Json
from dlas.testing import parent
from dlas.testing.check import Suite
from dlas.testing.jobs import Planned

MANY = 10**6


def it_is_there_or_says_why_not(suite: Suite) -> None:
    """``missing`` answers None, or a sentence, and the same twice."""
    said: object = suite.technique.missing()
    good = said is None or (isinstance(said, str) and len(said.split()) > 2)
    suite.demand(good, f"missing() must be None or a sentence, it is {said!r}")
    suite.demand(suite.technique.missing() == said, "missing() changes its mind")


def it_describes_itself_as_json(suite: Suite) -> None:
    """``describe`` gives JSON that names the device, and the same twice."""
    suite.needs_device(suite.technique)
    said: Any = suite.technique.describe()
    suite.demand(isinstance(said, dict) and said, f"describe() is {said!r}")
    again = _json(suite, "describe()", said)
    suite.demand(again == said, f"describe() as JSON is {again!r}, not {said!r}")
    suite.demand(suite.technique.describe() == said, "describe() gives other facts when repeated")
    device = said.get("device")
    suite.demand(
        device == suite.technique.device,
        f"describe()['device'] is {device!r}, the class says {suite.technique.device!r}",
    )


def its_target_is_json_without_threads(suite: Suite) -> None:
    """``target`` is what code depends on, as JSON: the same for any number of threads."""
    suite.needs_device(suite.technique)
    one, two = (dataclasses.replace(suite.technique, threads=n).target() for n in (1, 2))
    suite.demand(
        one is not None, "target() is None: builds for different machines would share a key"
    )
    _json(suite, "target()", one)
    suite.demand(one == two, f"target() depends on the threads: {one!r} and {two!r}")


def its_target_says_what_native_is(suite: Suite) -> None:
    """``native`` stands resolved in the target, so that other machines' code is not taken."""
    suite.needs_device(suite.technique)
    if suite.technique.isa != "native":
        raise SkipTest(f"isa is {suite.technique.isa}")
    said = json.dumps(suite.technique.target())
    suite.demand('"native"' not in said, f"target() says native and not what that is: {said}")


def threads_are_checked(suite: Suite) -> None:
    """``threads`` is a parameter; 0 is a UserError, more than there are processors is missing."""
    suite.demand("threads" in registry.fields(suite.cls), "it has no parameter threads")
    for wrong in (0, -1, 1.5, "two"):
        try:
            registry.make(suite.layer, suite.name, {**suite.parameters, "threads": wrong})
        except UserError:
            continue
        suite.demand(False, f"it accepted threads: {wrong!r}")
    made = dataclasses.replace(suite.technique, threads=MANY)
    if suite.technique.device == "cpu":
        suite.demand(made.missing(), f"{MANY} threads are asked for, and nothing is missing")


def it_counts_the_processors_of_its_process(suite: Suite) -> None:
    """A process held to one processor is told that two threads are missing; the target stays."""
    suite.needs_device(suite.technique)
    if suite.technique.device != "cpu" or len(os.sched_getaffinity(0)) < 2:
        raise SkipTest("this needs a CPU with two processors")
    one, two = (_held(suite, threads) for threads in (1, 2))
    suite.demand(one["missing"] is None, f"one thread on one processor: {one['missing']}")
    suite.demand(two["missing"], "two threads on one processor, and nothing is missing")
    here = json.loads(json.dumps(suite.technique.target()))
    suite.demand(
        one["target"] == here, f"held to one processor its target is {one['target']}, not {here}"
    )


def _held(suite: Suite, threads: int) -> Planned:
    """Return what the technique says in a process that is held to one processor."""
    params = {**suite.parameters, "threads": threads}
    last = max(os.sched_getaffinity(0))
    return parent.planned(suite.cls, suite.layer, suite.name, params, (last,))


def _json(suite: Suite, what: str, value: Json) -> Json:
    try:
        again: Json = json.loads(json.dumps(value, allow_nan=False))
        return again
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"hardware {suite.name!r}: {what} is not JSON: {error}: {value!r}"
        ) from error


HARDWARE = (
    it_is_there_or_says_why_not,
    it_describes_itself_as_json,
    its_target_is_json_without_threads,
    its_target_says_what_native_is,
    threads_are_checked,
    it_counts_the_processors_of_its_process,
)
