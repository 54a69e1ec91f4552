"""A plan starts no process and makes a stack's techniques once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dlas.core import registry
from dlas.core.stack import Stack
from dlas.run.executed import Answers
from dlas.run.plan import plan
from dlas.run.plan.preview import preview
from dlas.run.process.interpreters import UNKNOWN, Interpreter, ask
from dlas.study.study import Study

PYTHON = sys.executable


def study(*software: Any) -> Study:
    return Study.from_dict(
        {
            "name": "elsewhere",
            "layers": {
                "dataset": ["digits"],
                "model": ["resnet-8"],
                "optimization": ["none", "bfloat16"],
                "software": list(software),
                "hardware": [
                    {"cpu": {"threads": 2}}
                ],  # a probe's stack has one: it is none of these
            },
        }
    )


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for name in ("fork", "posix_spawn", "posix_spawnp", "system", "execv", "execve"):
        monkeypatch.setattr(os, name, refuse)


@pytest.mark.usefixtures("no_process")
def test_a_plan_starts_no_process_and_says_what_it_did_not_look_at(tmp_path: Path) -> None:
    both = study("openvino", {"onnxruntime": {"python": PYTHON}})
    found = preview(both, seen=Answers(tmp_path).seen)
    assert found["not_looked_at"] == [PYTHON]
    assert preview(study("openvino"))["not_looked_at"] == []


@pytest.mark.usefixtures("no_process")
def test_an_interpreter_that_cannot_be_started_is_refused_as_a_run_does(tmp_path: Path) -> None:
    text = tmp_path / "python"
    text.write_text("no program")
    for path in ("/no/such/python", str(text), str(tmp_path)):
        found = preview(study("openvino", {"onnxruntime": {"python": path}}))
        [refused] = [r for r in found["refusals"] if "python" in r["reason"]]
        [answer] = ask([(path, ("onnxruntime",))]).values()
        assert refused == {"status": "unavailable", "reason": answer.problem, "cells": 1}
        assert path in answer.problem
        assert found["not_looked_at"] == []


@pytest.mark.usefixtures("no_process")
def test_what_an_interpreter_answered_decides() -> None:
    other = study({"onnxruntime": {"python": PYTHON}})
    live = plan.live(other.stacks)
    [(asked, modules)] = plan.questions(live)
    assert asked == PYTHON and "onnxruntime" in modules
    bad = plan.make(other, live, interpreters={asked: Interpreter(problem="lacks dlas")})
    assert {cell.refusal.reason for cell in bad.refused} >= {"lacks dlas"}
    assert not bad.runnable

    versions = {"python": "3.12.1", "onnxruntime": "1.2.3"}
    good = plan.make(other, live, interpreters={asked: Interpreter(versions)})
    unknown = plan.make(other, live)
    assert len(good.runnable) == len(unknown.runnable) > 0
    for known, blank in zip(good.runnable, unknown.runnable, strict=True):
        assert (known.network, known.reference) == (blank.network, blank.reference)
        assert known.build != blank.build, "its versions are in the key"
        assert blank.interpreter is not None
        assert set(blank.interpreter.versions.values()) == {UNKNOWN}


def test_techniques_of_a_stack_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[str] = Counter()
    resolve = registry.resolve

    def counted(stack: Stack) -> Any:
        made[stack.cell] += 1
        return resolve(stack)

    of = study("openvino", "pytorch")
    monkeypatch.setattr(registry, "resolve", counted)
    live = plan.live(of.stacks)
    answers = Answers(tmp_path)
    for stack, techniques in live:
        answers.seen(stack, techniques)
    plan.make(of, live, answers.seen)
    assert {stack.cell for stack in of.stacks} <= set(made)
    assert set(made.values()) == {1}
