"""What the machine can do at most, read at the start and at the end of a run's rounds.

Arithmetic and memory bandwidth by thread count and instruction set; the overhead of an inference
by data set, software and hardware, of a network of one operator. They are what a roofline is
drawn from, so they are readings like the rounds: in processes of their own, on the processors of
the cells, while nothing else runs. What has to be compiled for them is a step like any other,
made once and kept in the store, long before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from dlas.core import registry
from dlas.core.clock import now
from dlas.core.keys import Json, key
from dlas.core.records import Outcome, Stage
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.target import of_level
from dlas.kernels.ground.types import MULTIPLYING, NARROW
from dlas.run.bench import Bench, measure
from dlas.run.measure import ceilings
from dlas.run.measure.host import placement
from dlas.run.plan.identities import software_identity
from dlas.run.plan.plan import Runnable, Step
from dlas.run.plan.servers import NETWORK_SERVER, build_server
from dlas.run.process.tasks import Server
from dlas.store.results import CeilingRow
from dlas.store.step_record import StepRecord

ARITHMETIC, MEMORY, OVERHEAD = "arithmetic", "memory", "overhead"
FLOATS = "float32"
"""The type of rows of arithmetic that name none: others' kind is ``arithmetic int8``, ..."""
ONE_OPERATOR = "a network of one operator (a mean over each image), in the timed region"
TIMEOUT_S = 30.0
QUICK = {
    "min_runs": 20, "min_seconds": 0.05, "warmup_runs": 10, "warmup_seconds": 0.02,
    "warmup_max_seconds": 0.3, "energy": False,
}  # fmt: skip
"""How the network of one operator is measured: as a cell is, but briefly."""
_NUMPY = Server(preload=("numpy",))
_KERNELS = {"avx2": "Haswell"}
"""What OpenBLAS calls an instruction set."""


@dataclass
class Ceilings:
    """Plans and takes the readings of one run; ``cells`` are those that it measures."""

    bench: Bench
    cells: Sequence[Runnable]
    caches: Mapping[str, str]
    """Of the host's description."""
    inputs: Mapping[str, Path]
    """By cell: the images that it is measured on."""
    made: dict[str, tuple[StepRecord, Path | None]] = field(default_factory=dict)
    """What became of the steps, and where it lies; filled by the caller."""

    def steps(self) -> dict[str, Step]:
        """Return what has to be compiled, by key."""
        found = [s for plan, dtype in self._types() if (s := _loop_step(plan, dtype))]
        found += [_operator_step(plan) for plan in self._software()]
        return {step.key: step for step in found}

    def read(self, moment: str) -> None:
        """Take all readings and store them; what fails is stored with its reason."""
        allowed = os.sched_getaffinity(0)
        try:
            rows = [*self._memory(), *self._arithmetic(), *self._overhead()]
        finally:
            os.sched_setaffinity(0, allowed)
        host, session = self.bench.host, self.bench.session
        self.bench.results.put(
            *(
                replace(row, session=session, host=host, moment=moment, created_at=now())
                for row in rows
            )
        )

    # ------------------------------------------------------------ which

    def _hardware(self) -> list[Runnable]:
        """Return one cell for each choice at the hardware layer."""
        return list({plan.stack.text("hardware"): plan for plan in self.cells}.values())

    def _types(self) -> Iterator[tuple[Runnable, str]]:
        """Yield one cell for each choice at the hardware layer, with each type to multiply there.

        Those are float32 and what cells with this hardware are asked to run in.
        """
        asked = {(p.stack.text("hardware"), p.techniques.precision) for p in self.cells}
        for plan in self._hardware():
            yield plan, FLOATS
            for dtype in NARROW:
                if (plan.stack.text("hardware"), dtype) in asked and _multiplies(plan, dtype):
                    yield plan, dtype

    def _software(self) -> list[Runnable]:
        """Return one cell for each data set, software and hardware."""
        layers = ("dataset", "software", "hardware")
        known: dict[tuple[str, ...], Runnable] = {}
        for plan in self.cells:
            known.setdefault(tuple(plan.stack.text(layer) for layer in layers), plan)
        return list(known.values())

    # ------------------------------------------------------------ the readings

    def _memory(self) -> Iterator[CeilingRow]:
        """Read all thread counts in one process: touching the arrays takes longest."""
        own, others = _by_device(self._hardware())
        cpus: dict[str, Json] = {str(p.threads): list(placement(p.threads)[0]) for p in own}
        if cpus:
            most = max((plan.threads for plan in own), default=1)
            args: dict[str, Json] = {"cpus": cpus, "cache_bytes": ceilings.last_cache(self.caches)}
            said = self._run("dlas.run.measure.ceilings:bandwidth", args, most, _NUMPY)
            for plan in own:
                value = said.value["values"][str(plan.threads)] if said.ok else None
                yield _told(_row(MEMORY, plan), said, value)
        yield from _elsewhere(MEMORY, others)

    def _arithmetic(self) -> Iterator[CeilingRow]:
        for plan, dtype in self._types():
            if plan.techniques.hardware.device != "cpu":
                continue
            args: dict[str, Json] = {"threads": plan.threads}
            step = _loop_step(plan, dtype)
            record, folder = self.made.get(step.key, (None, None)) if step else (None, None)
            row = _row(ARITHMETIC, plan)
            if dtype != FLOATS:
                row = replace(row, kind=f"{ARITHMETIC} {dtype}")
            if record is not None and folder is not None:
                args |= {**record.info, "loop": str(folder)}
            elif dtype != FLOATS:  # numpy multiplies no matrices of narrow types
                why = record.reason if record else "it was not built"
                yield replace(row, reason=f"the loop of {dtype}: {why}")
                continue
            said = self._run("dlas.run.measure.ceilings:arithmetic", args, plan.threads,
                             _server(row.isa))  # fmt: skip
            yield _told(row, said, said.value.get("value"))
        yield from _elsewhere(ARITHMETIC, _by_device(self._hardware())[1])

    def _overhead(self) -> Iterator[CeilingRow]:
        for plan in self._software():
            row = _row(OVERHEAD, plan)
            record, folder = self.made.get(_operator_step(plan).key, (None, None))
            if folder is None:
                why = record.reason if record else "it was not built"
                yield replace(row, reason=f"the network of one operator: {why}")
                continue
            settings = self.bench.settings.model_copy(update=QUICK)
            inputs = self.inputs[plan.cell]
            said = measure(self.bench, plan, folder, inputs, settings, most_s=TIMEOUT_S)
            seconds = said.seen.samples_s if said.seen else ()
            value = median(seconds) * 1e3 if seconds else None
            yield _told(row, said.outcome, value, ONE_OPERATOR)

    def _run(self, task: str, args: Mapping[str, Json], threads: int, server: Server) -> Outcome:
        return self.bench.run_alone(task, args, server, threads, most_s=TIMEOUT_S)


