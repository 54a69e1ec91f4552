"""What the engine does when another process commits the step that it is doing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import A, B, Bench, Work, write
from dlas.core.records import Outcome, Stage, Status
from dlas.store.generations import NONE


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def overtaken(bench: Bench, text: str, needs: dict[str, Any]) -> Work:
    """Do a step as one who was stopped meanwhile: another process commits it first."""
    other = Bench(bench.store.root.parent).store

    def work(args: dict[str, Any]) -> dict[str, Any]:
        if bench.pool.ran["a"] == 1:
            folder = other.scratch()
            (folder / "out.txt").write_text(text)
            other.commit("a", Stage.OPTIMIZE, folder, {"needs": needs}, 0, after=NONE)
        return write("late")(args)

    return work


def test_the_winners_record_counts(bench: Bench) -> None:
    bench.pool.work["a"] = overtaken(bench, "quick", {})
    records = bench.run(A, B)
    assert bench.text(records["b"]) == "quickb"
    assert bench.store.generation("a") == 0
    assert bench.pool.ran == {"a": 1, "b": 1}


def test_a_winner_that_made_it_from_something_else_does_not(bench: Bench) -> None:
    bench.pool.work["a"] = overtaken(bench, "quick", {"before": "0" * 64})
    records = bench.run(A, B)
    assert bench.text(records["b"]) == "lateb"
    assert bench.store.generation("a") == 1
    assert bench.pool.ran == {"a": 2, "b": 1}


def test_a_failure_is_overtaken_as_well(bench: Bench) -> None:
    quick = overtaken(bench, "quick", {})

    def fails(args: dict[str, Any]) -> dict[str, Any]:
        quick(args)
        raise ValueError("no such layer")

    bench.pool.work["a"] = fails
    assert bench.run(A)["a"].status is Status.COMPLETE


def test_what_is_done_again_is_the_next_generation(bench: Bench, tmp_path: Path) -> None:
    bench.run(A)
    again = Bench(tmp_path, anew=True)
    again.pool.work["a"] = write("anew")
    assert again.run(A)["a"].generation == 1
    assert again.text(again.run(A)["a"]) == "anew"
    failed = Outcome(Status.FAILED, reason="no")
    again.store.fail("b", Stage.OPTIMIZE, failed, 1)
    retried = Bench(tmp_path, retry=(Status.FAILED,)).run(A, B)["b"]
    assert (retried.status, retried.generation) == (Status.COMPLETE, 1)
