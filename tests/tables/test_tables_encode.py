from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from dlas.core.records import Status
from dlas.tables import as_csv, as_json, as_parquet, cells_frame
from table_rows import SESSION, cell_row, fill, round_row, stack

REASON = 'it said "no",\nthen: é'
A, B = stack(), stack(1 / 3)


@pytest.fixture
def frame(out: Path) -> pd.DataFrame:
    rows = [round_row(A.cell, r, [10 / 3]) for r in range(2)]
    failed = cell_row(B, 1, status=Status.FAILED, reason=REASON)
    return cells_frame(fill(out, SESSION, cell_row(A), failed, *rows))


def test_csv_is_rfc_4180(frame: pd.DataFrame) -> None:
    text = as_csv(frame)
    header, first, second = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert header == list(frame.columns)
    assert text.count("\r\n") == 3
    row = dict(zip(header, second, strict=True))
    assert row["reason"] == REASON
    assert row["latency_ms"] == row["rounds"] == row["unsteady"] == row["stage"] == ""
    assert float(dict(zip(header, first, strict=True))["latency_ms"]) == frame["latency_ms"][0]
    assert dict(zip(header, first, strict=True))["rounds"] == "2"


def test_json_says_null_and_keeps_every_digit(frame: pd.DataFrame) -> None:
    first, second = json.loads(as_json(frame))
    assert list(first) == list(frame.columns)
    assert first["latency_ms"] == frame["latency_ms"][0]
    assert (first["rounds"], first["unsteady"]) == (2, False)
    assert second["optimization.sparsity"] == 1 / 3
    assert second["reason"] == REASON
    assert second["latency_ms"] is None
    assert second["unsteady"] is None
    assert "NaN" not in as_json(frame)


def test_parquet_comes_back_as_it_was(frame: pd.DataFrame) -> None:
    again = pd.read_parquet(io.BytesIO(as_parquet(frame)))
    assert list(again.columns) == list(frame.columns)
    for name in frame.columns:
        assert again[name].isna().tolist() == frame[name].isna().tolist(), name
        assert again[name].dropna().tolist() == frame[name].dropna().tolist(), name
    assert pd.api.types.is_string_dtype(again["ran_isa"])  # though nothing is in it


def test_an_empty_table_can_be_written(out: Path) -> None:
    empty = cells_frame(fill(out, SESSION))
    assert as_csv(empty).startswith("cell,study,host,")
    assert json.loads(as_json(empty)) == []
    assert len(pd.read_parquet(io.BytesIO(as_parquet(empty)))) == 0
