"""A compiled model: run it, ask what it does, save it, load it.

This module and what it imports need TVM's runtime library only: neither TVM's compiler, nor torch.
"""

import ctypes
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlas.kernels.ground import pool, tile_permission
from dlas.kernels.ground.arrays import aligned, tensor
from dlas.kernels.ground.errors import (
    InputError,
    KernelError,
    MissingFeatureError,
    UnsupportedError,
)
from dlas.kernels.ground.shape import whole
from dlas.kernels.ground.target import require

FORMAT = 1
"""Version of the folder that `save` writes."""
_PLAN, _CODE, _WEIGHTS = "plan.json", "kernels.so", "weights.bin"

AnyArray = npt.NDArray[Any]
Linked = tuple[Any, list[Any]]
"""A function and its arguments."""


class Program:
    """A model as a list of kernel calls over one block of memory and one of weights."""

    def __init__(
        self, plan: dict[str, Any], weights: bytes | AnyArray, code: bytes, threads: int
    ) -> None:
        self.plan, self.threads = plan, threads
        self.ran_threads: int | None = None
        """Threads that the pool had in the last run; None before the first."""
        self._code = code
        self._weights = _memory(len(weights))
        self._weights[: len(weights)] = np.frombuffer(weights, np.uint8)
        self._arena = _memory(plan["arena_bytes"])
        # Padding that no kernel writes must not hold denormals or NaN by chance.
        self._arena[:] = 0
        self._inputs = [self._view(i) for i in plan["inputs"]]
        self._outputs = [self._view(o) for o in plan["outputs"]]
        self._linked: list[Linked] | None = None

    def link(self) -> list[Linked]:
        """Return the calls of a run; the first time, load the code, unless it is for another CPU.

        Compiling does not need this: code for another machine is saved and loaded there.

        Raises:
            MissingFeatureError: this CPU lacks instructions that the code was built for.
        """
        if self._linked is None:
            require(self.plan["target"]["machine"], tuple(self.plan["target"]["features"]))
            module = load_library(self._code, tuple(self.plan["target"]["features"]))
            self._linked = [
                (module[s["function"]], [tensor(self._view(a)) for a in s["arguments"]])
                for s in self.plan["steps"]
            ]
        return self._linked

    def _view(self, reference: dict[str, Any]) -> AnyArray:
        memory = self._weights if reference["in"] == "weights" else self._arena
        dtype, shape = np.dtype(reference["dtype"]), reference["shape"]
        size = int(np.prod(shape)) * dtype.itemsize
        return memory[reference["at"] : reference["at"] + size].view(dtype).reshape(shape)

    def run(self, *inputs: npt.ArrayLike) -> AnyArray | tuple[AnyArray, ...]:
        """Return the output (a tuple if the model has several) for the inputs, all numpy.

        Runs share one block of memory: one at a time.

        Raises:
            InputError: a wrong number of inputs, or one of another shape or type.
            MissingFeatureError: this CPU lacks instructions that the code was built for.
        """
        calls = self.link()
        self._put(inputs)
        with pool.limited(self.threads) as self.ran_threads:
            for function, arguments in calls:
                function(*arguments)
        results = tuple(np.array(view) for view in self._outputs)
        return results[0] if len(results) == 1 else results

    def profile(self, *inputs: npt.ArrayLike, repeats: int = 10) -> list[dict[str, Any]]:
        """Return each step's record with its raw `seconds`, one a repeat, after one warm-up."""
        calls = self.link()
        seconds: list[list[float]] = [[] for _ in calls]
        with pool.limited(self.threads) as self.ran_threads:
            for turn in range(repeats + 1):
                self._put(inputs)  # later tensors lie where they lay
                for at, (function, arguments) in enumerate(calls):
                    start = time.perf_counter()
                    function(*arguments)
                    if turn:
                        seconds[at].append(time.perf_counter() - start)
        records = [s["record"] for s in self.plan["steps"]]
        return [{**r, "seconds": s} for r, s in zip(records, seconds, strict=True)]

    def describe(self) -> dict[str, Any]:
        """Return the target, threads, memory, and what runs for each operator, in order."""
        return {
            "target": self.plan["target"],
            "threads": self.threads,
            "ran_threads": self.ran_threads,
            "tuning": self.plan.get("tuning"),
            "arena_bytes": self.plan["arena_bytes"],
            "weight_bytes": int(self._weights.size),
            "operators": [s["record"] for s in self.plan["steps"]],
        }

    def save(self, directory: str | Path) -> None:
        """Write the program into a folder: plan, machine code, weights."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _CODE).write_bytes(self._code)
        (folder / _WEIGHTS).write_bytes(self._weights.tobytes())
        own = {"threads": self.threads, "weight_bytes": int(self._weights.size)}
        text = json.dumps(self.plan | own, indent=1)
        (folder / _PLAN).write_text(text)

    def _put(self, inputs: tuple[npt.ArrayLike, ...]) -> None:
        if len(inputs) != len(self._inputs):
            raise InputError(f"the model has {len(self._inputs)} inputs, got {len(inputs)}")
        for view, given, spec in zip(self._inputs, inputs, self.plan["inputs"], strict=True):
            array = np.asarray(given)
            if array.shape != view.shape or not np.can_cast(array.dtype, view.dtype, "same_kind"):
                raise InputError(
                    f"input {spec['name']!r} must be {view.dtype} of shape {view.shape}, "
                    f"got {array.dtype} of shape {array.shape}"
                )
            view[...] = array


def _memory(size: int) -> AnyArray:
    return aligned((-(-max(size, 1) // 4),)).view(np.uint8)


def load(directory: str | Path, threads: int | None = None) -> Program:
    """Load what `Program.save` wrote, in any process that has TVM's runtime.

    Args:
        directory: the folder.
        threads: the most threads a run uses; None: what the program was compiled for.

    Raises:
        MissingFeatureError: this CPU lacks instructions that the code was built for.
        UnsupportedError: `threads` is no whole number from 1 on.
        KernelError: the folder is not of this version, or incomplete.
    """
    asked = None if threads is None else check_threads(threads)
    folder = Path(directory)
    try:
        plan = json.loads((folder / _PLAN).read_text())
    except (OSError, ValueError) as error:
        raise KernelError(f"{folder} holds no readable {_PLAN}: {error}") from error
    if plan.get("format") != FORMAT:
        raise KernelError(f"{folder} has format {plan.get('format')}, this code reads {FORMAT}")
    try:
        code = (folder / _CODE).read_bytes()
        weights = np.fromfile(folder / _WEIGHTS, np.uint8)
    except OSError as error:
        raise KernelError(f"{folder} is incomplete: {error}") from error
    whole = plan.get("weight_bytes", len(weights))
    if len(weights) != whole:
        raise KernelError(
            f"{folder} is incomplete: {_WEIGHTS} has {len(weights)} of {whole} bytes"
        )
    program = Program(plan, weights, code, asked or plan["threads"])
    program.link()
    return program


def check_threads(threads: int) -> int:
    """Return a number of threads of any integer type as an int.

    Raises:
        UnsupportedError: it is no whole number from 1 on.
    """
    number = whole(threads)
    if number is None or number < 1:
        raise UnsupportedError(f"threads must be a whole number >= 1, got {threads!r}")
    return number


def load_library(code: bytes, features: tuple[str, ...] = ()) -> Any:
    """Return the TVM module in a shared library's bytes.

    Args:
        code: the bytes.
        features: CPU flags that it was built for: tiles need the system's permission.

    Raises:
        MissingFeatureError: the system does not give it.
    """
    if "amx_tile" in features and not tile_permission.given():
        raise MissingFeatureError("the system gives no permission to use AMX (amx_tile)")
    load_runtime()
    from tvm_ffi import load_module

    # The file may go once it is mapped; the mapping stays.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _CODE
        path.write_bytes(code)
        return load_module(str(path))


def load_runtime() -> None:
    """Load TVM's runtime library without TVM's compiler and without torch.

    `tvm_ffi` imports torch if it is installed, only to be sure to come second; that costs seconds,
    so it is told here that there is none, unless torch is loaded already.
    """
    if "tvm" in sys.modules:
        return
    hide = "torch" not in sys.modules and "tvm_ffi" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tvm_ffi  # noqa: F401
    finally:
        if hide:
            del sys.modules["torch"]
    ctypes.CDLL(str(_runtime_library()), mode=ctypes.RTLD_GLOBAL)


def _runtime_library() -> Path:
    """Return TVM's runtime library: beside this file where that was exported, else TVM's own."""
    name = "libtvm_runtime.so"
    beside = Path(__file__).with_name(name)
    if beside.is_file():
        return beside
    spec = importlib.util.find_spec("tvm")
    if spec is None or spec.origin is None:
        raise KernelError("TVM's runtime is not installed; `pip install dlas[tvm]`")
    return Path(spec.origin).parent / "lib" / name
