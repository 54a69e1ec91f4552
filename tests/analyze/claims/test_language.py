"""The language of tests: what it says, and that nothing else is let through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlas.analyze.claims.hypothesis import Term
from dlas.analyze.claims.language import FORMS, parse
from dlas.core.errors import UserError


def test_a_ratio_in_every_context_of_named_layers():
    found = parse(
        "ratio(quiet_ms, a == 'x, y)', a != 'x') >= 1.5 in every model, hardware.threads"
    )
    assert (found.sign, found.bound, found.how) == (">=", 1.5, "every")
    assert found.contexts == ("model", "hardware.threads")
    assert found.quantity.columns == {"metric": "quiet_ms"}
    assert {k: r.text for k, r in found.quantity.sides.items()} == {
        "a": "a == 'x, y)'", "b": "a != 'x'",
    }  # fmt: skip
    assert not found.negated


def test_arguments_by_name_in_any_order():
    found = parse("ratio(b=x in [1, 2], metric=macs, a=x == 3) < 2 in some context")
    assert found.quantity.columns == {"metric": "macs"}
    assert found.quantity.sides["b"].text == "x in [1, 2]"


@pytest.mark.parametrize("text", ["speedup(a == 1)", "speedup(a == 1, of=baseline)"])
def test_the_baseline_where_nothing_else_is_said(text):
    assert parse(f"{text} > 1 in most context").quantity.sides["of"] is None


def test_words_in_quotes_are_no_part_of_the_language():
    found = parse("winner(a) == 'in every model where x' in most b where c == 'in some d'")
    assert found.bound == ("in every model where x",)
    assert (found.how, found.contexts) == ("most", ("b",))
    assert [r.text for r in found.where] == ["c == 'in some d'"]


def test_the_choice_of_a_winner_may_be_denied():
    assert parse("winner(a) not in ['x', \"y\"] in every b").bound == ("x", "y")
    assert parse("winner(a) not in ['x', 'y'] in every b").negated
    assert not parse("not winner(a) != 'x' in every b").negated


def test_a_quantity_may_be_compared_with_another():
    found = parse("speedup(a == 1) < ratio(macs, a == 2, a == 1) in every context")
    assert isinstance(found.bound, Term)
    assert found.bound.columns == {"metric": "macs"}


def test_in_may_stand_in_the_rules_of_a_second_quantity():
    found = parse(
        "speedup(a == 1) < ratio(macs, o == 'none', 'cp' in o and o.ratio == 0.5) in every model"
    )
    assert isinstance(found.bound, Term)
    assert found.bound.sides["b"].text == "'cp' in o and o.ratio == 0.5"
    assert (found.how, found.contexts) == ("every", ("model",))


def test_a_bracket_that_is_never_closed_is_found_in_a_second_quantity():
    with pytest.raises(UserError) as told:
        parse("speedup(a == 1) < ratio(macs, a == 2, a in [1, 2] in every model")
    assert told.value.problems[0].endswith("the bracket after 'ratio' is never closed")


def test_a_correlation_needs_no_contexts():
    assert parse("correlation(macs, ms, over=model) == 0").how == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 > 2", "begins with a quantity"),
        ("speedup(a == 1) > 1 in every model or hardware", "must name columns with commas"),
        ("speedup(a == 1) > 1 in every a, a", "a is named twice"),
        ("speedup(a == 1) > 1 and 2 in every a", "compared with a number or another quantity"),
        ("flips(a + b, by=c) in some d", "must be the name of a column, got 'a + b'"),
        ("speedup(a == 1) > 1e999 in every a", "compared with 1e999"),
        ("speedup(a == 1) > 1 in every a; import os", "must name columns"),
        ("speedup(1 == 1) > 1 in every a", "chooses cells"),
        ("speedup(a == 1, ) > 1 in every a", "speedup: of is empty"),
        ("elbow(along=s) > elbow(along=t) in every a", "elbow cannot be compared with elbow"),
        ("x" * 3_000, "may have 2000 characters"),
    ],
)
def test_what_is_refused_says_why(text, said):
    with pytest.raises(UserError) as error:
        parse(text)
    assert said in str(error.value)


@given(
    st.lists(
        st.sampled_from([
            *FORMS, "(", ")", ",", "[", "]", "'a'", "a", "==", ">", "1", "in", "every", "some",
            "context", "where", "not", "of=", "by=", "'", "__class__", ".", "lambda", " ",
        ]),
        max_size=25,
    )
)  # fmt: skip
def test_anything_is_a_test_or_a_sentence_on_what_is_wrong(words):
    try:
        parse(" ".join(words))
    except UserError as error:
        assert error.problems


def test_every_quantity_is_documented():
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "claims.md").read_text()
    for name, form in FORMS.items():
        assert f"| `{name}(" in text
        assert all(argument in text for argument in form.takes)
