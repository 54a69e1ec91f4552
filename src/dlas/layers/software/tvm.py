"""TVM: the network through Relax, convolutions by the algorithm that the stack names."""

from __future__ import annotations

import atexit
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dlas.errors import StepError
from dlas.layers.software import isa, rules
from dlas.layers.software.work import Work, settle
from dlas.protocols import (
    Algorithm,
    Form,
    HardwareTechnique,
    Program,
    Ran,
    Refusal,
    Session,
    Software,
    Techniques,
    unavailable,
)

if TYPE_CHECKING:
    from dlas.protocols import Array

_TARGETS: Mapping[str, str] = {"native": "native", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}
OWN = "native"
"""The primitive that is TVM's own definition of a convolution."""


@dataclass(frozen=True, kw_only=True)
class Tvm(Software):
    """TVM without tuning: each convolution by the algorithm asked for, where it names a kernel.

    The machine code is made once, for the CPU or the instruction set asked for, and serves any
    number of threads. A process that measures loads TVM's runtime alone, no compiler.
    """

    name: ClassVar[str] = "tvm"
    form: ClassVar[Form] = "exported"
    requires: ClassVar[tuple[str, ...]] = ("tvm", "tvm_ffi")
    extra: ClassVar[str] = "tvm"
    libraries: ClassVar[tuple[str, ...]] = ("apache-tvm", "apache-tvm-ffi")
    preload: ClassVar[tuple[str, ...]] = ("dlas.layers.software.tvm_runtime",)
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.kernels",
        "dlas.layers.software.rules",
        "dlas.layers.software.work",
        "dlas.layers.software.isa",
    )

    tuning: Literal["none"] = "none"

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse everything but float32 torch models on the CPU."""
        if stack.precision != "float32":
            return unavailable(
                f"tvm in {stack.precision} is not implemented in dlas: its kernels are float32"
            )
        return rules.torch_model(stack, self.name) or rules.cpu_only(stack, self.name)

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Choose a kernel for each convolution, compile, and store code, weights and plan."""
        from dlas import kernels

        if program.precision != "float32":
            raise StepError(f"tvm's kernels are float32, {program.precision} was asked for")
        target = _TARGETS[hardware.isa]
        exported = program.exported()
        try:
            chosen = _choose(exported, program.algorithm, target)
            compiled = kernels.compile_model(exported, algorithm=chosen, target=target)
        except kernels.UnsupportedError as error:
            raise StepError(f"tvm: {error}") from error
        compiled.save(folder)
        return {"target": compiled.describe()["target"], "algorithm": chosen}

    def load(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Load the code and set the pool of this thread to the number of threads."""
        from dlas import kernels

        program = kernels.load(folder, threads=hardware.threads)
        _set_threads(hardware.threads)
        return TvmSession(program)


def _choose(exported: Any, algorithm: Algorithm, target: str) -> dict[str, str]:
    """Ask the algorithm for each convolution; return ``{operator: primitive}``."""
    from dlas.kernels.importer import import_program
    from dlas.kernels.simplify import simplify

    chosen = {
        node.name: algorithm.kernel(node.attrs["conv"], target) or OWN
        for node in simplify(import_program(exported)).nodes
        if node.op == "conv2d"
    }
    return {**chosen, "*": OWN}


def _set_threads(threads: int) -> None:
    """Set the pool of the calling thread to a number of threads, for good.

    TVM reads ``TVM_NUM_THREADS`` when the pool is made, at its first use; a pool never grows after
    that, and one made without it has a thread for every second processor.

    Raises:
        StepError: this process has made a smaller pool before.
    """
    from dlas.kernels import pool

    os.environ["TVM_NUM_THREADS"] = str(threads)
    # Entered and kept: else the pool would be set anew around every inference.
    _entered.append(pool.limited(threads))
    _entered[-1].__enter__()
    made = _threads()
    if made != threads:
        raise StepError(f"tvm: {threads} threads were asked for and the pool has {made}")


_entered: list[Any] = []
atexit.register(_entered.clear)  # left while TVM is still there to set the pool back


def _threads() -> int:
    """Return how many threads TVM's pool uses."""
    from tvm_ffi import get_global_func

    return int(get_global_func("runtime.NumThreads")())


class TvmSession:
    """A compiled network."""

    def __init__(self, program: Any) -> None:
        self._program = program

    def __call__(self, x: Array) -> Array:
        """Infer."""
        output: Array = self._program.run(x)
        return output

    def observe(self, x: Array) -> Ran:
        """Run once and read the plan, which lists the calls that a run makes."""
        self(x)
        said = self._program.describe()
        steps = self._program.plan["steps"]
        works, kernels, fallbacks = [], {}, []
        others: Counter[str] = Counter()
        for step in steps:
            record = step["record"]
            if record["kind"] in ("conv2d", "linear"):
                types = {a["dtype"] for a in step["arguments"]}
                works.append(Work(record["operator"], "+".join(sorted(types))))
            if record["kind"] == "conv2d":
                kernels[record["operator"]] = record["primitive"]
            else:
                others[record["kind"]] += 1
            if record.get("fallback_reason"):
                fallbacks.append(
                    f"{record['operator']}: {record['primitive']} instead of "
                    f"{record['asked']}: {record['fallback_reason']}"
                )
        precision, mixed = settle(works)
        return Ran(
            precision=precision,
            threads=_threads(),
            isa=isa.widest(said["target"]["features"]),
            kernels={**kernels, **{kind: f"x{n}" for kind, n in sorted(others.items())}},
            fallbacks=(*fallbacks, *mixed),
        )
