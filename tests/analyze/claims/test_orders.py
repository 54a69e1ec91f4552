"""Orders of choices: small turns that are sure, choices that are not there, dependence."""

from __future__ import annotations

import re

import pytest

from claim_tables import PLAIN, SIZE, SPEED, claim, evidence, grid, judged, verdict
from dlas.analyze.claims.plainly import Plainly

TWO = {"opts": ("none", "fast")}


def turning(share):
    """Return a table in which fast is ahead by a share with one thread, behind with two."""
    return grid(lambda m, o, t: SIZE[m] * (1 + share if (o == "fast") == (t == 1) else 1), **TWO)


@pytest.mark.parametrize("quantity", ["flips", "changes_winner", "depends"])
@pytest.mark.parametrize(
    ("share", "error", "expected"),
    [
        (0.02, 0.001, "reproduced"),  # below the floor, and surely there
        (0.02, 0.02, "cannot tell"),
        (0.0, 0.001, "not reproduced"),
    ],
)
def test_a_small_turn_that_is_sure_is_one(quantity, share, error, expected):
    found = evidence(turning(share), error=error)
    (one,) = judged(found, claim(f"{quantity}(opt, by=threads) in every model"))
    assert one.verdict == expected
    for answer in one.tests[0].answers:
        assert not (answer.true < 0.025 and answer.false < 0.025)
    opposite = {"reproduced": "not reproduced", "not reproduced": "reproduced"}
    test = f"not {quantity}(opt, by=threads) in every model"
    assert verdict(found, test) == opposite.get(expected, expected)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (lambda m, o, t: SIZE[m] * SPEED[o] / t, "not reproduced"),
        (lambda m, o, t: SIZE[m] * SPEED[o] ** t, "reproduced"),  # more of it, no turn
        (lambda m, o, t: SIZE[m] * SPEED[o] * (1.015 if t == 2 and o == "fast" else 1), "cannot"),
    ],
)
def test_dependence_needs_no_turn(of, expected):
    found = evidence(grid(of), error=0.015)
    test = "depends(opt, by=threads) in every model"
    assert verdict(found, test).startswith(expected)
    assert verdict(found, "flips(opt, by=threads) in every model") == "not reproduced"


def test_a_least_effect_of_dependence():
    frame = grid(lambda m, o, t: SIZE[m] * (1.5 if o == "fast" and t == 2 else 1), **TWO)
    test = "depends(opt, by=threads) in every model"
    assert verdict(evidence(frame), test, least_effect=0.3) == "reproduced"
    assert verdict(evidence(frame), test, least_effect=0.7) == "not reproduced"
    (one,) = judged(evidence(frame), claim(test))
    assert one.tests[0].answers[0].value in (pytest.approx(1.5), pytest.approx(1 / 1.5))
    said = Plainly(evidence(frame)).shown(one.tests[0])
    assert re.search(r"at threads 1, and .* at threads 2: a factor of 1\.50", said), said


# ---------------------------------------------------------------- who wins


def without(frame, opt, models="abcd", threads=(1, 2)):
    gone = (frame["opt"] == opt) & frame["model"].isin(list(models))
    return frame[~(gone & frame["threads"].isin(threads))]


@pytest.mark.parametrize("sign", ["in", "not in"])
def test_a_choice_that_there_is_nowhere_is_no_winner_and_no_loser(sign):
    (one,) = judged(
        evidence(PLAIN), claim(f"winner(opt) {sign} ['fast', 'slwo'] in every context")
    )
    assert one.verdict == "cannot tell"
    assert "opt has no level 'slwo'. Did you mean 'slow'" in one.reason


def test_one_of_several_that_has_no_cell_may_be_the_best():
    """Beaten is the other one; what failed here might have won."""
    frame = grid(lambda m, o, t: SIZE[m] * {"none": 0.3, "fast": 0.5, "slow": 0.1}[o])
    test = "winner(opt) in ['fast', 'slow'] in every {}"
    assert verdict(evidence(frame), test.format("model")) == "reproduced"
    (one,) = judged(evidence(without(frame, "slow", "ab")), claim(test.format("model")))
    assert [a.surely for a in one.tests[0].answers] == [None, None, True, True]
    alone = "winner(opt) == 'fast' in every model"
    assert verdict(evidence(without(frame, "slow", "ab")), alone) == "not reproduced"


def test_rivals_without_a_cell_are_named():
    found = evidence(without(PLAIN, "slow", "ab"))
    (one,) = judged(found, claim("winner(opt) == 'fast' in every model"))
    assert one.verdict == "reproduced"
    told = [a.told for a in one.tests[0].answers]
    assert [t.endswith("; no cell here: slow") for t in told] == [True, True, False, False]
