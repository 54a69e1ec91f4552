"""What stands beside a comparison."""

import pytest

from dlas.analyze.parts.covered import Coverage
from dlas.analyze.parts.paid import POINTS, TIMES, Paid
from dlas.analyze.tell.beside import costing, meeting


@pytest.mark.parametrize(
    ("unit", "change", "more", "said"),
    [
        (POINTS, -0.0009, True, "it costs 0.0900 points of accuracy"),
        (POINTS, 0.0009, True, "it gains 0.0900 points of accuracy"),
        (POINTS, -0.02, False, "it saves 2.00 points of accuracy"),
        (POINTS, 0.0002, True, "it costs no accuracy"),
        (TIMES, 1.1, False, "it costs 10 % more accuracy"),
        (TIMES, 0.75, False, "it saves 25 % of accuracy"),
        (TIMES, 1.1, True, "it gains 10 % more accuracy"),
    ],
)
def test_a_small_change_for_the_worse_is_told_as_one(unit, change, more, said):
    # Below what counts as a change for the worse, the direction is still told as it is.
    paid = Paid("accuracy", unit, change, change, change, 3, worse=False, more=more)
    assert costing([paid]) == said


def test_a_range_that_ends_at_nothing_has_no_sign_there():
    paid = Paid("accuracy", POINTS, -0.0009, -0.003, 0.0, 14, worse=False, more=True)
    assert costing([paid]) == "it costs 0.0900 points of accuracy (0 to 0.300)"


@pytest.mark.parametrize(
    ("least", "change", "most", "said"),
    [
        (-0.004, 0.0014, 0.016, "it changes accuracy by -0.400 to 1.60 points (0.140 on average)"),
        (-0.01, -0.001, 0.02, "it changes accuracy by -1.00 to 2.00 points (-0.100 on average)"),
        (-0.002, 0.0, 0.002, "it changes accuracy by -0.200 to 0.200 points (0 on average)"),
        (-4.0, 1.0, 16.0, "it changes accuracy by -4.00 to 16.0 (1.00 on average)"),
        (-0.0009, 0.004, 0.016, "it gains 0.400 points of accuracy (-0.0900 to 1.60)"),
    ],
)  # fmt: skip
def test_a_change_that_goes_both_ways_costs_and_gains_nothing(least, change, most, said):
    paid = Paid("accuracy", POINTS, change, least, most, 20, worse=False, more=True)
    memory = Paid("memory_mb", TIMES, 1.1, 1.1, 1.1, 20, worse=True)
    assert costing([paid]) == said
    first, rest = said.split(" ", 1)
    if rest.startswith("changes"):
        assert costing([paid, memory]) == f"{first} costs 10 % more memory, {rest}"


def test_it_is_said_who_meets_the_goals_where_that_tells_something():
    three = Coverage(contexts=3, of=3, surely=3, against=0, undecided=0)
    one = Coverage(contexts=1, of=1, surely=1, against=0, undecided=0)
    assert meeting(three, (-1, -1), than="slow") == ""
    assert meeting(three, (3, 3), than="slow") == meeting(one, (1, 1), than="slow") == ""
    assert meeting(three, (2, 2), than="slow") == "both surely meet the goals in 2 of 3 contexts"
    both = "it surely meets the goals in 3 of 3 contexts, slow in 1"
    assert meeting(three, (3, 1), than="slow") == both
    fewer = "fast surely meets the goals in 0 of 3 contexts, slow in 3"
    assert meeting(three, (0, 3), who="fast", than="slow") == fewer
