"""What a run writes of cells that its study no longer has, and says of other studies' results."""

from __future__ import annotations

from dataclasses import replace

from dlas.run.noting import left_over, moved
from table_rows import cell_row, stack

A, B = cell_row(stack()), cell_row(stack(0.5), 1)


def test_a_cell_out_of_the_study_is_marked_once_and_comes_back() -> None:
    gone = moved(A, None)
    assert gone.dropped.startswith("20") and replace(gone, dropped="") == A
    assert moved(gone, None) is gone  # since when stays
    assert moved(gone, 7) == replace(A, position=7)


def test_what_is_left_over_is_said() -> None:
    other = replace(A, study="old"), replace(B, study="old")
    assert left_over("st", [A, B], [A, B]) == []
    (sentence,) = left_over("st", [A, moved(B, None)], [A, B])
    assert sentence.startswith("1 cells are no longer in the study 'st'")
    (sentence,) = left_over("st", [A], [A, *other])
    assert "'old', too: 1 of its 2 cells are also of 'st'" in sentence
