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


def test_it_is_said_who_meets_the_goals():
    three = Coverage(contexts=3, of=3, surely=3, against=0, undecided=0)
    one = Coverage(contexts=1, of=1, surely=1, against=0, undecided=0)
    assert meeting(three, -1) == ""
    assert meeting(three, 3) == "it surely meets the goals in all of them"
    assert meeting(one, 1) == "it surely meets the goals"
    assert meeting(three, 0, who="fast") == "fast surely meets the goals in 0 of 3 contexts"
