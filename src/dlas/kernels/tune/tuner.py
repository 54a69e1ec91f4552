"""Tuning: which values of a template's knobs are fastest on this machine, found by measuring.

Candidates are built and run in children; one that crashes, hangs, does not compile or computes
something else is a lost trial with its reason. The fixed schedule is always a candidate, and the
winner replaces it only if it is faster beyond noise when both are measured in turn, with weights
and images from beyond the caches and again with those that the caches hold: what is faster in one
of the two states and slower in the other loses somewhere.
"""

import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dlas.kernels.code.numbers import left_out
from dlas.kernels.convolution import matrix
from dlas.kernels.convolution.contract import Kernel
from dlas.kernels.convolution.primitives import plain_kernel
from dlas.kernels.convolution.space import Space
from dlas.kernels.ground import cpu
from dlas.kernels.ground.errors import KernelError, UnsupportedError, near
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.records import Records
from dlas.kernels.ground.shape import Conv2d, whole
from dlas.kernels.ground.subprocesses import Workers
from dlas.kernels.ground.target import CpuTarget, require
from dlas.kernels.ground.types import NO_SEARCH
from dlas.kernels.tune.gain import by_candidate, gain_of, together
from dlas.kernels.tune.search import Search

SCHEDULERS = ("template", "metaschedule")
_KEYS = ("scheduler", "trials", "seed", "records")
_FORM = (
    "tuning must be None or {'scheduler': 'template' or 'metaschedule', 'trials': N}, optionally "
    "with 'seed' and 'records'"
)
BUILD_S, MEASURE_S = 30.0, 30.0
"""Timeouts of one candidate."""
ROUNDS, SECONDS = 9, 0.4
"""Readings of a candidate: so many, or what fits into these seconds (three at least)."""
FINAL_ROUNDS, FINAL_SECONDS = 15, 4.0
LEAST_FINAL = 6
"""The fewest readings that can show a gain, see `gain.bound_rank`."""
FINALISTS = 3
SESSION_S, TRIAL_S = 300.0, 60.0
"""Timeout of a search by MetaSchedule, and what each trial adds."""


@dataclass(frozen=True)
class Tuning:
    """How to search: the scheduler, how many candidates, from which seed, kept where."""

    scheduler: str
    trials: int
    seed: int = 0
    records: str | None = None
    """Folder of the records; None: see `records.default_folder`."""


@dataclass(frozen=True)
class Task:
    """What is tuned: an operator by a primitive, weights stored in a format, run by threads."""

    op: Conv2d
    primitive: str
    weights: str
    threads: int
    written: int
    """Threads that the loops are written for."""
    zeros: float = 0.0
    """Share of zeros, in tenths, of CSR weights."""
    activation: str | None = None
    """Fused in the last store, as the next; templates are tuned without either."""
    residual: bool = False
    dtype: str = "float32"

    def to_json(self) -> dict[str, Any]:
        """Return what a child needs to build and run it."""
        told = {"kind": "conv", **asdict(self)}
        if self.dtype == "float32":  # as records of before there were other types have it
            del told["dtype"]
        return told


def parse(tuning: Mapping[str, Any] | None) -> Tuning | None:
    """Return the checked form of a caller's `tuning`.

    Raises:
        UnsupportedError: no mapping, an unknown or missing key, or a value that a key cannot have.
    """
    if tuning is None:
        return None
    _check_keys(tuning)
    scheduler, records = tuning["scheduler"], tuning.get("records")
    if scheduler not in SCHEDULERS:
        raise UnsupportedError(
            f"tuning: scheduler must be one of {SCHEDULERS}, got {scheduler!r}"
            f"{near(scheduler, SCHEDULERS)}"
        )
    trials, seed = whole(tuning["trials"]), whole(tuning.get("seed", 0))
    if trials is None or trials < 1:
        raise UnsupportedError(
            f"tuning: trials must be a whole number >= 1, got {tuning['trials']!r}"
        )
    if seed is None:
        raise UnsupportedError(f"tuning: seed must be a whole number, got {tuning['seed']!r}")
    if records is not None and not isinstance(records, str | os.PathLike):
        raise UnsupportedError(f"tuning: records must be a folder or None, got {records!r}")
    return Tuning(scheduler, trials, seed, None if records is None else str(records))


