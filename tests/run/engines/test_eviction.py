"""What was evicted is made again only where a step that runs needs it; a disk budget is kept."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import A, B, Bench, append, step, write
from dlas.core.errors import StorageError
from dlas.core.records import Outcome, Stage, Status
from dlas.run.engines.local import Remade
from dlas.run.plan.plan import Plan
from dlas.run.plan.sizes import _least
from dlas.run.process.tasks import Job, Server
from dlas.store.artifacts import ArtifactStore
from dlas.store.budget import Budget, Inventory

C = step("c", before="b")
BESIDE = step("beside", before="a")


class Place(Bench):
    """A bench that can evict, and whose run uses the store."""

    def __init__(self, root: Path, **settings: Any) -> None:
        super().__init__(root, **settings)
        self.pool.work |= {"c": append, "beside": append}

    def content(self, key: str) -> str:
        record = self.store.get(key)
        assert record is not None
        assert record.content is not None
        return record.content

    def evict(self, *keys: str) -> None:
        with self.store.use(), self.store.only_user() as alone:
            assert alone
            for key in keys:
                self.store.evict(self.content(key))

    def there(self, *keys: str) -> list[str]:
        return [k for k in keys if self.store.has(self.content(k))]


@pytest.fixture
def bench(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ------------------------------------------------------------ made again, or not


def test_what_is_evicted_counts_as_done(bench: Place) -> None:
    first = bench.run(A, B, C)
    bench.evict("a", "b", "c")
    assert bench.run(A, B, C) == first
    assert bench.pool.ran == {"a": 1, "b": 1, "c": 1}


def test_only_what_a_step_needs_is_made_again(bench: Place) -> None:
    bench.run(A, B)
    bench.evict("a")
    assert bench.text(bench.run(A, B, C)["c"]) == "abb"  # b is there
    assert bench.pool.ran == {"a": 1, "b": 1, "c": 1}
    assert bench.text(bench.run(A, B, BESIDE)["beside"]) == "ab"
    assert bench.pool.ran == {"a": 2, "b": 1, "c": 1, "beside": 1}


def test_what_the_needed_needs_is_made_again_too(bench: Place) -> None:
    bench.run(A, B)
    bench.evict("a", "b")
    assert bench.text(bench.run(A, B, C)["c"]) == "abb"
    assert bench.pool.ran == {"a": 2, "b": 2, "c": 1}


def test_what_comes_out_otherwise_makes_all_below_stale(bench: Place) -> None:
    bench.run(A, B, C)
    bench.evict("a", "c")
    bench.pool.work["a"] = write("A")
    records = bench.run(A, B, C, BESIDE)
    assert {k: bench.text(r) for k, r in records.items()} == {
        "a": "A", "b": "Ab", "c": "Abb", "beside": "Ab",
    }  # fmt: skip
    assert bench.pool.ran == {"a": 2, "b": 2, "c": 2, "beside": 1}


def test_a_failure_in_making_again_reaches_all_that_need_it(bench: Place) -> None:
    bench.run(A, B)
    bench.evict("a")

    def broken(args: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no such file")

    bench.pool.work["a"] = broken
    records = bench.run(A, BESIDE)
    assert {r.status for r in records.values()} == {Status.FAILED}
    assert records["beside"].reason == "no such file"


def test_a_failure_is_tried_again_with_what_it_needs(tmp_path: Path) -> None:
    bench = Place(tmp_path)

    def broken(args: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no such layer")

    bench.pool.work["b"] = broken
    assert bench.run(A, B)["b"].status is Status.FAILED
    bench.evict("a")
    bench.run(A, B)
    assert bench.pool.ran == {"a": 1, "b": 1}  # the failure is final, and needs nothing
    again = Place(tmp_path, retry=(Status.FAILED,))
    assert again.text(again.run(A, B)["b"]) == "ab"


def test_more_samples_find_their_needs(bench: Place) -> None:
    def count(args: dict[str, Any]) -> dict[str, Any]:
        assert (Path(args["before"]) / "out.txt").read_text() == "a"
        added = args["samples"]
        if "previous" in args:
            added -= int((Path(args["previous"]) / "n").read_text())
        (Path(args["folder"]) / "n").write_text(str(args["samples"]))
        return {"n": args["samples"], "of": 1000, "added": added}

    bench.pool.work["b"] = count
    bench.run(A, replace(B, samples=100))
    bench.evict("a")
    bench.run(A, replace(B, samples=100))
    assert bench.pool.ran == {"a": 1, "b": 1}
    assert bench.run(A, replace(B, samples=250))["b"].info["added"] == 150
    assert bench.pool.ran == {"a": 2, "b": 2}
    bench.evict("b")  # what it could go on from is gone
    assert bench.run(A, replace(B, samples=300))["b"].info["added"] == 300


# ------------------------------------------------------------ of an earlier time


def test_a_step_of_an_earlier_time_is_made_again_for_its_files(bench: Place) -> None:
    bench.run(A, B)
    bench.evict("a")
    bench.settings = {"upstream": {"a": A, "b": B}}
    assert bench.text(bench.run(BESIDE)["beside"]) == "ab"
    assert bench.pool.ran == {"a": 2, "b": 1, "beside": 1}


def test_if_it_differs_nothing_is_made_from_it(bench: Place) -> None:
    bench.run(A, B)
    bench.evict("a")
    bench.pool.work["a"] = write("A")
    bench.settings = {"upstream": {"a": A, "b": B}}
    with pytest.raises(Remade) as caught:
        bench.run(BESIDE)
    assert caught.value.key == "a"
    assert bench.store.get("beside") is None
    bench.settings = {}
    assert bench.text(bench.run(A, B)["b"]) == "Ab"


def test_a_damaged_artefact_of_an_earlier_time_is_made_again(bench: Place, tmp_path: Path) -> None:
    bench.run(A)
    file = bench.store.path(bench.content("a")) / "out.txt"
    file.chmod(0o644)
    file.write_text("changed on disk")
    fresh = Place(tmp_path, upstream={"a": A})
    assert fresh.text(fresh.run(B)["b"]) == "ab"
    assert fresh.pool.ran == {"a": 1, "b": 1}


# ------------------------------------------------------------ a budget

SIZE = 10_000
CHAINS = 6


def chains() -> list[Any]:
    """Return networks, each lowered and built, as a plan orders them: chain by chain."""
    steps = []
    for n in range(CHAINS):
        steps.append(step(f"net{n}", Stage.OPTIMIZE))
        steps.append(step(f"low{n}", Stage.LOWER, network=f"net{n}"))
        steps.append(step(f"built{n}", Stage.BUILD, network=f"net{n}", lowered=f"low{n}"))
    return steps


class Budgeted(Place):
    """A bench with a budget of so many artefacts of 10 kB; builds have a tenth of that."""

    def __init__(self, root: Path, artefacts: float, **settings: Any) -> None:
        super().__init__(root)
        self.notes: list[str] = []
        self.budget = Budget(self.store, int(artefacts * SIZE * 1.05), self.notes.append)
        self.settings = {"budget": self.budget, **settings}
        self.most = 0
        for made in chains():
            size = SIZE // 10 if made.stage is Stage.BUILD else SIZE
            self.pool.work[made.task] = self._work(made.task.ljust(size, "."))

    def _work(self, text: str) -> Any:
        def work(args: dict[str, Any]) -> dict[str, Any]:
            for name in ("network", "lowered"):
                if name in args:
                    assert (Path(args[name]) / "out.txt").is_file()
            self.most = max(self.most, sum(Inventory(self.store).sizes().values()))
            return write(text)(args)

        return work


def test_a_budget_is_kept_by_evicting_what_nothing_reads_any_more(tmp_path: Path) -> None:
    bench = Budgeted(tmp_path, 3.7)
    with bench.store.use():
        records = bench.run(*chains())
    assert {r.status for r in records.values()} == {Status.COMPLETE}
    assert set(bench.pool.ran.values()) == {1}
    assert bench.most <= bench.budget.limit
    assert len(bench.there(*(f"built{n}" for n in range(CHAINS)))) == CHAINS
    gone = [s.key for s in chains() if not bench.there(s.key)]
    assert bench.budget.evicted == len(gone) >= 2 * CHAINS - 3
    assert gone[:2] == ["net0", "low0"]  # the oldest
    assert bench.notes == []


def test_with_room_for_all_nothing_goes(tmp_path: Path) -> None:
    """Two more than all: what two workers have just committed is counted as still to come too."""
    bench = Budgeted(tmp_path, 2.1 * CHAINS + 2)
    with bench.store.use():
        bench.run(*chains())
    assert bench.budget.evicted == 0


def test_what_is_read_later_stays(tmp_path: Path) -> None:
    bench = Budgeted(tmp_path, 4.7, later=("low0",))
    with bench.store.use():
        bench.run(*chains())
    assert bench.there("low0", "net0", "low1") == ["low0"]


def test_if_need_be_what_is_read_last_goes_and_is_made_again_once(tmp_path: Path) -> None:
    ahead = Budgeted(tmp_path, 100)
    with ahead.store.use():
        ahead.run(*(s for s in chains() if s.stage is Stage.OPTIMIZE))
    bench = Budgeted(tmp_path, 3.7)
    with bench.store.use():
        records = bench.run(*chains())
    assert {r.status for r in records.values()} == {Status.COMPLETE}
    again = {name for name in bench.pool.ran if name.startswith("net")}
    assert again == {"net2", "net3", "net4", "net5"}
    assert set(bench.pool.ran.values()) == {1}
    assert bench.most <= bench.budget.limit
    assert "they may take" in bench.notes[0]


def test_a_budget_too_small_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    bench = Budgeted(tmp_path, 2.2)
    with (
        bench.store.use(),
        pytest.raises(
            StorageError, match=r"budget of 23 kB cannot be kept.*steps are left"
        ) as told,
    ):
        bench.run(*chains())
    for part in (str(bench.store.root), "--max-disk", "--only", "--store", "optimize 10 kB"):
        assert part in str(told.value)
    ran = dict(bench.pool.ran)
    assert ran["built0"] == 1
    assert len(ran) < 3 * CHAINS
    larger = Budgeted(tmp_path, 3.7)
    with larger.store.use():
        records = larger.run(*chains())
    assert {r.status for r in records.values()} == {Status.COMPLETE}
    assert not set(ran) & set(larger.pool.ran)  # nothing again


def test_what_the_next_step_reads_never_goes(tmp_path: Path) -> None:
    bench = Budgeted(tmp_path, 1.2)
    with bench.store.use(), pytest.raises(StorageError, match="1 steps are left"):
        bench.run(*chains()[:3])
    assert bench.there("net0", "low0") == ["net0", "low0"]
    assert bench.budget.evicted == 0


def test_while_another_run_uses_the_store_the_budget_ends_the_run(tmp_path: Path) -> None:
    bench = Budgeted(tmp_path, 3.7)
    other = ArtifactStore(bench.store.root)
    with bench.store.use():
        with other.use(), pytest.raises(StorageError, match="another run uses it"):
            bench.run(*chains())
        assert bench.budget.evicted == 0
        assert [n for n in bench.notes if "another run uses" in n]
        assert len(bench.run(*chains())) == 3 * CHAINS
    assert set(bench.pool.ran.values()) == {1}


def in_some_order(chance: random.Random) -> list[Any]:
    """Return the steps of the chains, each after what it reads, the chains mixed."""
    left = [chains()[3 * n : 3 * n + 3] for n in range(CHAINS)]
    steps = []
    while any(left):
        steps.append(chance.choice([chain for chain in left if chain]).pop(0))
    return steps


def sized(root: Path, limit: int, sizes: dict[str, int]) -> Budgeted:
    """Return a bench with a budget in bytes, whose artefacts have these sizes.

    One worker: two at a time may be past what a plan names by one artefact, as the clock wills.
    """
    bench = Budgeted(root, 1, workers=1)
    bench.budget.limit = limit
    bench.pool.work |= {n: bench._work(n.ljust(size, ".")) for n, size in sizes.items()}
    return bench


@pytest.mark.parametrize("seed", range(3))
def test_the_least_that_a_plan_names_suffices_and_no_less(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    steps = in_some_order(chance)
    sizes = {s.key: chance.randint(1, 20) * 1000 for s in steps}
    whole = sized(tmp_path / "whole", 1 << 40, sizes)
    with whole.store.use():
        whole.run(*steps)
    inventory = Inventory(whole.store)
    inventory.sizes()
    known = {key: step.bytes for key, step in inventory.steps().items()}
    plan = Plan(None, (), {s.key: s for s in steps})  # type: ignore[arg-type]
    least = _least(plan, {key: key for key in known}, known)
    assert least < sum(known.values())

    enough = sized(tmp_path / "enough", least, sizes)
    with enough.store.use():
        records = enough.run(*steps)
    assert {r.status for r in records.values()} == {Status.COMPLETE}
    assert enough.most <= least

    less = sized(tmp_path / "less", least - 1, sizes)
    with less.store.use(), contextlib.suppress(StorageError):
        less.run(*steps)
    again = max(less.pool.ran.values()) > 1
    assert again or len(less.pool.ran) < len(steps) or less.budget.most > less.budget.limit


def test_what_a_step_is_reading_stays_though_it_was_made_again(tmp_path: Path) -> None:
    """A running step keeps the files it was given, also where nothing names them any more."""
    bench = Budgeted(tmp_path, 3.7)
    with bench.store.use():
        bench.run(*chains()[:1])
        old = bench.content("net0")

        def lower(args: dict[str, Any]) -> dict[str, Any]:
            bench.pool.work["net0"] = write("n" * SIZE)
            bench.store.forget("net0")
            folder = bench.store.scratch()
            (folder / "out.txt").write_text("n" * SIZE)
            bench.store.commit("net0", "optimize", folder, {}, 0)
            assert not Budget(bench.store, 1, lambda text: None).room((), ["net0"], [old])
            assert (Path(args["network"]) / "out.txt").is_file()
            return write("low")(args)

        bench.pool.work["low0"] = lower
        assert bench.run(*chains()[:2])["low0"].status is Status.COMPLETE


def test_a_failed_attempt_leaves_no_files(bench: Bench) -> None:
    class Failing:
        def run(self, server: Server, job: Job, launch: str = "fork") -> Outcome:
            (Path(job.args["folder"]) / "half").write_text("x" * SIZE)
            return Outcome(Status.FAILED, reason="no")

    bench.pool = Failing()  # type: ignore[assignment]
    bench.run(A)
    assert list((bench.store.root / "tmp").rglob("half")) == []
