"""The price of tuning layer by layer, as it is said."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import load_table
from dlas.analyze.parts.price import ARRIVES, COLUMNS, MISSING, UNMET, _by_group
from dlas.analyze.tell.price import price

TABLE = load_table(
    pd.DataFrame(
        [(m, h, s, 1.0) for m in "pq" for h in ("one", "two") for s in "ab"],
        columns=["model", "hardware", "software", "ms"],
    ),
    layers="model,hardware,software",
    metric="ms",
)


def starts(*rows) -> pd.DataFrame:
    """Starts of one model: name, machine, ratio with its ends, the same of the worst order."""
    names = ["start", "at", "ratio", "low", "high", "worst", "worst_low", "worst_high", "sure",
             "separate"]  # fmt: skip
    frame = pd.DataFrame(rows, columns=names)
    return frame.assign(
        group="model=p", context="model=p, hardware=" + frame["at"],
        blame=np.where(frame["sure"], "algorithm and software", ""),
    ).reindex(columns=COLUMNS)  # fmt: skip


DEAR = ("a", "one", 1.73, 0.9, 2.4, 2.5, 0.9, 4.0, False, ARRIVES)
SURE = ("b", "two", 1.48, 1.13, 1.86, 1.48, 1.13, 1.86, True, MISSING)
LESS = ("b", "one", 1.20, 1.05, 1.4, 1.6, 1.2, 1.9, True, "failed")
LEVEL = ("a", "two", 1.00, 0.9, 1.1, 1.0, 0.9, 1.1, False, "unavailable")


def told(*rows, table=TABLE) -> str:
    (found,) = price(SimpleNamespace(price=_by_group(starts(*rows)), table=table))
    return found.sentence


def test_the_dearest_of_those_that_are_sure_is_told_with_its_own_interval() -> None:
    by = _by_group(starts(DEAR, SURE, LEVEL)).iloc[0]
    assert (by["sure"], by["most"], by["dearest"]) == (1, 1.73, 1.48)
    assert (by["dearest_low"], by["dearest_high"]) == (1.13, 1.86)
    said = told(DEAR, SURE, LEVEL)
    assert (
        "(from 1 of 3 starts one surely ends slower, up to 1.48, 95 % interval 1.13 to 1.86, "
        "from b with hardware=two; to blame: algorithm and software)"
    ) in said
    assert "1.73" not in said and "2.50" not in said


def test_a_worst_order_is_told_where_it_is_dearer_and_sure() -> None:
    said = told(DEAR, SURE, LESS)
    assert "from 2 of 3 starts one surely ends slower" in said
    assert "; in the worst order up to 1.60, 95 % interval 1.20 to 1.90, from b with" in said


def test_without_a_start_that_is_surely_behind_it_is_said_so() -> None:
    assert "1.37, 95 % interval 0.900 to 1.75 (from no start surely slower)" in told(
        (*DEAR[:2], 1.37, 0.9, 1.75, *DEAR[5:])
    )
    more = load_table(
        pd.DataFrame({"model": ["p", "q"], "score": [1.0, 2.0]}),
        layers="model", metric="score", maximize=True,
    )  # fmt: skip
    assert "(from no start surely worse)" in told(LEVEL, table=more)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ((ARRIVES, ARRIVES), ""),
        ((ARRIVES, MISSING), "From 2 starts, the stack put together of every layer's best alone "
                             "is not in the table in 1."),
        ((MISSING, MISSING, "failed", "unavailable", "impossible", UNMET),
         "is not in the table in 2, failed in 1, was refused (unavailable or impossible) in 2, "
         "and is outside the goals in 1."),
    ],
)  # fmt: skip
def test_what_became_of_the_bests_alone_is_counted_by_start(states, said) -> None:
    text = told(*((*LEVEL[:-1], state) for state in states))
    assert text.endswith(said) and ("put together" in text) == bool(said)
    assert "0," not in text.partition("put together")[2]


def test_what_was_refused_is_among_what_did_not_run() -> None:
    by = _by_group(starts(LEVEL, LESS)).iloc[0]
    assert (by["separate_failed"], by["separate_refused"]) == (2, 1)
