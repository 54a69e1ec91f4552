"""The engine: each step once, failures as values, nothing stale kept. The pool is a fake."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import A, B, Bench, Work, step, write
from dlas.core.records import Status


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_step_gets_the_artefacts_it_needs(bench: Bench) -> None:
    records = bench.run(B, A)
    assert bench.text(records["b"]) == "ab"


def test_what_is_finished_is_not_run_again(bench: Bench) -> None:
    first = bench.run(A, B)
    again = bench.run(A, B)
    assert bench.pool.ran == {"a": 1, "b": 1}
    assert again == first


def test_a_failure_reaches_all_that_need_it_and_is_final(bench: Bench) -> None:
    def broken(args: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no such layer")

    bench.pool.work["a"] = broken
    records = bench.run(A, B)
    bench.run(A, B)
    assert records["b"].status is Status.FAILED
    assert records["b"].reason == "no such layer"
    assert bench.pool.ran == {"a": 1}


def test_a_failure_is_tried_again_on_request(bench: Bench, tmp_path: Path) -> None:
    def broken(args: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no such layer")

    bench.pool.work["a"] = broken
    bench.run(A)
    again = Bench(tmp_path, retry=(Status.FAILED,))
    assert again.run(A)["a"].status is Status.COMPLETE


def test_a_timeout_is_tried_twice_and_then_final(bench: Bench) -> None:
    def slow(args: dict[str, Any]) -> dict[str, Any]:
        raise TimeoutError("timed out after 1 s")

    bench.pool.work["a"] = slow
    record = bench.run(A)["a"]
    bench.run(A)
    assert bench.pool.ran["a"] == 2
    assert (record.status, record.attempts) == (Status.FAILED, 2)


def test_what_was_made_from_other_content_is_made_again(bench: Bench) -> None:
    bench.run(A, B)
    bench.pool.work["a"] = write("A")
    content = bench.store.get("a").content  # type: ignore[union-attr]
    assert content is not None
    bench.store.discard(content)
    records = bench.run(A, B)
    assert bench.text(records["b"]) == "Ab"


def test_a_damaged_artefact_is_made_again(bench: Bench, tmp_path: Path) -> None:
    record = bench.run(A)["a"]
    assert record.content is not None
    file = bench.store.path(record.content) / "out.txt"
    file.chmod(0o644)
    file.write_text("changed on disk")
    fresh = Bench(tmp_path)  # a new process: nothing is taken as verified
    records = fresh.run(A, B)
    assert fresh.text(records["b"]) == "ab"


def test_more_samples_only_add(bench: Bench) -> None:
    def count(args: dict[str, Any]) -> dict[str, Any]:
        known = 0
        if "previous" in args:
            known = int((Path(args["previous"]) / "n").read_text())
        (Path(args["folder"]) / "n").write_text(str(args["samples"]))
        return {"n": args["samples"], "of": 1000, "added": args["samples"] - known}

    bench.pool.work["a"] = count
    few, more = replace(A, samples=100), replace(A, samples=250)
    assert bench.run(few)["a"].info["added"] == 100
    assert bench.run(more)["a"].info["added"] == 150
    assert bench.run(few)["a"].info["n"] == 250
    assert bench.pool.ran["a"] == 2
    assert bench.run(replace(A, samples=5000))["a"].info["added"] == 4750
    assert bench.pool.ran["a"] == 3


def test_a_step_that_measures_has_the_machine_to_itself(tmp_path: Path) -> None:
    running: set[str] = set()
    seen: dict[str, set[str]] = {}

    def slow(name: str) -> Work:
        def work(args: dict[str, Any]) -> dict[str, Any]:
            running.add(name)
            for _ in range(20):
                seen.setdefault(name, set()).update(running - {name})
                time.sleep(0.005)
            running.discard(name)
            return write(name)(args)

        return work

    bench = Bench(tmp_path)
    names = ["one", "alone1", "two", "alone2", "three"]
    bench.pool.work = {name: slow(name) for name in names}
    records = bench.run(*(replace(step(n), alone=n.startswith("alone")) for n in names))
    assert all(r.status is Status.COMPLETE for r in records.values())
    assert seen["alone1"] == seen["alone2"] == set()
    assert seen["one"] | seen["two"] | seen["three"]  # the others do run side by side