# ---------------------------------------------------------------- steps


def _multiplies(plan: Runnable, dtype: str) -> bool:
    """Whether there is a loop that multiplies a narrow type where a cell runs."""
    hardware = plan.techniques.hardware
    if hardware.device != "cpu" or find_spec("tvm") is None:
        return False
    try:
        features = of_level(hardware.isa).features
    except UnsupportedError:
        return False
    return dtype not in MULTIPLYING or not MULTIPLYING[dtype].isdisjoint(features)


def _loop_step(plan: Runnable, dtype: str) -> Step | None:
    """Return the step that compiles the loop of multiply-adds; None without a compiler for it."""
    hardware = plan.techniques.hardware
    if hardware.device != "cpu" or find_spec("tvm") is None:
        return None
    source = registry.source_version("dlas.run.measure.ceilings")
    library = registry.installed_version("apache-tvm")
    narrow: dict[str, Json] = {} if dtype == FLOATS else {"dtype": dtype}
    own = (hardware.target(), hardware.isa, hardware.threads, source, library)
    return Step(
        key=key("ceiling", *own, *narrow.values()),
        stage=Stage.BUILD,
        task="dlas.run.measure.ceilings:build_loop",
        args={"isa": hardware.isa, "threads": hardware.threads, **narrow},
        inputs={},
        server=NETWORK_SERVER,
        text=f"ceiling of {' '.join([plan.stack.text('hardware'), *map(str, narrow.values())])}",
    )


def _operator_step(plan: Runnable) -> Step:
    """Return the step that builds the network of one operator for a cell's software."""
    t = plan.techniques
    software = t.software.untuned()  # one operator without weights leaves nothing to tune
    chosen = registry.choice(software)
    spec = asdict(t.dataset.spec())
    identity = [
        software_identity(software, plan.interpreter),
        registry.identity(t.algorithm),
        [plan.stack.hardware[0].name, t.hardware.target()],
        t.hardware.threads if software.bakes_threads else None,
        spec,
        registry.source_version("dlas.run.measure.one_operator"),
    ]
    return Step(
        key=key("one-operator", identity),
        stage=Stage.BUILD,
        task="dlas.run.measure.one_operator:build",
        args={
            "software": chosen.to_json(),
            "algorithm": plan.stack.algorithm[0].to_json(),
            "hardware": plan.stack.hardware[0].to_json(),
            "spec": spec,
        },
        inputs={},
        server=build_server(t),
        alone=software.build_measures,
        text=f"one operator {chosen.text}",
    )


# ---------------------------------------------------------------- small words


def _by_device(plans: Sequence[Runnable]) -> tuple[list[Runnable], list[Runnable]]:
    """Split cells into those on this CPU and the others."""
    own = [p for p in plans if p.techniques.hardware.device == "cpu"]
    return own, [p for p in plans if p not in own]


def _elsewhere(kind: str, plans: Sequence[Runnable]) -> Iterator[CeilingRow]:
    for plan in plans:
        device = plan.techniques.hardware.device
        why = f"dlas has no loop that reaches the {kind} ceiling of {device}"
        yield replace(_row(kind, plan), reason=why)


def _row(kind: str, plan: Runnable) -> CeilingRow:
    """Return the row of a reading of a kind, taken where a cell runs, with nothing read yet."""
    stack, own = plan.stack, kind == OVERHEAD
    return CeilingRow(
        session="",
        host="",
        kind=kind,
        hardware=stack.text("hardware"),
        software=stack.text("software") if own else "",
        dataset=stack.text("dataset") if own else "",
        moment="",
        threads=plan.threads,
        isa=plan.techniques.hardware.isa,
    )


def _told(row: CeilingRow, said: Outcome, value: float | None, method: str = "") -> CeilingRow:
    """Return a row with what its reading came to."""
    return replace(
        row,
        value=value,
        reason=said.reason,
        detail={k: v for k, v in said.value.items() if k in ("array_mb", "cache_mb")},
        method=(method or said.value.get("method", "")) if said.ok else "",
    )


def _server(isa: str) -> Server:
    """Return where numpy multiplies with an instruction set: the sentinel's server if native."""
    kernels = _KERNELS.get(isa)
    return Server(_NUMPY.preload, (("OPENBLAS_CORETYPE", kernels),)) if kernels else _NUMPY
