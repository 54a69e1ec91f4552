import math

import numpy as np
import pandas as pd
import pytest

from dlas.report.pack import Texts, pack, plain, unpack


def test_rows_come_back_as_they_were():
    rows = [
        {"a": 1, "b": "x", "c": ["x", "y"], "d": None, "e": True, "f": "same"},
        {"a": 2.5, "b": None, "c": [], "d": None, "e": None, "f": "same"},
    ]
    texts = Texts()
    packed = pack(rows, texts)
    assert unpack(packed, texts.list) == rows
    assert texts.list == ["x", "y"]  # every text once; a column of one value is no list
    assert packed["columns"]["f"] == {"c": "same"}


def test_no_rows_keep_their_columns():
    packed = pack([], Texts(), ["a"])
    assert packed == {"n": 0, "columns": {"a": {"c": None}}}
    assert unpack(packed, []) == []


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(math.nan, None), (math.inf, None), (pd.NA, None), (pd.NaT, None), (np.float64(1.5), 1.5),
     (np.int64(3), 3), (np.bool_(True), True), ((1, math.nan), [1, None]),
     ({1: pd.NA}, {"1": None})],
)  # fmt: skip
def test_what_is_missing_becomes_none_and_numpy_plain(value, wanted):
    assert plain(value) == wanted


def test_digits_are_kept_or_cut():
    rows = [{"a": 1.23456789}, {"a": 0.0}]
    assert pack(rows, Texts(), digits=None)["columns"]["a"]["v"] == [1.23456789, 0.0]
    assert pack(rows, Texts(), digits=3)["columns"]["a"]["v"] == [1.23, 0.0]


def test_true_and_one_are_no_equal_values():
    assert pack([{"a": True}, {"a": 1}], Texts())["columns"]["a"] == {"v": [True, 1]}