def _check_keys(tuning: Any) -> None:
    if not isinstance(tuning, Mapping):
        raise UnsupportedError(f"{_FORM}, got {tuning!r}")
    for key in tuning:
        if key not in _KEYS:
            raise UnsupportedError(f"{_FORM}; unknown key {key!r}{near(key, _KEYS)}")
    for key in ("scheduler", "trials"):
        if key not in tuning:
            raise UnsupportedError(f"{_FORM}: {key!r} is missing in {dict(tuning)!r}")


def summary(tuning: Tuning, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a description says about the record that was used."""
    return {
        "scheduler": tuning.scheduler,
        "record": record["id"],
        "reused": record["reused"],
        "trials": record["trials"],
        "lost": len(record["lost"]),
        "seconds": record["seconds"],
        "gain": record["gain"],
        "knobs": record["knobs"],
    }


def knobs_of(record: Mapping[str, Any]) -> Knobs:
    """Return what a record found, in the form in which a kernel takes it."""
    return Knobs.of(record["knobs"], record.get("module", ""))


def zeros_of(op: Conv2d, weight: Any, weights: str, dtype: str) -> float:
    """Return the share of zeros to tune for: in tenths with CSR, 0 with dense weights."""
    return 0.0 if weights == "dense" else round(left_out(op, weight, dtype), 1)


class Tuner:
    """Finds or looks up the best setting of one operator after another."""

    def __init__(self, tuning: Tuning, target: CpuTarget, workers: Workers) -> None:
        require(target.machine, target.features)  # what is tuned must run here
        self.tuning, self.cpu, self.workers = tuning, target, workers
        self.records = Records(tuning.records)

    def best(self, task: Task) -> dict[str, Any]:
        """Return the record of a task, from the store or from a search that is then stored."""
        key = {
            "task": task.to_json(),
            "dtype": task.dtype,
            "target": target_key(self.cpu),
            "search": [self.tuning.scheduler, self.tuning.trials, self.tuning.seed],
        }
        known = self.records.find(_plain(key))
        if known is not None:
            return known | {"reused": True}
        start = time.perf_counter()
        automatic = self.tuning.scheduler == "metaschedule"
        found = self._automatic(task) if automatic else self._search(task)
        seconds = round(time.perf_counter() - start, 3)
        return self.records.add(_plain(key), {**found, "seconds": seconds}) | {"reused": False}

    def _search(self, task: Task) -> dict[str, Any]:
        kernel: Kernel
        if task.primitive == matrix.NAME:
            kernel = matrix.dense_linear(task.op, self.cpu, task.written, dtype=task.dtype)
        else:
            kernel = plain_kernel(
                task.op, task.primitive, task.weights, self.cpu, task.written, dtype=task.dtype
            )
        space = kernel.space()
        if space is None:
            return {"knobs": {}, "trials": 0, "lost": [], "gain": 1.0, "note": "no knobs"}
        return _OneTask(self, task, space).run()

    def _automatic(self, task: Task) -> dict[str, Any]:
        """Let MetaSchedule search, then measure what it found in turn with the default loops."""
        request = {
            "do": "metaschedule", "task": task.to_json(), "target": self.cpu.name,
            "threads": task.threads, "trials": self.tuning.trials, "seed": self.tuning.seed,
            "workers": self.workers.count,
        }  # fmt: skip
        answer = self.workers.one(request, SESSION_S + TRIAL_S * self.tuning.trials)
        if answer.ok is None or answer.ok["module"] is None:
            reasons = [x["reason"] for x in answer.ok["lost"]] if answer.ok else [answer.error]
            raise KernelError(f"metaschedule found nothing for {task.op}: {reasons[:3]}")
        found = answer.ok
        gain, reason = self._against_default(task, found["module"])
        lost = found["lost"] + ([{"knobs": {}, "reason": reason}] if reason else [])
        return {
            "knobs": {},
            "module": found["module"] if gain > 1.0 else "",
            "gain": gain,
            "trials": found["trials"],
            "lost": lost,
        }

    def _against_default(self, task: Task, module: str) -> tuple[float, str | None]:
        """Return how much faster than default loops a module is (1: not beyond noise)."""
        from dlas.kernels.convolution.metaschedule import native
        from dlas.kernels.convolution.native import packed

        function = native(task.to_json(), self.cpu).function("main")
        texts = [packed(_module(function)), module]
        paths = [str(self.workers.folder / f"{id(task)}-{n}.so") for n in (0, 1)]
        requests = [
            {"do": "build", "task": {"kind": "module", "module": text}, "knobs": {}, "path": path,
             "target": self.cpu.name}
            for text, path in zip(texts, paths, strict=True)
        ]  # fmt: skip
        candidates = []
        for answer, path in zip(self.workers.map(requests, BUILD_S), paths, strict=True):
            if answer.ok is None:
                return 1.0, f"build: {answer.error}"
            candidates.append({"path": path, "knobs": {}, **answer.ok})
        answer = self.workers.one(
            {"do": "measure", "task": {"kind": "module"}, "candidates": candidates,
             "rounds": FINAL_ROUNDS, "seconds": FINAL_SECONDS, "least": LEAST_FINAL,
             "threads": task.threads, "warm": True, "target": self.cpu.name},
            4 * MEASURE_S,
        )  # fmt: skip
        if answer.ok is None:
            return 1.0, f"run: {answer.error}"
        if answer.ok["wrong"]:
            return 1.0, "run: its output differs from the default loops'"
        return gain_of(*by_candidate(answer.ok)), None


class _OneTask:
    """One search: what was drawn, measured and lost."""

    def __init__(self, tuner: Tuner, task: Task, space: Space) -> None:
        self.tuner, self.task, self.space = tuner, task, space
        self.fixed = space.settings[0]
        self.seconds: dict[Knobs, float] = {}
        self.built: dict[Knobs, dict[str, Any]] = {}
        self.lost: list[dict[str, Any]] = []
        self.drawn = 0

    def run(self) -> dict[str, Any]:
        """Return the record's body: the winner, its gain, trials, and what was lost and why."""
        search = Search(self.space, self.tuner.tuning.trials, self.tuner.tuning.seed)
        while batch := search.draw(2 * self.tuner.workers.count, self.seconds):
            self.drawn += len(batch)
            self._build(batch)
            for setting in batch:
                self._measure(setting)
        if self.fixed not in self.seconds:
            reason = next(x["reason"] for x in self.lost if Knobs.of(x["knobs"]) == self.fixed)
            raise KernelError(f"the fixed schedule of {self.task} cannot be measured: {reason}")
        winner, gain = self._final()
        return {
            "knobs": {} if winner == self.fixed else winner.as_dict(),
            "gain": gain,
            "trials": self.drawn,
            "space": len(self.space.settings),
            "lost": self.lost,
            "fixed_s": self.seconds[self.fixed],
            "best_s": min(self.seconds.values()),
        }

    def _request(self, do: str, **more: Any) -> dict[str, Any]:
        target = self.tuner.cpu.name
        return {"do": do, "task": self.task.to_json(), "target": target, **more}

    def _build(self, batch: list[Knobs]) -> None:
        paths = [self.tuner.workers.folder / f"{id(self)}-{len(self.built)}-{n}.so"
                 for n in range(len(batch))]  # fmt: skip
        requests = [
            self._request("build", knobs=_values(s, self.fixed), path=str(p))
            for s, p in zip(batch, paths, strict=True)
        ]
        answers = self.tuner.workers.map(requests, BUILD_S)
        for setting, path, answer in zip(batch, paths, answers, strict=True):
            if answer.ok is None:
                self._lose(setting, f"build: {answer.error}")
            else:
                self.built[setting] = {
                    "knobs": _values(setting, self.fixed),
                    "path": str(path),
                    **answer.ok,
                }

    def _measure(self, setting: Knobs) -> None:
        if setting not in self.built:
            return
        candidates = [self.built[setting]]
        if setting != self.fixed and self.fixed in self.built:
            candidates.insert(0, self.built[self.fixed])  # its output is the right one
        answer = self._readings(candidates, MEASURE_S, rounds=ROUNDS, seconds=SECONDS)
        if answer.ok is None:
            self._lose(setting, f"run: {answer.error}")
        elif answer.ok["wrong"]:
            self._lose(setting, "run: its output differs from the fixed schedule's")
        elif len(candidates) == 1:
            self.seconds[setting] = statistics.median(answer.ok["seconds"][0])
        else:
            # In units of the fixed schedule at that moment: the machine's speed drifts.
            ratio = statistics.median(together(*by_candidate(answer.ok)))
            self.seconds[setting] = ratio * self.seconds[self.fixed]

    def _readings(self, candidates: list[dict[str, Any]], timeout: float, **how: Any) -> Any:
        request = self._request(
            "measure", candidates=candidates, threads=self.task.threads, warm=True, **how
        )
        return self.tuner.workers.one(request, timeout)

    def _final(self) -> tuple[Knobs, float]:
        """Measure the fastest and the fixed schedule in turn; return the winner and its gain."""
        ranked = sorted(self.seconds, key=lambda s: self.seconds[s])
        finalists = [s for s in ranked if s != self.fixed][:FINALISTS]
        finalists = [s for s in finalists if self.seconds[s] < self.seconds[self.fixed]]
        if not finalists:
            return self.fixed, 1.0
        candidates = [self.built[s] for s in (self.fixed, *finalists)]
        answer = self._readings(
            candidates, 4 * MEASURE_S,
            rounds=FINAL_ROUNDS, seconds=FINAL_SECONDS, least=LEAST_FINAL,
        )  # fmt: skip
        if answer.ok is None:
            self.lost.append({"knobs": {}, "reason": f"finalists: {answer.error}"})
            return self.fixed, 1.0
        first, *others = by_candidate(answer.ok)
        best, gain = self.fixed, 1.0
        for setting, readings in zip(finalists, others, strict=True):
            this = gain_of(first, readings)
            if this > gain:
                best, gain = setting, this
        return best, gain

    def _lose(self, setting: Knobs, reason: str) -> None:
        self.lost.append({"knobs": setting.as_dict(), "reason": reason})


def _module(function: Any) -> Any:
    import tvm

    return tvm.IRModule({"main": function})


def _values(setting: Knobs, fixed: Knobs) -> dict[str, int]:
    """Return a setting's values; none for the fixed one, which is the rule's own."""
    return FIXED.as_dict() if setting == fixed else setting.as_dict()


def _plain(key: dict[str, Any]) -> dict[str, Any]:
    """Return the key as JSON reads it back."""
    import json

    plain: dict[str, Any] = json.loads(json.dumps(key))
    return plain


def target_key(target: CpuTarget) -> dict[str, Any]:
    """Return what a record must know of a target and of the CPU that times were read on."""
    return {
        "cpu": target.cpu,
        "attributes": list(target.attributes),
        "lanes": target.lanes,
        "host": cpu.model(),  # times of another CPU say nothing here
    }


def check_primitive(tuning: Tuning, primitive: str, weights: str, dtype: str = "float32") -> None:
    """Refuse what a scheduler cannot tune.

    Raises:
        UnsupportedError: MetaSchedule with anything but the definition of a dense convolution in
            float32.
    """
    if tuning.scheduler != "metaschedule":
        return
    if dtype != "float32":
        raise UnsupportedError(NO_SEARCH.format(dtype))
    if primitive != "native":
        raise UnsupportedError(
            "metaschedule schedules TVM's own definition of a convolution (primitive native), "
            f"not {primitive} with {weights} weights; the template scheduler does"
        )
