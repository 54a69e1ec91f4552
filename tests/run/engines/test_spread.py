"""Steps to machines: only to those that would give them the same key; what is lost is made up."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import A, B, Bench, step
from dlas.core.errors import StorageError, UserError
from dlas.core.records import MeasureSettings, Status
from dlas.run.engines import spread as spreads
from dlas.run.engines.dask import Errand
from dlas.run.engines.errands import Enrolled, Lost, Remark, Reply, StepErrand
from dlas.run.engines.local import LocalEngine
from dlas.run.engines.spread import Spread
from dlas.run.plan.plan import Step
from dlas.store.objects import DamagedObject

LIBRARIES = {"torch": "2"}


def machine(name: str, *keys: str, **more: Any) -> Enrolled:
    said = {"host": "h", "slots": 1, "libraries": LIBRARIES, **more}
    return Enrolled(name, keys=frozenset(keys), **said)


class FakeCrew:
    """Machines of this process: each errand is done at once by the first that is able."""

    def __init__(self, bench: Bench, *machines: Enrolled) -> None:
        self.machines = machines
        self.heard: queue.SimpleQueue[Remark] = queue.SimpleQueue()
        self.done: list[tuple[str, str]] = []
        self.recalled: list[str] = []
        self.engine = LocalEngine(bench.store, bench.pool, MeasureSettings())  # type: ignore[arg-type]
        self.say: Callable[[Errand], Reply] = self.do

    def send(self, errand: Errand) -> Future[Reply]:
        try:
            errand.future.set_result(self.say(errand))
        except Exception as error:
            errand.future.set_exception(error)
        return errand.future

    def do(self, errand: Errand) -> Reply:
        able = [each for each in self.machines if errand.able(each)]
        if not able:
            return Reply(nobody=True)
        asked = errand.given
        assert isinstance(asked, StepErrand)
        self.done.append((asked.step.key, able[0].name))
        try:
            return Reply(*self.engine.make(asked.step, asked.needs, asked.files))
        except DamagedObject as error:
            return Reply(damaged=error.content, problem=str(error))

    def recall_all(self, method: str) -> None:
        self.recalled.append(method)


def spread(crew: FakeCrew, *elsewhere: str) -> Spread:
    return Spread(crew, LIBRARIES, elsewhere, lambda: None)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def run(bench: Bench, hands: Spread, *steps: Step) -> dict[str, Any]:
    engine = LocalEngine(bench.store, bench.pool, MeasureSettings(), hands=hands)  # type: ignore[arg-type]
    return engine.run({s.key: s for s in steps}, lambda *_: None)


def test_machines_do_what_is_in_their_own_plan_and_this_one_the_rest(bench: Bench) -> None:
    crew = FakeCrew(bench, machine("one", "a"), machine("two"))
    records = run(bench, spread(crew), A, B)
    assert crew.done == [("a", "one")]
    assert bench.pool.ran == {"a": 1, "b": 1}
    assert bench.text(records["b"]) == "ab"


def test_what_is_finished_is_sent_to_nobody(bench: Bench) -> None:
    bench.run(A, B)
    crew = FakeCrew(bench, machine("one", "a", "b"))
    run(bench, spread(crew), A, B)
    assert crew.done == []


def test_what_looks_at_a_host_goes_to_hosts_of_that_class_with_the_same_libraries(
    bench: Bench,
) -> None:
    look = replace(B, host="h")
    others = [
        machine("other-host", "a", host="x"),
        machine("other-torch", "a", libraries={"torch": "1"}),
        machine("no-network"), machine("twin", "a"),
    ]  # fmt: skip
    crew = FakeCrew(bench, *others)
    run(bench, spread(crew), A, look)
    assert crew.done[-1] == ("b", "twin")


def test_a_machine_takes_two_steps_a_slot_in_advance_and_no_more(bench: Bench) -> None:
    names = [f"s{n}" for n in range(9)]
    crew = FakeCrew(bench, machine("one", *names), machine("two", "s0", slots=2))
    hands = spread(crew)
    steps = [step(name) for name in names]
    first = hands.fitting(steps, [])
    # s0 can go to both, the others to one alone: two of them, and six in all at most
    assert [s.key for s in first] == ["s0", "s1", "s2"]
    assert [s.key for s in hands.fitting(steps[3:], first[:2])] == ["s3"]


def test_a_process_that_dies_over_a_step_each_time_is_a_failed_step(bench: Bench) -> None:
    crew = FakeCrew(bench, machine("one", "a", "b"))

    def die(errand: Errand) -> Reply:
        raise Lost("every worker that did it died")

    crew.say = die
    records = run(bench, spread(crew), A, B)
    assert records["a"].status is records["b"].status is Status.FAILED
    assert "died" in records["a"].reason
    kept = bench.store.get("a")
    assert kept is not None
    assert kept.reason == records["a"].reason


def test_a_step_that_was_committed_before_its_process_died_is_done(bench: Bench) -> None:
    crew = FakeCrew(bench, machine("one", "a", "b"))

    def die(errand: Errand) -> Reply:
        if errand.given.step.key == "a":  # type: ignore[attr-defined]
            crew.do(errand)
            raise Lost("it died just after")
        return crew.do(errand)

    crew.say = die
    records = run(bench, spread(crew), A, B)
    assert bench.text(records["b"]) == "ab"
    assert bench.store.generation("a") == 0


def test_where_a_lost_step_cannot_be_recorded_the_run_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = FakeCrew(bench, machine("one", "a", "b"))

    def die(errand: Errand) -> Reply:
        raise Lost("every worker that did it died")

    def refuse(*given: Any, **how: Any) -> Any:
        raise StorageError("the disk is full")

    crew.say = die
    monkeypatch.setattr(bench.store, "fail", refuse)
    with ThreadPoolExecutor(1) as thread, pytest.raises(StorageError, match="the disk is full"):
        thread.submit(run, bench, spread(crew), A).result(timeout=20)


def test_who_commits_while_a_lost_step_is_recorded_is_believed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LocalEngine(bench.store, bench.pool, MeasureSettings())  # type: ignore[arg-type]
    real, others = bench.store.fail, LocalEngine(bench.store, bench.pool, MeasureSettings())  # type: ignore[arg-type]

    def late(*given: Any, **how: Any) -> Any:
        others.make(A, {}, False)
        return real(*given, **how)

    monkeypatch.setattr(bench.store, "fail", late)
    record, known = engine.give_up(A, {}, "it died")
    assert known
    assert record.status is Status.COMPLETE


def test_damage_that_a_machine_finds_is_mended(bench: Bench, tmp_path: Path) -> None:
    record = bench.run(A)["a"]
    assert record.content is not None
    file = bench.store.path(record.content) / "out.txt"
    file.chmod(0o644)
    file.write_text("changed on disk")
    fresh = Bench(tmp_path)
    crew = FakeCrew(fresh, machine("one", "a", "b"))
    records = run(fresh, spread(crew), A, B)
    assert fresh.text(records["b"]) == "ab"
    assert [key for key, _ in crew.done] == ["b", "a", "b"]


def test_a_machine_whose_disk_refuses_ends_the_run(bench: Bench) -> None:
    crew = FakeCrew(bench, machine("one", "a"))
    crew.say = lambda errand: Reply(problem="one: the disk is full")
    with pytest.raises(StorageError, match="one: the disk is full"):
        run(bench, spread(crew), A)
    assert crew.recalled == ["step"]


def test_a_step_whose_machines_go_is_done_here_where_that_can_be(bench: Bench) -> None:
    crew = FakeCrew(bench, machine("one", "a"))

    def gone(errand: Errand) -> Reply:
        crew.machines = ()
        return crew.do(errand)

    crew.say = gone
    records = run(bench, spread(crew), A, B)
    assert bench.text(records["b"]) == "ab"
    assert crew.done == []


def test_a_step_of_other_machines_waits_for_one_and_not_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreads, "LOOK_S", 0.01)
    monkeypatch.setattr(spreads, "PATIENCE_S", 0.05)
    crew = FakeCrew(bench)
    with pytest.raises(UserError, match="no machine was there"):
        run(bench, spread(crew, "a"), A)
    looks = iter(range(10**6))
    hands = spread(crew, "a")
    hands.show = lambda: (
        None if next(looks) < 3 else setattr(crew, "machines", (machine("m", "a"),))
    )
    assert run(bench, hands, A)["a"].status is Status.COMPLETE
    assert crew.done == [("a", "m")]
