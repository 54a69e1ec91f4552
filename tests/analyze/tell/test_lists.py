"""Sentences that name several things: what separates them, and what is said of them once."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import load_table
from dlas.analyze.parts.expected import OPEN, RIGHT
from dlas.analyze.tell.elbows import elbows
from dlas.analyze.tell.expected import _each
from dlas.analyze.tell.pareto import _members

TABLE = load_table(pd.DataFrame({"net": ["p", "q"], "ms": [1.0, 2.0]}), layers="net", metric="ms")


def part(at, observed, expected=2.22, verdict="", achieved=0.5):
    return SimpleNamespace(
        at=at, observed=observed, expected=expected, verdict=verdict, achieved=achieved
    )


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([part("p", 0.9), part("q", 1.08)],
         ", of 2.22 times promised: p 11 % slower, q 8.0 % faster, each less than promised"),
        ([part("p", 0.9), part("q", 2.2, verdict=RIGHT)],
         ": p 11 % slower of 2.22 times promised (less than promised), q 2.20 times faster of "
         "2.22 times promised (as promised)"),
        ([part("p", 2.0, verdict=OPEN), part("q", 2.0, 2.5, verdict=OPEN)],
         ": p 2.00 times faster of 2.22 times promised (which may be as promised), q 2.00 times "
         "faster of 2.50 times promised (which may be as promised)"),
    ],
)  # fmt: skip
def test_what_is_the_same_of_all_parts_of_a_promise_is_said_once(parts, said) -> None:
    assert _each(TABLE, parts) == said


def test_members_of_a_front_are_told_apart_though_they_have_commas() -> None:
    stacks = ["a=1, b=2 (ms 1.00)", "a=1, b=3 (ms 2.00)", "c3"]
    assert _members(stacks, 3) == "a=1, b=2 (ms 1.00); a=1, b=3 (ms 2.00); c3"
    assert _members(stacks, 1) == "a=1, b=2 (ms 1.00); 2 more"


def curves(gains, levels=(1.0, 2.0, 4.0)):
    return pd.DataFrame(
        [
            {"factor": "o.s", "technique": "thin", "level": 1.0, "low": np.nan, "high": np.nan,
             "next": 2.0, "gain": gain, "cost": 0.5, "allowed": 0.1, "levels": list(levels),
             "cells": [str(i)]}
            for i, gain in enumerate(gains)
        ]
    )  # fmt: skip


def test_the_step_that_gains_the_median_is_told() -> None:
    (found,) = elbows(SimpleNamespace(elbows=curves((0.9, 0.1, 0.01, 0.2, 0.02)), table=TABLE))
    assert "the step to 2.00 saves 10 % of ms" in found.sentence
    assert found.cells == ("1",)


def test_two_levels_have_no_elbow() -> None:
    two = curves((0.1, 0.2), levels=(1.0, 2.0))
    assert not list(elbows(SimpleNamespace(elbows=two, table=TABLE)))
    both = pd.concat([two, curves((0.3,))])
    (found,) = elbows(SimpleNamespace(elbows=both, table=TABLE))
    assert "in 1 of 1 context:" in found.sentence
