"""TVM's automatic scheduler on the definition of a convolution.

MetaSchedule (Shao et al., "Tensor Program Optimization with Probabilistic Programs", NeurIPS
2022) proposes schedules of the same dense computation that `native` runs in default loops, bias,
residual and activation included. It runs in a child without torch; its candidates are built and
run in children of that one, so that none of them can end the search.
"""

import time
from pathlib import Path
from typing import Any

import tvm

from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.convolution.native import Native, packed
from dlas.kernels.ground.layout import NCHW
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.subprocesses import Workers
from dlas.kernels.ground.target import CpuTarget

BUILD_S, MEASURE_S = 60.0, 60.0
ROUNDS, SECONDS = 5, 1.0
BATCH = 16
"""Candidates a step of the evolutionary search: the cost model learns from them."""


class _Candidates:
    """What became of the candidates: modules, seconds, reasons."""

    def __init__(self, workers: Workers, request: dict[str, Any]) -> None:
        self.workers, self.request = workers, request
        self.modules: dict[str, Any] = {}
        self.built: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.lost: list[dict[str, Any]] = []
        self.count = 0

    def build(self, modules: list[Any]) -> list[tuple[str | None, str | None]]:
        """Return (path, error) of each module."""
        requests = []
        for module in modules:
            # A folder each: MetaSchedule's clean-up removes the artefact's whole folder.
            folder = self.workers.folder / f"candidate{self.count}"
            folder.mkdir()
            self.count += 1
            path = str(folder / "candidate.so")
            task = {"kind": "module", "module": packed(module)}
            requests.append(
                {"do": "build", "task": task, "knobs": {}, "path": path,
                 "target": self.request["target"]}
            )  # fmt: skip
            self.modules[path] = module
        found: list[tuple[str | None, str | None]] = []
        for request, answer in zip(requests, self.workers.map(requests, BUILD_S), strict=True):
            if answer.ok is None:
                self.lost.append({"knobs": {}, "reason": f"build: {answer.error}"})
                found.append((None, answer.error))
            else:
                self.built[request["path"]] = answer.ok
                found.append((request["path"], None))
        return found

    def run(self, path: str) -> tuple[list[float] | None, str | None]:
        """Return (seconds, error) of one built candidate."""
        candidate = {"path": path, "knobs": {}, **self.built[path]}
        answer = self.workers.one(
            {"do": "measure", "task": {"kind": "module"}, "candidates": [candidate],
             "rounds": ROUNDS, "seconds": SECONDS, "threads": self.request["threads"],
             "target": self.request["target"]},
            MEASURE_S,
        )  # fmt: skip
        if answer.ok is None:
            self.lost.append({"knobs": {}, "reason": f"run: {answer.error}"})
            return None, answer.error
        seconds = answer.ok["seconds"][0]
        self.seconds[path] = sorted(seconds)[len(seconds) // 2]
        return seconds, None


def search(request: dict[str, Any]) -> dict[str, Any]:
    """Search in this process; return the fastest module, the trials made and those lost."""
    from tvm.s_tir import meta_schedule

    from dlas.kernels.ground.target import resolve

    cpu = resolve(request["target"])
    function = native(request["task"], cpu).function("main")
    target = tvm.target.Target({**_config(cpu), "num-cores": request["threads"]})
    with Workers(request["workers"]) as workers:
        candidates = _Candidates(workers, request)
        builder, runner = _adapters(candidates)
        start = time.perf_counter()
        meta_schedule.tir_integration.tune_tir(
            function, target, str(workers.folder / "work"), request["trials"],
            num_trials_per_iter=min(BATCH, request["trials"]), builder=builder, runner=runner,
            database="memory", num_tuning_cores=1, seed=request["seed"] + 1,
        )  # fmt: skip
        seconds = time.perf_counter() - start
    best = min(candidates.seconds, key=lambda p: candidates.seconds[p], default=None)
    return {
        "module": None if best is None else packed(candidates.modules[best]),
        "trials": candidates.count,
        "lost": candidates.lost,
        "seconds": seconds,
    }


def native(task: dict[str, Any], cpu: CpuTarget) -> Native:
    """Return the kernel in default loops that a task describes."""
    residual = NCHW if task["residual"] else None
    return Native(Conv2d(**task["op"]), cpu, 1, Epilogue(task["activation"], residual))


def _config(cpu: CpuTarget) -> dict[str, Any]:
    return {str(key): value for key, value in cpu.tvm().export().items()}


def _adapters(candidates: _Candidates) -> tuple[Any, Any]:
    """Return MetaSchedule's builder and runner over our children."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder
    from tvm.s_tir.meta_schedule.runner import PyRunner, PyRunnerFuture, RunnerResult

    @derived_object
    class Builder(PyBuilder):
        def build(self, inputs: list[Any]) -> list[Any]:
            return [BuilderResult(*r) for r in candidates.build([i.mod for i in inputs])]

    @derived_object
    class Future(PyRunnerFuture):
        def __init__(self, result: Any) -> None:
            super().__init__()
            self._result = result

        def done(self) -> bool:
            return True

        def result(self) -> Any:
            return self._result

    @derived_object
    class Runner(PyRunner):
        def run(self, inputs: list[Any]) -> list[Any]:
            results = [candidates.run(str(Path(i.artifact_path))) for i in inputs]
            return [Future(RunnerResult(*r)) for r in results]

    return Builder(), Runner()
