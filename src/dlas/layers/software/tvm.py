"""TVM: the network through Relax, convolutions by the algorithm that the stack names."""

from __future__ import annotations

import atexit
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlas.core.errors import StepError, near
from dlas.core.protocols import (
    Algorithm,
    Form,
    HardwareTechnique,
    KernelChoice,
    Program,
    Ran,
    Refusal,
    Session,
    Software,
    Techniques,
    impossible,
    unavailable,
)
from dlas.core.wording import said
from dlas.kernels.ground.target import INSTRUCTION_SETS
from dlas.kernels.ground.types import NO_SEARCH, WINOGRAD_INT8, KernelTypes
from dlas.layers.software.shared import isa, refusals
from dlas.layers.software.shared.work import Work, settle

if TYPE_CHECKING:
    from dlas.core.protocols import Array

HALVES = ("float16", "bfloat16")
TRIALS = 32
BESTS = ("best", "best-by-rule")
"""What asks for no primitive by name."""
OWN = "native"
"""The primitive that is TVM's own definition of a convolution."""


@dataclass(frozen=True, kw_only=True)
class Tvm(Software):
    """TVM: each convolution by the algorithm asked for, where it names a kernel.

    The machine code is made once, for the CPU or the instruction set asked for, and serves any
    number of threads; tuned code is made for one number of threads, on this machine. A process
    that measures loads TVM's runtime alone, no compiler.

    ``float16`` and ``bfloat16`` store the weights of convolutions and linear layers so; kernels
    multiply in the type where the CPU and the primitive can, else in float32, and all that is
    between is float32.
    """

    name: ClassVar[str] = "tvm"
    form: ClassVar[Form] = "exported"
    requires: ClassVar[tuple[str, ...]] = ("tvm", "tvm_ffi")
    extra: ClassVar[str] = "tvm"
    libraries: ClassVar[tuple[str, ...]] = ("apache-tvm", "apache-tvm-ffi")
    executes: ClassVar[Mapping[str, str]] = dict.fromkeys(HALVES, "float32")
    places: ClassVar[tuple[str, ...]] = ("python", "records")
    preload: ClassVar[tuple[str, ...]] = ("dlas.layers.software.shared.tvm_runtime",)
    sources: ClassVar[tuple[str, ...]] = (
        "dlas.kernels",
        "dlas.layers.software.shared.refusals",
        "dlas.layers.software.shared.work",
        "dlas.layers.software.shared.isa",
    )

    tuning: Literal["none", "template", "metaschedule"] = "none"
    """``template``: the schedules of the chosen algorithm's templates are searched;
    ``metaschedule``: TVM's automatic scheduler on its own definition (algorithm ``native``)."""
    trials: Annotated[int, Field(ge=1)] = TRIALS
    """Schedules tried for each distinct convolution, the fixed one among them."""
    records: str = ""
    """Folder of tuning records; empty: the one that ``dlas.kernels`` uses."""

    def __post_init__(self) -> None:
        if self.tuning == "none" and self.trials != TRIALS:
            # Without tuning there are no trials: one choice, however many are written.
            object.__setattr__(self, "trials", TRIALS)

    @property
    def bakes_threads(self) -> bool:
        """Whether the artefact depends on the thread count: tuned schedules do."""
        return self.tuning != "none"

    @property
    def build_measures(self) -> bool:
        """Whether the build measures: tuning does."""
        return self.tuning != "none"

    def untuned(self) -> Tvm:
        """Return TVM with its fixed schedules."""
        return replace(self, tuning="none")

    def why_not(self, stack: Techniques) -> Refusal | None:
        """Refuse what has no kernel in int8, what is no torch model, and what is not tuned."""
        return (
            self._no_kernel(stack)
            if stack.precision == "int8"
            else refusals.torch_model(stack, self.name)
        ) or (refusals.cpu_only(stack, self.name) or self._nothing_to_tune(stack))

    def _no_kernel(self, stack: Techniques) -> Refusal | None:
        """Refuse, in int8, what asks for no kernel, and what asks for Winograd everywhere."""
        if stack.algorithm.chooses:
            return unavailable(WINOGRAD_INT8) if _asks_winograd(stack.algorithm) else None
        return unavailable(
            "tvm in int8 runs dlas's own kernels, and the algorithm "
            f"{type(stack.algorithm).name!r} asks for TVM's own definition of a convolution, "
            "which is float32: name an algorithm that chooses kernels"
        )

    def _nothing_to_tune(self, stack: Techniques) -> Refusal | None:
        if self.tuning == "template" and not stack.algorithm.chooses:
            return impossible(
                "tuning by template searches what a template of the chosen algorithm leaves open, "
                f"and the algorithm {type(stack.algorithm).name!r} chooses none"
            )
        if self.tuning == "metaschedule" and stack.algorithm.chooses:
            return unavailable(
                "metaschedule is applied to TVM's own definition of a convolution (algorithm "
                f"native); for {type(stack.algorithm).name!r} it is not implemented in dlas: "
                "tune by template"
            )
        if self.tuning == "metaschedule" and stack.precision != "float32":
            return unavailable(NO_SEARCH.format(stack.precision))
        return None

    def build(self, program: Program, hardware: HardwareTechnique, folder: Path) -> Any:
        """Choose a kernel for each convolution, compile, and store code, weights and plan."""
        from dlas import kernels

        target = INSTRUCTION_SETS.get(hardware.isa, hardware.isa)
        # The quantized model is one for all runtimes, and there is no torch module of it.
        quantized = program.precision == "int8"
        model = program.onnx() if quantized else program.exported()
        dtype = None if quantized else program.precision
        try:
            chosen = _choose(model, program.algorithm, target)
            bakes = self.bakes_threads or program.algorithm.measures
            threads = hardware.threads if bakes else 1
            compiled = kernels.compile_model(
                model, chosen, threads, target, self._search(), dtype=dtype
            )
        except kernels.KernelError as error:
            raise StepError(f"tvm: {said(error)}") from error
        plan = compiled.describe()
        _check_sparse(chosen, plan["operators"])
        compiled.save(folder)
        return {"target": plan["target"], "algorithm": chosen, "tuning": plan["tuning"]}

    def _search(self) -> dict[str, Any] | None:
        """Return the search that the kernels are asked for."""
        if self.tuning == "none":
            return None
        folder = {"records": self.records} if self.records else {}
        return {"scheduler": self.tuning, "trials": self.trials, **folder}

    def load(self, folder: Path, hardware: HardwareTechnique) -> Session:
        """Load the code and set the pool of this thread to the number of threads."""
        from dlas import kernels

        program = kernels.load(folder, threads=hardware.threads)
        _set_threads(hardware.threads)
        return TvmSession(program)


