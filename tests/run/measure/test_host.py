from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from dlas.run.measure import host
from dlas.run.measure.host import Ticks


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", (0,)), ("0-3", (0, 1, 2, 3)), ("0-1,5,7-8", (0, 1, 5, 7, 8)), ("", ())],
)
def test_kernel_lists(text: str, cpus: tuple[int, ...]) -> None:
    assert host.parse_cpus(text) == cpus


def test_processors_are_read_back() -> None:
    assert set(host.cpus_allowed()) == os.sched_getaffinity(0)


def test_threads_are_counted() -> None:
    before = host.threads_alive()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    assert host.threads_alive() == before + 1
    stop.set()
    thread.join()


@pytest.mark.parametrize(
    ("threads", "available", "child", "parent"),
    [
        (1, [0, 1], (1,), (0,)),
        (2, [0, 1], (0, 1), (0,)),
        (1, [4, 2, 7], (7,), (2, 4)),
        (2, [0, 1, 2, 3], (2, 3), (0, 1)),
        (1, [5], (5,), (5,)),
        (8, [0, 1], (0, 1), (0,)),
    ],
)
def test_children_get_the_last_processors(
    threads: int, available: list[int], child: tuple[int, ...], parent: tuple[int, ...]
) -> None:
    assert host.placement(threads, available) == (child, parent)


def test_placement_does_not_shrink_when_the_parent_pins_itself() -> None:
    cpus = os.sched_getaffinity(0)
    first = host.placement(1)
    try:
        os.sched_setaffinity(0, first[1])
        assert host.placement(1) == first
    finally:
        os.sched_setaffinity(0, cpus)


def test_stolen_time(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 0 0 0 0 0 7 50 0\ncpu1 10 0 0 0 0 0 0 0 0 0\n"
    )
    before = host.cpu_ticks((0,), stat)
    assert before == Ticks(107, 7)
    stat.write_text("cpu0 180 0 0 10 0 0 0 17 80 0\ncpu1 99 0 0 0 0 0 0 99 0 0\n")
    assert host.cpu_ticks((0,), stat).steal_share_since(before) == pytest.approx(0.1)
    assert before.steal_share_since(before) is None


def test_the_machine_is_described() -> None:
    seen = host.describe()
    json.dumps(seen, allow_nan=False)
    assert seen["cpu"]
    assert seen["flags"] == sorted(seen["flags"])
    assert seen["cores"] >= seen["cores_allowed"] >= 1
    assert seen["memory_gib"] > 0
    assert seen["libraries"]["numpy"]
    assert len(seen["load"]) == 3
    assert len(host.host_class(seen)) == 12


QUIET: dict[str, Any] = {
    "cpu": "AMD EPYC 9654",
    "flags": ["avx2", "avx512f"],
    "cores": 8,
    "cores_allowed": 8,
    "memory_gib": 31.3,
    "load": [0.0, 0.1, 0.1],
    "governor": "performance",
    "turbo": False,
    "smt": False,
    "virtualization": None,
    "temperatures_c": {"x86_pkg_temp 0": 45.0},
}


def test_the_class_of_a_host_knows_what_decides() -> None:
    same = host.host_class({**QUIET, "load": [3.0, 3, 3], "memory_gib": 31.4, "governor": "x"})
    assert same == host.host_class(QUIET)
    for change in ({"cpu": "other"}, {"flags": ["avx2"]}, {"cores": 4}, {"memory_gib": 15.5}):
        assert host.host_class({**QUIET, **change}) != same


def test_a_quiet_machine_raises_no_concern() -> None:
    assert host.concerns(QUIET) == []
    unknown = {**QUIET, "governor": None, "turbo": None, "temperatures_c": {}}
    assert host.concerns(unknown) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"load": [1.5, 1, 1]}, "load 1.5"),
        ({"governor": "powersave"}, "cpupower frequency-set"),
        ({"turbo": True}, "turbo is on"),
        ({"smt": True}, "share a core"),
        ({"virtualization": "KVM"}, "virtual machine (KVM)"),
        ({"cores_allowed": 1}, "one core"),
        ({"temperatures_c": {"cpu": 91.0}}, "hot"),
    ],
)
def test_each_concern_is_raised_alone(change: dict[str, Any], words: str) -> None:
    (said,) = host.concerns({**QUIET, **change})
    assert words in said
