"""What kernels and changes of layout cost on this machine: measured once, then kept."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from dlas.kernels.ground.errors import KernelError
from dlas.kernels.ground.records import Records
from dlas.kernels.ground.subprocesses import Workers
from dlas.kernels.ground.target import CpuTarget
from dlas.kernels.tune.tuner import BUILD_S, MEASURE_S, target_key

ROUNDS, SECONDS = 9, 0.5
Task = dict[str, Any]


class Costs:
    """Seconds of tasks, from the records or measured until the time for measuring is up."""

    def __init__(
        self, cpu: CpuTarget, threads: int, workers: Workers, records: Records, limit_s: float
    ) -> None:
        self.cpu, self.threads, self.workers, self.records = cpu, threads, workers, records
        self.measured, self.lost = 0, 0
        self._deadline = time.monotonic() + limit_s

    def of(self, tasks: Sequence[Task]) -> list[float | None]:
        """Return the seconds of each task; None: no time was left for it, or it failed.

        What is not known yet is measured together, one reading of each in turn, so that they can
        be compared although the machine's speed drifts.
        """
        known = [self.records.find(self._key(t)) for t in tasks]
        new = [t for t, record in zip(tasks, known, strict=True) if record is None]
        if new and time.monotonic() < self._deadline:
            self._measure(new)
            known = [self.records.find(self._key(t)) for t in tasks]
        return [None if record is None else record["seconds"] for record in known]

    def _key(self, task: Task) -> dict[str, Any]:
        target = target_key(self.cpu)
        dtype = task.get("dtype", "float32")
        return {"cost": task, "dtype": dtype, "target": target, "threads": self.threads}

    def _measure(self, tasks: Sequence[Task]) -> None:
        candidates = list(self._built(tasks))
        if not candidates:
            return
        answer = self.workers.one(
            {
                "do": "measure",
                "candidates": candidates,
                "rounds": ROUNDS,
                "seconds": SECONDS,
                "threads": self.threads,
                "target": self.cpu.name,
            },
            MEASURE_S,
        )
        if answer.ok is None:
            self.lost += len(candidates)
            return
        for candidate, seconds in zip(candidates, answer.ok["seconds"], strict=True):
            self.measured += 1
            self.records.add(self._key(candidate["task"]), {"seconds": undisturbed(seconds)})

    def _built(self, tasks: Sequence[Task]) -> Iterable[dict[str, Any]]:
        stem = f"cost{time.monotonic_ns()}"
        requests = [
            {"do": "build", "task": t, "knobs": {}, "target": self.cpu.name,
             "path": str(self.workers.folder / f"{stem}-{n}.so")}
            for n, t in enumerate(tasks)
        ]  # fmt: skip
        answers = self.workers.map(requests, BUILD_S)
        for request, answer in zip(requests, answers, strict=True):
            if answer.ok is None:
                self.lost += 1
                continue
            yield {
                "task": request["task"],
                "knobs": {},
                "path": request["path"],
                **answer.ok,
            }


def undisturbed(seconds: Sequence[float]) -> float:
    """Return the reading that a fifth of all do not exceed.

    Others' work only ever adds time, to two threads much more often than to one: on a busy
    machine the median of a kernel of 0.3 ms was seen at 5 ms.
    """
    return sorted(seconds)[len(seconds) // 5]


def cheapest(
    plain: Sequence[float], blocked: Sequence[float], edges: Sequence[tuple[int, int, float]]
) -> list[bool]:
    """Return which operators are blocked where the sum of all costs is least: a minimum cut.

    The sum of what each operator costs in its state and, for each edge (a, b, cost), `cost` where
    `a` is blocked and `b` is plain. On a chain the minimum cut is the shortest path over layouts;
    it is exact on any graph (Kolmogorov and Zabih, "What Energy Functions Can Be Minimized via
    Graph Cuts?", 2004).

    Args:
        plain: seconds of each operator in plain layout; infinity: impossible.
        blocked: the same on blocked channels.
        edges: pairs of operators with the seconds of the change of layout between them.
    """
    import numpy as np
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    count = len(plain)
    source, sink = count, count + 1
    finite = [c for c in (*plain, *blocked, *(e[2] for e in edges)) if c != float("inf")]
    unit = (sum(finite) or 1.0) / (1 << 28)  # whole numbers of 32 bits
    never = 1 << 29

    def whole(cost: float) -> int:
        return never if cost == float("inf") else round(cost / unit)

    capacity: dict[tuple[int, int], int] = {}
    pairs = [
        *((source, i, plain[i]) for i in range(count)),
        *((i, sink, blocked[i]) for i in range(count)),
        *edges,
    ]
    for a, b, cost in pairs:
        if a != b:
            capacity[a, b] = min(never, capacity.get((a, b), 0) + whole(cost))
    # Every arc needs its reverse for the residual graph to have a place for it.
    both = {*capacity, *((b, a) for a, b in capacity)}
    rows, columns = zip(*both, strict=True)
    values = [capacity.get(arc, 0) for arc in both]
    shape = (count + 2, count + 2)
    graph = csr_array((np.array(values, np.int32), (rows, columns)), shape=shape)
    flow = maximum_flow(graph, source, sink).flow
    residual = csr_array(graph - flow)
    residual.data[residual.data < 0] = 0
    residual.eliminate_zeros()
    reached = set(breadth_first_order(residual, source, return_predecessors=False).tolist())
    if sink in reached:
        raise KernelError("no assignment of layouts to operators is possible")
    return [i in reached for i in range(count)]