def _asks_winograd(algorithm: Algorithm) -> bool:
    """Return whether an algorithm names Winograd's kernel for a plain 3x3 convolution."""
    from dlas.kernels import Conv2d

    plain = Conv2d(1, 16, 14, 14, 16, (3, 3), padding=(1, 1, 1, 1))
    answer = algorithm.kernel(plain, "native")
    return (answer.primitive if isinstance(answer, KernelChoice) else answer) == "winograd"


def _choose(model: Any, algorithm: Algorithm, target: str) -> dict[str, Any]:
    """Ask the algorithm for each operator; return a map from operator to choice."""
    from dlas.kernels.graph.calls import as_conv2d
    from dlas.kernels.graph.model_graph import read_model

    graph = read_model(model)
    nodes = [node for node in graph.nodes if node.op in ("conv2d", "linear")]
    _check_names(algorithm, [node.name for node in nodes])
    chosen: dict[str, Any] = {}
    for node in nodes:
        operator = node.attrs["conv"] if node.op == "conv2d" else as_conv2d(graph, node)
        answer = algorithm.named(node.name, operator, target)
        if answer is None:
            continue
        kernel = KernelChoice(answer) if isinstance(answer, str) else answer
        chosen[node.name] = asdict(kernel)
    return {**chosen, "*": OWN}


