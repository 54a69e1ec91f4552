"""Curves along a column: what is a reading and what a straight line, and unlike curves."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from claim_tables import SIZE, claim, curve, evidence, judged, verdict
from dlas.core.goals import Goals

BREAK = "breakeven('{}' in opt, opt == 'none', along=opt.s) {} in every {}"


def test_what_nobody_measured_is_said_to_be_between_levels():
    found = evidence(curve(lambda m, s: 1.5 - s / 1.4), layers=["model", "opt"])
    said = {}
    for at in ("0.6", "0.7"):
        (one,) = judged(found, claim(BREAK.format("thin", f"> {at}", "model")))
        (said[at],) = {re.sub(r"\(\d.*", "", a.told) for a in one.tests[0].answers}
    assert "at opt.s 0.6 (between levels, by a straight line), thin takes" in said["0.6"]
    assert "at opt.s 0.7, thin takes" in said["0.7"]


def two_kinds(thin, cut):
    """Return networks pruned in two ways, each with levels of its own: time by level."""
    rows = []
    for m in "abc":
        rows.append({"model": m, "opt": "none", "opt.s": "", "ms": SIZE[m]})
        for kind, levels in (("thin", thin), ("cut", cut)):
            rows += [
                {"model": m, "opt": f"{kind}(s={s})", "opt.s": str(s), "ms": SIZE[m] * ms}
                for s, ms in levels.items()
            ]
    return pd.DataFrame(rows)


def test_curves_that_lack_a_level_are_left_out_and_told():
    """Cut, slow throughout, has no highest level: there the mean would fall though none does."""
    frame = two_kinds({0.5: 0.9, 0.7: 0.9, 0.9: 0.9}, {0.5: 1.5, 0.7: 1.5})
    found = evidence(frame, layers=["model", "opt"])
    either = "breakeven(opt != 'none', opt == 'none', along=opt.s) {} in every {}"
    (one,) = judged(found, claim(either.format("< 0.6", "model")))
    assert one.verdict == "reproduced"
    for answer in one.tests[0].answers:
        assert "thin(s=0.5)" not in answer.told
        assert answer.told.endswith("; left out for want of a level: 1 of 2 curves")
        kinds = {found.table.cells["opt"].iloc[r] for r in answer.first}
        assert all(kind.startswith("thin") for kind in kinds)
    places = "model, opt.technique where opt.technique in ['cut', 'none']"
    assert verdict(found, either.format("< 0.6", places)) == "not reproduced"


def test_curves_without_a_level_in_common_cannot_be_averaged():
    frame = two_kinds({0.5: 0.9, 0.9: 0.8}, {0.6: 1.5, 0.8: 1.4})
    found = evidence(frame, layers=["model", "opt"])
    (one,) = judged(
        found, claim("breakeven(opt != 'none', opt == 'none', along=opt.s) < 0.7 in every model")
    )
    assert one.verdict == "cannot tell"
    assert "with a place that has all levels" in one.reason
    for kind, expected in (("thin", "reproduced"), ("cut", "not reproduced")):
        assert verdict(found, BREAK.format(kind, "< 0.7", "model")) == expected


@pytest.mark.parametrize("highest", [0.9, 0.7])
def test_elbows_of_unlike_curves(highest):
    """The one that has all levels decides; that another was left out is told."""
    thin = {0.5: 0.8, 0.7: 0.6, 0.9: 0.55}
    cut = {s: 0.9 for s in (0.5, 0.7, 0.9) if s <= highest}
    frame = two_kinds(thin, cut)
    lost = {"": 0.0, "0.5": 0.0, "0.7": 0.01, "0.9": 0.3}
    drop = frame["opt.s"].map(lost)
    frame = frame.assign(accuracy=0.9 - drop, accuracy_drop=drop, accuracy_n=10**6)
    goals = Goals(minimize=("ms",), at_most=(("accuracy_drop", 0.1),))
    found = evidence(frame, layers=["model", "opt"], goals=goals)
    (one,) = judged(found, claim("elbow(along=opt.s) >= 0.7 in every model"))
    told = [a.told for a in one.tests[0].answers]
    if highest == 0.9:
        assert not any("left out" in t for t in told)
    else:
        assert one.verdict == "reproduced"
        assert all("left out for want of a level: 1 of 2 curves" in t for t in told)


def test_an_elbow_along_a_whole_layer():
    speed = {1: 1.0, 2: 0.6, 4: 0.58}
    frame = pd.DataFrame(
        [
            {"model": m, "opt": "none", "threads": t, "ms": SIZE[m] * ms, "accuracy_n": 10**6,
             "accuracy": 0.9 - 0.05 * (t == 4), "accuracy_drop": 0.05 * (t == 4)}
            for m in "abc" for t, ms in speed.items()
        ]
    )  # fmt: skip
    goals = Goals(minimize=("ms",), at_most=(("accuracy_drop", 0.1),))
    found = evidence(frame, goals=goals)
    assert verdict(found, "elbow(along=threads) >= 2 in every model") == "reproduced"
    assert verdict(found, "elbow(along=threads) > 2 in every model") == "not reproduced"
