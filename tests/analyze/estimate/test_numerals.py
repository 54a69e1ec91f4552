"""Numbers as people write them."""

import numpy as np
import pandas as pd
import pytest

from dlas.analyze.estimate.numerals import decimal_of, in_plain_notation, numerals, plain


@pytest.mark.parametrize(
    ("text", "decimal", "expected"),
    [
        ("1,234", ".", "1234"),
        ("1,234.5", ".", "1234.5"),
        ("1.234,5", ",", "1234.5"),
        ("0,5", ",", "0.5"),
        ("1'234.5", ".", "1234.5"),
        ("1 234", ".", "1234"),
        ("1\u202f234,5", ",", "1234.5"),
        ("12,5 ms", ",", "12.5 ms"),
        ("93.1%", ".", "93.1%"),
        ("1,2e3", ",", "1.2e3"),
        ("1,5", ".", None),
        ("12,34", ".", None),
        ("5.1.10", ".", None),
        ("OOM", ".", None),
    ],
)
def test_plain_notation(text, decimal, expected):
    assert plain(text, decimal) == expected


@pytest.mark.parametrize(
    ("texts", "mark"),
    [
        (["0,5"], ","), (["1.5"], "."), (["1,234"], ""), (["1.234"], ""), (["1.234,5"], ","),
        (["1,234,567"], ""), (["12"], ""), (["1,5", "1.5"], "?"), (["1234,567"], ","),
    ],
)  # fmt: skip
def test_what_shows_the_decimal_mark(texts, mark):
    assert decimal_of(texts) == mark


def read(separator, names=(), **columns):
    frame, notes = in_plain_notation(pd.DataFrame(columns, dtype=object), separator, names)
    return frame.to_dict("list"), notes


def test_a_column_follows_the_others_of_its_file():
    found, notes = read(";", a=["1,5", "2,5"], b=["1,234", "2,345"])
    assert found == {"a": ["1.5", "2.5"], "b": ["1.234", "2.345"]}
    assert notes == ("Numbers are read with decimal commas (a: '1,5' is 1.5).",)
    found, notes = read(",", a=["1.5", "2.5"], b=["1,234", "2,345"])
    assert found["b"] == ["1234", "2345"]
    assert notes == (
        "Numbers are read with commas or blanks that part thousands (b: '1,234' is 1234).",
    )


def test_without_a_sign_semicolons_mean_decimal_commas():
    assert read(";", a=["1,234", "5"])[0]["a"] == ["1.234", "5"]
    assert read(",", a=["1,234", "5"])[0]["a"] == ["1234", "5"]
    assert read(";", a=["1.234", "5"])[0]["a"] == ["1.234", "5"]


def test_layers_are_left_as_they_are_unless_all_are_such_numbers():
    found, _ = read(";", ["x", "v"], x=["0,5", "0,75"], v=["1.9", "1.10"], ms=["1,5", "2,5"])
    assert found == {"x": ["0.5", "0.75"], "v": ["1.9", "1.10"], "ms": ["1.5", "2.5"]}
    # Lists of devices, in quotes.
    assert read(",", ["x"], x=["0", "0,1"], ms=["1", "2"])[0]["x"] == ["0", "0,1"]


def test_a_spread_behind_a_mean_is_left_out_and_counted():
    column = ["12.3 ± 0.4", "6±.2 ms", "8.5 +/- 1 ms", "1e-3+-2e-4", "4"]
    found = numerals(pd.Series(column))
    np.testing.assert_array_equal(found.value, [12.3, 6, 8.5, 1e-3, 4])
    assert (found.odd, found.spread) == ({}, 4)
    assert found.units == {"": [0, 3, 4], "ms": [1, 2]}


def test_words_units_and_what_cannot_be_read():
    found = numerals(pd.Series(["1", "OOM", "", None, "12 ms", "93%", "1.2.3", "1e400"]))
    assert found.words == {1: "OOM"}
    assert found.odd == {6: "1.2.3"}
    assert found.units == {"": [0, 7], "ms": [4], "%": [5]}
    np.testing.assert_array_equal(
        found.value, [1, np.nan, np.nan, np.nan, 12, 0.93, np.nan, np.inf]
    )