def _check_names(algorithm: Algorithm, known: Sequence[str]) -> None:
    """Refuse names that no operator has; a network without any operator has nothing to name.

    Raises:
        StepError: says which names there are.
    """
    unknown = [name for name in algorithm.names if name not in known] if known else []
    if unknown:
        raise StepError(
            f"tvm: no convolution or linear layer is called {', '.join(unknown)}."
            f"{near(unknown[0], known)} There are {len(known)}: {_shown(known)}"
        )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _check_sparse(algorithm: Mapping[str, Any], operators: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to call a network sparse in which CSR was asked for and nothing is stored so.

    Raises:
        StepError: no layer has zeros enough.
    """
    asked = [c for c in algorithm.values() if c != OWN and c["weights"] == "csr"]
    if not asked or any(o.get("weights") == "csr" for o in operators):
        return
    most = max(_zero_share(o) for o in operators if "zeros" in o)
    least = min(c["threshold"] for c in asked)
    if most >= least and any(c["primitive"] in BESTS for c in asked):
        return  # dense kernels were measured faster, which is told by operator
    raise StepError(
        f"tvm: weights in CSR were asked for, and no layer has {least:.0%} zeros (the threshold); "
        f"the sparsest has {most:.0%}"
    )


def _set_threads(threads: int) -> None:
    """Set the pool of the calling thread to a number of threads, for good.

    TVM reads ``TVM_NUM_THREADS`` when the pool is made, at its first use; a pool never grows after
    that, and one made without it has a thread for every second processor.

    Raises:
        StepError: this process has made a smaller pool before.
    """
    from dlas.kernels.ground import pool

    os.environ["TVM_NUM_THREADS"] = str(threads)
    # Entered and kept: else the pool would be set anew around every inference.
    _entered.append(pool.limited(threads))
    _entered[-1].__enter__()
    made = pool.size()
    if made != threads:
        raise StepError(f"tvm: {threads} threads were asked for and the pool has {made}")


_entered: list[Any] = []
atexit.register(_entered.clear)  # left while TVM is still there to set the pool back


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
        plan = self._program.describe()
        operators = plan["operators"]
        kernels = {o["operator"]: _ran(o) for o in operators if o["kind"] == "conv2d"}
        others = Counter(_ran(o) for o in operators if o["kind"] != "conv2d")
        precision, mixed = settle(self._works())
        return Ran(
            precision=precision,
            threads=self._program.ran_threads,
            isa=isa.widest(_instructions(plan["target"]["features"], operators)),
            kernels={**kernels, **{kind: f"x{n}" for kind, n in sorted(others.items())}},
            fallbacks=(*(_fallback(o) for o in operators if o.get("fallback_reason")), *mixed),
            sparsity=_skipped(operators),
        )

    def _works(self) -> list[Work]:
        """Return convolutions and linear layers with the types of their arguments."""
        works = []
        for step in self._program.plan["steps"]:
            record = step["record"]
            if record["kind"] in ("conv2d", "linear"):
                types = {a["dtype"] for a in step["arguments"]} - _POSITIONS
                narrow = record["dtype"] != "float32"  # filters are widened, or read by twos
                factors = KernelTypes(**record["types"]).multiplied
                works.append(
                    Work(record["operator"], factors if narrow else "+".join(sorted(types)))
                )
            elif record["kind"] in _PRODUCTS:
                works.append(Work(record["operator"], "float32"))
        return works


_PRODUCTS = ("nn.conv2d", "matmul", "attention")
"""Products whose factors are both computed, or that have no kernel of dlas's own."""
_POSITIONS = {"int32", "uint16"}
"""Types of CSR's starts and offsets, which are not what a kernel computes in."""


def _instructions(features: Sequence[str], operators: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the CPU's features that the code rests on: those of narrow types where these ran."""
    kernels = {o.get("schedule", {}).get("kernel", "") for o in operators}
    narrow = {o.get("dtype") for o in operators}
    bytes_ = "int8" in narrow
    tiles = any("AMX" in kernel for kernel in kernels)
    ran = {"amx": tiles, "avx512_vnni": bytes_, "avx_vnni": bytes_}
    left_out = tuple(sign for sign, used in ran.items() if not used)
    return [feature for feature in features if not feature.startswith(left_out)]


def _ran(operator: Mapping[str, Any]) -> str:
    """Return the kernel of an operator as the record names it: ``gemm``, ``gemm csr``, ``add``."""
    name = operator.get("primitive", operator["kind"])
    return f"{name} csr" if operator.get("weights") == "csr" else str(name)


def _fallback(operator: Mapping[str, Any]) -> str:
    """Return the sentence about an operator that does not run as it was asked to."""
    asked, ran = operator.get("asked"), operator.get("primitive")
    if asked in (ran, *BESTS):
        asked, ran = f"{operator['asked_weights']} weights", f"{operator['weights']} weights"
    return f"{operator['operator']}: {ran} instead of {asked}: {operator['fallback_reason']}"


def _skipped(operators: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share of weights that are zero and that the kernels that ran never touch."""
    layers = [o for o in operators if "weight_count" in o]
    total = sum(o["weight_count"] for o in layers)
    skipped = sum(_zero_share(o) * o["weight_count"] for o in layers if o["weights"] == "csr")
    return skipped / total if total else None


def _zero_share(operator: Mapping[str, Any]) -> float:
    """Return the share of weights that CSR leaves out: in int8 those of whole zero groups."""
    share: float = operator.get("skippable", operator["zeros"])
    return share
