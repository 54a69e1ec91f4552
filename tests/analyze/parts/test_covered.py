"""What all contexts of a comparison have in common: a condition, or what nobody has otherwise."""

from __future__ import annotations

import pandas as pd
import pytest

from dlas.analyze import load_table
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.table import Factor
from dlas.analyze.parts.covered import side_by_side

BOTH = [("a", "plain", "p"), ("b", "plain", "p"), ("a", "plain", "q"), ("b", "plain", "q")]


def shared(rows, **more):
    """Return what comparing runtimes a and b rests on."""
    frame = pd.DataFrame(rows, columns=["run", "kernel", "net"]).assign(**more)
    table = load_table(frame.assign(ms=range(1, len(frame) + 1)), layers="run,kernel,net",
                       metric="ms")  # fmt: skip
    factor = Factor("run", "run", table.levels["run"])
    return side_by_side(table, estimate(table), factor, "a", "b").coverage.shared


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (("c", "winograd", "p"), ()),
        (("a", "winograd", "p"), ("kernel=plain",)),
        (("b", "winograd", "q"), ("kernel=plain",)),
    ],
)
def test_what_both_choices_always_have_tells_nothing(other, said) -> None:
    assert shared([*BOTH, other]) == said


@pytest.mark.parametrize("value", ["{}", "[]", "()"])
def test_a_parameter_that_holds_nothing_is_no_condition(value) -> None:
    rows = [*BOTH, ("a", "winograd", "p")]
    kept = {"net.options": ["x"] * 4 + ["y"]}
    assert "net.options=x" in shared(rows, **kept)
    assert shared(rows, **{"net.options": [value] * 4 + ["y"]}) == ("kernel=plain",)
