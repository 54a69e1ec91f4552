import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlas.core import rules
from dlas.core.errors import UserError
from dlas.core.rules import Rule
from dlas.study.study import Study
from fake_layers import fakes  # noqa: F401

CELL = {
    "software": "tvm(tuning=none)",
    "software.runtime": "tvm",
    "hardware.threads": 2,
    "optimization": "weight-pruning(sparsity=0.8)+int8",
    "optimization.weight-pruning.sparsity": 0.8,
    "memory": True,
    "root": None,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("software.runtime == 'tvm'", True),
        ("software.runtime != 'tvm' or hardware.threads == 1", False),
        ("software.runtime != 'tvm' or hardware.threads == 2", True),
        ("1 <= hardware.threads < 2", False),
        ("1 <= hardware.threads <= 2 <= 3", True),
        ("hardware.threads in [1, 2, 4]", True),
        ("hardware.threads not in [1, 2, 4]", False),
        ("'int8' in optimization", True),
        ("'int4' in optimization", False),
        ("'int4' not in optimization", True),
        ("optimization.weight-pruning.sparsity >= 0.8", True),
        ("optimization.weight-pruning.sparsity > 8e-1", False),
        ("not hardware.threads == 1", True),
        ("not (hardware.threads == 2 or hardware.threads == 1)", False),
        ("hardware.threads == 2 or hardware.threads == 1 and software == 'x'", True),
        ("(hardware.threads == 2 or hardware.threads == 1) and software == 'x'", False),
        ("memory", True),
        ("memory == true and root == null", True),
        ("memory == 1", False),
        ("hardware.threads == '2'", False),
        ("hardware.threads == -2", False),
        ('software.runtime == "tvm"', True),
        ("software.runtime == 't\\'vm'", False),
        ("'a' < 'b'", True),
    ],
)
def test_a_rule_holds_or_not(text, expected):
    assert Rule.parse(text).holds(CELL) is expected


@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
def test_every_comparison_with_a_column_that_is_not_there_is_false(sign):
    other = "[1]" if "in" in sign else "1"
    assert Rule.parse(f"absent {sign} {other}").holds(CELL) is False
    assert Rule.parse(f"not (absent {sign} {other})").holds(CELL) is True


def test_a_column_that_is_not_there_is_not_true():
    assert Rule.parse("absent").holds(CELL) is False


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("", 1, "expected"),
        ("hardware.threads ==", 20, "the end"),
        ("hardware.threads = 1", 18, "not part of the language"),
        ("hardware.threads == 1 software", 23, "nothing more expected, got 'software'"),
        ("(a == 1", 8, "')' expected"),
        ("a == 'open", 6, "not part of the language"),
        ("a + 1 == 2", 3, "not part of the language"),
        ("__import__('os')", 11, "nothing more expected"),
        ("a.b() == 1", 4, "nothing more expected"),
        ("a[0] == 1", 2, "nothing more expected"),
        ("a == [1 2]", 9, "',' expected"),
        ("a not 1", 7, "'in' expected"),
        ("and", 1, "expected"),
        ("a == 3x", 6, "not part of the language"),
        ("lambda: 1", 7, "not part of the language"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_place(text, place, part):
    with pytest.raises(UserError, match=f"character {place}: ") as error:
        Rule.parse(text)
    assert part in str(error.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("hardware.threads < 'a'", "has no order"),
        ("hardware.threads", "neither true nor false"),
        ("software and memory", "neither true nor false"),
        ("not hardware.threads", "neither true nor false"),
        ("hardware.threads in 1", "must be a list or text"),
        ("memory < 2", "has no order"),
    ],
)
def test_what_cannot_be_compared_says_so(text, part):
    with pytest.raises(UserError, match=part):
        Rule.parse(text).holds(CELL)


def test_huge_rules_are_refused_at_once():
    began = time.monotonic()
    for text in ("(" * 1999, "not " * 499, "[" * 1999, "a == 1 or " * 100_000):
        with pytest.raises(UserError):
            Rule.parse(text)
    assert time.monotonic() - began < 5


def test_unknown_columns_get_near_names():
    rule = Rule.parse("software.runtme == 'tvm' and hardware.threads == 1")
    (said,) = rule.unknown(CELL)
    assert "'software.runtme'" in said
    assert "Did you mean 'software.runtime'" in said
    assert "'hardware.threads'" not in said.partition("columns:")[0]


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_a_user_error(text):
    with contextlib.suppress(UserError):
        Rule.parse(text)


@given(st.booleans(), st.booleans(), st.booleans())
def test_and_binds_closer_than_or(a, b, c):
    cell = {"a": a, "b": b, "c": c}
    assert Rule.parse("a or b and not c").holds(cell) is (a or (b and not c))
    assert Rule.parse("(a or b) and not c").holds(cell) is ((a or b) and not c)


def test_columns_of_a_stack(fakes):  # noqa: F811
    study = Study.from_dict(
        {
            "name": "x",
            "layers": {
                "dataset": "pictures",
                "model": "small",
                "optimization": {"size": [["weight-pruning", "distil"]], "precision": ["int8"]},
                "software": "torch-compile",
            },
        }
    )
    view = rules.columns(study.stacks[0])
    assert view["optimization"] == "weight-pruning+distil+int8"
    assert view["optimization.technique"] == "weight-pruning+distil+int8"
    assert view["optimization.size"] == "weight-pruning+distil"
    assert view["optimization.weight-pruning.epochs"] == 1
    assert view["optimization.distil.epochs"] == 2
    assert "optimization.epochs" not in view
    assert view["optimization.sparsity"] == view["optimization.weight-pruning.sparsity"] == 0.5
    assert view["software.runtime"] == view["software.technique"] == "torch-compile"
    assert view["hardware.device"] == "cpu"
    assert view["hardware.threads"] == 1
