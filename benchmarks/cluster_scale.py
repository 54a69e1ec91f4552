"""A plan for many cells on many machines, by simulation (docs/scale.md).

    python benchmarks/cluster_scale.py

Virtual time: the run's own process (the head) judges, hands out and takes steps one by one;
machines do them in slots; then each machine evaluates and measures its cells. Costs are arguments;
those of the head and of Dask are by default what benchmarks/cluster.py measured (docs/scale.md),
the others are guesses.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections import defaultdict, deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Costs:
    """Seconds, but for bytes and bytes a second."""

    head: float
    """Of the head's time for a step: judged, handed out, taken."""
    request: float
    """One request to the store."""
    requests: int
    """Requests of the head for a step: its newest record is asked for."""
    overhead: float
    """Between a step's end on a machine and the next one's beginning, beyond the head's time."""
    steps: dict[str, float] = field(default_factory=dict)
    """By stage."""
    measure: float = 1.2
    """One cell in one round."""
    artefact: float = 20e6
    bandwidth: float = 1.25e9
    """The store's, to all machines together."""


@dataclass(frozen=True)
class Lab:
    machines: int
    slots: int
    kinds: int
    """Of processors: builds are shared within a kind."""
    models: int
    optimizations: int
    runtimes: int
    rounds: int
    controls: float = 0.1

    @property
    def stacks(self) -> int:
        return self.models * self.optimizations * self.runtimes


Dag = dict[str, tuple[str, tuple[str, ...], int]]
"""Steps by name: stage, needs, and the kind of machine that can do it (-1: any)."""


def plan(lab: Lab) -> Dag:
    steps: Dag = {"inputs": ("inputs", (), -1)}
    for m in range(lab.models):
        steps[f"p{m}"] = ("prepare", (), -1)
        for o in range(lab.optimizations):
            network = f"p{m}"
            if o:
                network = f"o{m}.{o}"
                steps[network] = ("optimize", (f"p{m}",), -1)
            steps[f"r{m}.{o}"] = ("reference", (network, "inputs"), -1)
            for form in range(2):
                steps[f"l{m}.{o}.{form}"] = ("lower", (network,), -1)
            for r in range(lab.runtimes):
                for kind in range(lab.kinds):
                    needs = (network, f"l{m}.{o}.{r % 2}")
                    steps[f"b{m}.{o}.{r}.{kind}"] = ("build", needs, kind)
    return steps


def first(steps: Dag) -> dict[int, deque[str]]:
    """Return the steps that need nothing, by the kind of machine."""
    due: dict[int, deque[str]] = defaultdict(deque)
    for name, (_, needs, kind) in steps.items():
        if not needs:
            due[kind].append(name)
    return due


def making(lab: Lab, costs: Costs) -> tuple[float, float, float]:
    """Return when all steps are done, how long the head worked, and how busy the slots were."""
    steps = plan(lab)
    readers = defaultdict(list)
    missing = {}
    for name, (_, needs, _) in steps.items():
        missing[name] = len(needs)
        for need in needs:
            readers[need].append(name)
    free = dict.fromkeys(range(lab.kinds), 0)
    for machine in range(lab.machines):
        free[machine % lab.kinds] += lab.slots
    per_step = costs.head + costs.requests * costs.request
    head = busy = 0.0
    now = 0.0
    due = first(steps)
    ends: list[tuple[float, str, int]] = []
    while ends or any(due.values()):
        for kind, queue in [(k, q) for k in free for q in (due[k], due[-1])]:
            while free[kind] and queue:
                name = queue.popleft()
                head = max(head, now) + per_step
                took = costs.overhead + costs.steps[steps[name][0]]
                busy += took
                free[kind] -= 1
                heapq.heappush(ends, (head + took, name, kind))
        now, name, kind = heapq.heappop(ends)
        free[kind] += 1
        for reader in readers[name]:
            missing[reader] -= 1
            if not missing[reader]:
                due[steps[reader][2]].append(reader)
    return now, len(steps) * per_step, busy / (now * lab.machines * lab.slots)


def measuring(lab: Lab, costs: Costs) -> tuple[float, float, float]:
    """Return how long fetching, evaluating and measuring take on each machine."""
    fetched = lab.machines * lab.stacks * costs.artefact / costs.bandwidth
    looked = lab.stacks * (costs.steps["evaluate"] + costs.steps["memory"]) / lab.slots
    cells = lab.stacks * (1 + lab.controls)
    return fetched, looked, lab.rounds * cells * costs.measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head-ms", type=float, default=0.13)
    parser.add_argument("--request-ms", type=float, default=20.0)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--overhead-ms", type=float, default=8.2)
    parser.add_argument("--measure-s", type=float, default=1.2)
    parser.add_argument("--steps", type=json.loads, default={
        "inputs": 0.5, "prepare": 1.5, "optimize": 6.0, "reference": 1.0, "lower": 4.0,
        "build": 3.0, "evaluate": 1.5, "memory": 2.0,
    })  # fmt: skip
    given = parser.parse_args()
    costs = Costs(
        given.head_ms / 1e3, given.request_ms / 1e3, given.requests, given.overhead_ms / 1e3,
        given.steps, given.measure_s,
    )  # fmt: skip
    print("machines kinds  cells  steps  made_s  head_s  busy  fetch_s  look_s  measure_s")
    for machines in (1, 10, 100):
        for kinds in sorted({1, machines}):
            lab = Lab(machines, 4, kinds, models=5, optimizations=5, runtimes=4, rounds=5)
            made, head, busy = making(lab, costs)
            fetched, looked, measured = measuring(lab, costs)
            print(
                f"{machines:8} {kinds:5} {machines * lab.stacks:6} {len(plan(lab)):6} {made:7.0f} "
                f"{head:7.0f} {busy:5.2f} {fetched:8.0f} {looked:7.0f} {measured:10.0f}"
            )


if __name__ == "__main__":
    main()
