"""Ways of one technique are set beside each other though hardly two cells differ in them alone."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import analyze, load_table
from dlas.analyze.parts.ways import way_of

NETS = ("p", "q", "r")
LEAST = {"minimize": ["value"]}
SPEED = {
    # What a runtime makes of the shared form and of its own, by network.
    "both": {"squeeze": (2.0, 2.0, 2.0), "squeeze(by=self)": (1.0, 4.0, 1.8)},
    "reader": {"squeeze": (3.0, 1.0, 3.0)},
    "maker": {"squeeze(by=self)": (6.0, 6.0, 1.2)},
}


def study(noise=0.003, goals=None, drop=0.0, **options):
    """A study in which one runtime takes both forms, one the shared one, one its own alone."""
    random = np.random.default_rng(0)
    rows = [
        (net, run, form, k, ms * np.exp(random.normal(0, noise)), 0.0 if run != "maker" else drop)
        for run, forms in (SPEED | {"plain": {}}).items()
        for form, by_net in ({"none": (9.0, 9.0, 9.0)} | forms).items()
        for (net, ms), k in itertools.product(zip(NETS, by_net, strict=True), range(4))
    ]
    frame = pd.DataFrame(rows, columns=["net", "run", "step", "i", "ms", "drop"])
    return load_table(
        frame, layers="net,run,step", metric="ms", rounds="i", given=["net"],
        baseline=["step=none"], goals=goals, **options,
    )  # fmt: skip


def told(table):
    return [f for f in analyze(table).findings if f.kind == "ways"]


def test_each_way_stands_with_what_goes_best_with_it():
    found = analyze(study()).ways.set_index("at")
    assert list(found.index) == [f"net={net}" for net in NETS]
    assert found["way"].tolist() == ["squeeze(by=self)", "squeeze", "squeeze(by=self)"]
    assert found["stack"].tolist() == ["run=both", "run=reader", "run=maker"]
    assert found["other_stack"].tolist() == ["run=both", "run=both", "run=both"]
    assert found["ratio"].tolist() == pytest.approx([2.0, 4.0, 2.0 / 1.2], rel=0.02)
    assert (found["low"] > 1).all() and found["sure"].all()
    assert set(found["kind"]) == {"squeeze"} and found["apart"].tolist() == [["run"]] * 3


def test_the_sentence_says_whose_wins_where_and_where_they_meet():
    (found,) = told(study())
    text = found.sentence
    assert "squeeze(by=self), squeeze do not go with the same run" in text
    assert "squeeze(by=self) is the fastest in 2 of 3 contexts (surely in 2)" in text
    assert "squeeze is the fastest in 1 of 3 contexts (surely in 1)" in text
    assert "at net=q squeeze with run=reader is 4" in text
    assert "they meet in 3 contexts, all of them with run=both" in text
    assert "surely faster than squeeze in 2, surely slower in 1" in text
    assert found.numbers["best"] == {"squeeze(by=self)": 2, "squeeze": 1}
    assert found.choices == ("step=squeeze(by=self)", "step=squeeze")


def test_what_misses_the_goals_wins_nothing():
    goals = {"minimize": ["ms"], "drop_at_most": 0.1}
    within = analyze(study(goals=goals, drop=0.5)).ways.set_index("at")
    assert within.loc["net=r", "stack"] == "run=both"
    (found,) = told(study(goals=goals, drop=0.5))
    assert "within the goals" in found.sentence and "run=maker" not in found.sentence


def test_what_noise_can_make_is_not_sure():
    found = analyze(study(noise=2.0)).ways
    assert not found["sure"].any()
    assert "(not for sure)" in told(study(noise=2.0))[0].sentence


@pytest.mark.parametrize("form", ["squeeze(bits=4)", "other"])
def test_numbers_and_other_techniques_are_no_other_way(form):
    table = study()
    cells = table.cells["step"].replace({"squeeze(by=self)": form})
    frame = table.cells.assign(step=cells)[["net", "run", "step", "value"]]
    other = load_table(frame, layers="net,run,step", metric="value", given=["net"], goals=LEAST)
    assert not len(analyze(other).ways)


def test_ways_that_go_with_the_same_choices_are_compared_as_all_others():
    rows = [(net, run, form, ms) for net, ms in (("p", 1.0), ("q", 2.0))
            for run in "ab" for form in ("none", "squeeze", "squeeze(by=self)")]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["net", "run", "step", "ms"])
    table = load_table(frame, layers="net,run,step", metric="ms", given=["net"])
    assert not len(analyze(table).ways)


@pytest.mark.parametrize(
    ("level", "way"),
    [
        ("a", "a"),
        ("a(x=1)", "a"),
        ("a(x=0.5,y=b)+c(z=1e-3)", "a(y=b)+c"),
        ("a(x=2x2)", "a(x=2x2)"),
    ],
)
def test_a_way_is_a_choice_without_its_numbers(level, way):
    assert way_of(level) == way
