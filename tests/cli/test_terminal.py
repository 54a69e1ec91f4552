"""Tables that fit a terminal."""

from __future__ import annotations

import pandas as pd
import pytest

from dlas.cli.formats import View, fitted
from dlas.cli.terminal import beside, fit

LINES = [
    ["aaaaaaaa", "digits", "weight-pruning(sparsity=0.8,epochs=3)+int8", "1.25", "1.1", "0.9"],
    ["bbbbbbbb", "digits", "none", "2.5", "2.4", "0.91"],
]
COLUMNS = ["cell", "dataset", "optimization", "latency_ms", "latency_low_ms", "accuracy"]


def shown(width: int, **options: object) -> tuple[list[str], list[list[str]], list[str]]:
    made = fit(COLUMNS, LINES, width, kept=("cell", "latency_ms"), **options)  # type: ignore[arg-type]
    return made.columns, made.lines, [line for part in beside(made) for line in part]


def test_what_all_rows_share_stands_above_and_the_least_goes_first() -> None:
    columns, _, said = shown(76, first_to_go=["latency_low_ms", "accuracy"])
    assert columns == ["cell", "optimization", "latency_ms", "accuracy"]
    assert said[0] == "dataset: digits"
    assert said[1].startswith("not shown: latency_low_ms (--wide")


def test_text_is_cut_in_its_middle_and_numbers_never() -> None:
    columns, lines, said = shown(44, first_to_go=["latency_low_ms", "accuracy"])
    assert columns == ["cell", "optimization", "latency_ms"]
    assert lines[0][1].startswith("weight-pru") and lines[0][1].endswith("int8")
    assert ".." in lines[0][1] and lines[0][2] == "1.25"
    assert "cut: optimization" in said[-1]


def test_what_fits_is_left_alone() -> None:
    columns, lines, said = shown(400, chosen=True)
    assert (columns, lines, said) == (COLUMNS, LINES, [])


def test_the_end_of_a_long_last_column_gives_way_before_others_go() -> None:
    lines = [["a", "1.5", "failed because " + "x" * 90], ["b", "2.5", ""]]
    made = fit(["cell", "ms", "reason"], lines, 60, first_to_go=["ms", "reason"])
    assert made.columns == ["cell", "ms", "reason"]
    assert made.lines[0][2].startswith("failed because x") and made.lines[0][2].endswith("..")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    frame = pd.DataFrame(
        {
            "cell": [f"{at}23456789abcdef0" for at in range(3)],
            "status": ["complete", "failed", "complete"],
            "model": ["resnet-8", "mobilenet-v2(width=0.35,weights=some/long/path)", "vit-tiny"],
            "software": ["onnxruntime", "openvino", "tvm(tuning=template,trials=64)"],
            "latency_ms": [1.5, None, 2.25],
            "latency_low_ms": [1.4, None, 2.2],
            "accuracy": [0.91, None, 0.9],
            "reason": [None, "it broke " * 30, None],
        }
    )
    text = fitted(frame, width, View())
    assert max(map(len, text.splitlines())) <= width
    assert "latency_ms" in text and "model" in text


def test_a_cell_keeps_as_much_of_its_hash_as_tells_it_apart() -> None:
    frame = pd.DataFrame({"cell": ["0123456789abcdef", "0123456701abcdef"], "latency_ms": [1, 2]})
    assert "0123456789 " in fitted(frame, 80, View())
