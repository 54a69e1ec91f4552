"""Findings as sentences: what they rest on, and how they are said."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import analyze, load_table
from dlas.analyze.conclusion import Finding
from dlas.analyze.tell.words import apart, around, brief, signed


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(3)
    rows = []
    for m in ("p", "q", "r"):
        for o, macs in (("full", 100.0), ("half", 50.0), ("third", 33.0)):
            for threads in (1, 2, 4):
                ms = {"p": 1.0, "q": 2.0, "r": 5.0}[m] * (macs / 100) ** (0.2 if m == "q" else 0.9)
                ms *= {1: 1.0, 2: 0.7, 4: 0.69}[threads] * (1.6 if m == "r" and o == "half" else 1)
                weight = {"p": 30.0, "q": 20.0, "r": 10.0}[m]
                for i in range(3):
                    rows.append(
                        (m, o, threads, i, ms * float(np.exp(rng.normal(0, 0.003))), macs,
                         macs * weight, 0.9 - 0.02 * (threads > 2), "h", "same")
                    )  # fmt: skip
    names = ["m", "o", "threads", "i", "latency_ms", "macs", "params", "accuracy", "host", "k"]
    frame = pd.DataFrame(rows, columns=names)
    ceilings = pd.DataFrame(
        {"host": "h", "threads": [1, 2, 4], "gflops": 1e-3, "gb_s": np.nan, "overhead_ms": 0.3}
    )
    table = load_table(
        frame, layers="k,m,o,threads", metric="latency_ms", rounds="i", baseline=["o=full"],
        ceilings=ceilings,
    )  # fmt: skip
    return analyze(table)


def test_from_every_finding_a_reader_gets_to_cells_of_the_table(found):
    known = set(found.table.cells["cell"])
    kinds = {f.kind for f in found.findings}
    assert {"best", "importance", "loss", "expectation", "roofline", "returns"} <= kinds
    for f in found.findings:
        assert set(f.cells) <= known
        if f.kind != "noise":  # of which only controls have cells, and there are none here
            assert f.cells, f.sentence


def test_a_choice_has_one_expectation_with_its_contexts_listed(found):
    told = [f for f in found.findings if f.kind == "expectation"]
    promised = found.expected[found.expected["by"] == ""]
    assert len(told) == len(promised[["factor", "level"]].drop_duplicates())
    half = next(f for f in told if "o=half" in f.sentence)
    assert half.numbers["cost"] == "macs"
    assert ". By m, of 2.00 times promised: " in half.sentence
    assert ", each less than promised. " in half.sentence
    assert "What caps its cells: " in half.sentence


def test_every_interval_holds_its_estimate(found):
    for f in found.findings:
        if math.isfinite(f.low):
            assert f.low <= f.ratio <= f.high, f.sentence


def test_a_layer_of_one_level_is_not_named_in_places(found):
    assert not any("k=same" in f.sentence for f in found.findings if f.kind != "best")
    assert brief(found.table, "k=same, m=p") == "m=p"
    assert apart(found.table, "k=same, m=p, o=half", "k=same, m=q, o=half") == (
        "m=p",
        "m=q",
        "o=half",
    )


@pytest.mark.parametrize(
    ("ratio", "low", "high", "said"),
    [
        (1.4, 1.3, 1.51, "30 % to 51 %"),
        (2.0, 1.9, 2.1, "1.90 to 2.10 times"),
        (1 / 1.4, 1 / 1.51, 1 / 1.3, "30 % to 51 %"),
        (0.25, 0.2, 0.5, "2.00 to 5.00 times"),
        (1.04, 0.98, 1.1, "2.0 % slower to 10 % faster"),
        (0.96, 0.9, 1.02, "2.0 % faster to 11 % slower"),
    ],
)
def test_an_interval_is_said_as_its_estimate_is(found, ratio, low, high, said):
    assert around(found.table, ratio, low, high) == f", 95 % interval {said}"
    assert around(found.table, ratio, math.nan, high) == ""


def test_a_ratio_is_said_with_its_direction(found):
    assert signed(found.table, 0.5) == "2.00 times slower"
    assert signed(found.table, 1.12) == "12 % faster"
    assert signed(found.table, 1.0) == "the same"


def test_what_is_nearly_always_true_does_not_pay_for_what_is_not():
    judged = importlib.import_module("dlas.analyze.tell.findings")._judged
    known = SimpleNamespace(estimates=SimpleNamespace(known=True))
    costs = [Finding("expectation", "", p=1e-6, certainty="claim") for _ in range(2)]
    others = [Finding("speed-up", "", p=p, certainty="claim") for p in (0.003, *[0.5] * 23)]
    assert [f.kind for f in judged(known, [*costs, *others])] == ["expectation"] * 2
    others[0] = replace(others[0], p=0.002)
    kept = judged(known, [*costs, *others])
    assert [f.kind for f in kept] == ["expectation"] * 2 + ["speed-up"]
    assert kept[2].q == pytest.approx(24 * 0.002)


def test_two_straw_men_come_after_a_straw_man_beside_a_contender() -> None:
    ranked = importlib.import_module("dlas.analyze.tell.findings")._ranked
    near = {"software": frozenset({"s2"})}
    straw = Finding("speed-up", "", ratio=5.7, choices=("software=s1", "software=s0"))
    beside = Finding("speed-up", "", ratio=1.2, choices=("software=s2", "software=s1"))
    every = [replace(f, contender=False, certainty="significant") for f in (straw, beside)]
    assert [f.ratio for f in ranked(every, (), near)] == [1.2, 5.7]
    assert [f.ratio for f in ranked(every, (), {})] == [5.7, 1.2]


def test_a_layer_and_its_sublayer_that_say_the_same_are_one_fact() -> None:
    once = importlib.import_module("dlas.analyze.tell.findings")._once_a_fact
    cells = ("a", "b")
    whole = Finding("expectation", "", ratio=2.0, cells=cells, choices=("x=p",), fact="x: p")
    part = replace(whole, choices=("x.of=p",), fact="x.of: p")
    other = Finding("expectation", "", ratio=1.1, cells=("c",), choices=("y=q",), fact="y: q")
    assert once([whole, part, other]) == [whole, other, part]
    assert once([whole, replace(part, ratio=3.0), other])[1].ratio == 3.0
