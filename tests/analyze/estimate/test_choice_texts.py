"""Choices as text, taken apart."""

from __future__ import annotations

import pandas as pd
import pytest

from dlas.analyze.estimate.choice_texts import less, parts_of, sublayers_among, techniques_with

PLAIN = frozenset({"none"})


def test_a_choice_has_parts_and_parameters() -> None:
    assert parts_of("a(x=1+2,y=b)+c") == ["a(x=1+2,y=b)", "c"]
    assert less("a(x=1,s=2)+b(s=3)+c", ["s"], []) == "a(x=1)+b+c"
    assert less("a(x=1,s=2)+b(s=3)", ["b.s"], []) == "a(x=1,s=2)+b"
    assert less("a(xs=1)", ["s"], []) == "a(xs=1)"
    assert less("a(steps=[0.5,0.8],s=2)+b({x:1,y:2})", ["steps"], []) == "a(s=2)+b({x:1,y:2})"
    assert less("cpu(2,fast)", ["threads"], ["2.0", "(empty)"]) == "cpu(fast)"
    assert techniques_with("s", ["a(xs=1)+b(s=3)", "c(q=1,s=2)", "d"]) == {"b", "c"}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("none", "none", "none"), ("a", "a", "none"), ("b", "none", "b"), ("a+b", "a", "b")],
         {"o.x": "", "o.y": ""}),
        # Another order of the parts is spelled, too; a column has a plain level of its own.
        ([("b+a", "a", "b"), ("b", "-", "b")], {"o.x": "-", "o.y": ""}),
        # Something of the layer is in no column.
        ([("none", "none", "none"), ("a+c", "a", "none")], {}),
        # The same levels in another order are another choice.
        ([("a+b", "a", "b"), ("b+a", "a", "b"), ("b", "none", "b")], {}),
        # A column that says it all once more is none of them.
        ([("a", "a", "none"), ("a+b", "a", "b"), ("b", "none", "b"), ("c", "c", "none")],
         {"o.x": "", "o.y": ""}),
        # One level stands for two choices.
        ([("a(s=1)", "a", "none"), ("a(s=2)", "a", "none")], {}),
        ([("a(s=1)", "a(s=1)", "none"), ("a(s=2)", "a(s=2)", "none")], {"o.x": ""}),
        # Names that are no choices.
        ([("a", "fast", "none"), ("b", "slow", "none")], {}),
        ([("none", "none", "none")], {}),
        # Rows without them, and of a study with one alone.
        ([("a", "a", "none"), ("b", "none", "b"), ("a", "(empty)", "(empty)")],
         {"o.x": "", "o.y": ""}),
        ([("a", "a", "none"), ("b", "none", "b"), ("c", "c", "(empty)")], {"o.x": "", "o.y": ""}),
        ([("a", "a", "none"), ("b", "none", "b"), ("a+b", "a", "(empty)")], {}),
    ],
)  # fmt: skip
def test_sub_layers_spell_their_layer(rows, found) -> None:
    cells = pd.DataFrame(rows, columns=["o", "o.x", "o.y"])
    assert sublayers_among(cells, "o", ["o.x", "o.y"], PLAIN) == found
    twice = cells.assign(**{"o.technique": cells["o"].str.replace(r"\(.*?\)", "", regex=True)})
    if found and "a+b" in set(cells["o"]):
        assert sublayers_among(twice, "o", ["o.technique", "o.x", "o.y"], PLAIN) == found
