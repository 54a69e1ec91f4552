"""What leaving a layer at its default costs, and what the order of the layers rests on."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from dlas.analyze import load_table
from dlas.analyze.tell.shares import _left, _order

TABLE = load_table(
    pd.DataFrame({"net": ["p", "q"], "ms": [1.0, 2.0], "cell": ["1", "2"]}),
    layers="net",
    metric="ms",
)


def left(ratio, low, high, groups=6, most=1.0):
    row = SimpleNamespace(layer="run", default="a", ratio=ratio, low=low, high=high, groups=groups,
                          reached=groups, most=most, most_at="net=p")  # fmt: skip
    return _left(SimpleNamespace(table=TABLE), row, first=True)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((1.33, 1.14, 1.47, 6, 1.86),
         "left at a, the best stack that can be reached is 33 % slower on average over 6 groups "
         "(95 % interval 14 % to 47 %, at most 1.86 times with net=p)"),
        ((1.33, 1.14, 1.47, 1, 1.33),
         "left at a, the best stack that can be reached is 33 % slower (95 % interval 14 % to "
         "47 %)"),
        ((0.98, 1 / 1.085, 1.055),
         "left at a, the best stack is no slower, as far as can be told (95 % interval 8.5 % "
         "faster to 5.5 % slower)"),
        ((1.0, math.nan, math.nan), "left at a, the best stack is no slower"),
    ],
)  # fmt: skip
def test_a_default_is_told_over_how_many_groups_and_how_sure(numbers, said) -> None:
    assert left(*numbers) == said


@pytest.mark.parametrize(
    ("levels", "rest"),
    [(3, ""), (4, "; and 1 more level"), (5, "; and 2 more levels")],
)
def test_the_order_itself_is_told_before_what_it_rests_on(levels, rest) -> None:
    rows = [("", "", "run > net > opt", False, False)]
    rows += [("net", f"n{i}", "net > run > opt", True, False) for i in range(levels)]
    found = pd.DataFrame(rows, columns=["layer", "level", "order", "changed", "first"])
    analysis = SimpleNamespace(left_out=found.assign(collapses=False), table=TABLE)
    (order,) = _order(analysis)
    told = "; ".join(f"without net=n{i}: net > run > opt" for i in range(3))
    assert order.sentence == (
        "The order of the layers by how much their levels differ, run > net > opt, rests on "
        f"single levels: {told}{rest}."
    )
