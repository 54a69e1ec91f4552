"""The child that builds and measures: whatever a candidate does, it happens here.

A request is a line of JSON on the standard input, its answer a line of JSON: `{"ok": ...}` or
`{"error": sentence}`. A crash or a hang is for the parent (`subprocesses.py`) to notice. The child
ends with its input, and the system kills it with its parent.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# TVM imports torch where it is installed, which costs seconds and serves nothing here.
if __name__ == "__main__":
    sys.modules["torch"] = None  # type: ignore[assignment]

import numpy as np

from dlas.kernels.code.emit import argument_shapes, argument_types
from dlas.kernels.code.machine_code import compile_functions
from dlas.kernels.code.numbers import INT8
from dlas.kernels.convolution import matrix, metaschedule
from dlas.kernels.convolution.native import unpacked
from dlas.kernels.convolution.primitives import constants, plain_kernel
from dlas.kernels.ground import pool
from dlas.kernels.ground.arrays import aligned, aligned_copy, tensor, viewed
from dlas.kernels.ground.knobs import Knobs
from dlas.kernels.ground.layout import Array, layout_of, pack, unpack
from dlas.kernels.ground.program import load_library
from dlas.kernels.ground.quantization import Quantization, Scale
from dlas.kernels.ground.shape import Conv2d
from dlas.kernels.ground.target import CpuTarget, resolve
from dlas.kernels.operators.relayout import Relayout

EVICT_BYTES = 32 << 20
"""Written before each timed call: weights and images then come from beyond the caches."""
TOLERANCE = 1e-2
"""Largest difference from the fixed schedule's output, in units of its largest value."""

LEAST = 3
"""Readings of a candidate that are taken however long they take."""
LONGEST = 1000
"""Characters of an error that are told: TVM prints whole programs."""

Action = Callable[[], None]
Output = Callable[[], Array]
Loaded = tuple[Action, Output]


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Compile one candidate into a library."""
    cpu = resolve(request["target"])
    task = request["task"]
    if task["kind"] == "module":
        function = unpacked(task["module"]).with_attr("global_symbol", "candidate")
    else:
        function = _emitter(task, request["knobs"], cpu).function("candidate")
    Path(request["path"]).write_bytes(compile_functions({"candidate": function}, cpu))
    return {"shapes": argument_shapes(function), "types": argument_types(function)}


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of each candidate, `rounds` readings each, one candidate after another.

    Once `seconds` have passed, `least` readings are enough (`LEAST` if it says nothing).
    Every reading follows the eviction of the caches; where the request says so, each is followed
    by one with the caches as that left them, told in `warm`. A candidate whose output differs from
    the first one's is named in `wrong`.
    """
    cpu = resolve(request["target"])
    loaded = [_loaded(c.get("task") or request["task"], c, cpu) for c in request["candidates"]]
    calls = [call for call, _ in loaded]
    evict = np.zeros(EVICT_BYTES // 4, np.float32)
    seconds: list[list[float]] = [[] for _ in calls]
    warm: list[list[float]] = [[] for _ in calls]
    deadline = time.perf_counter() + request["seconds"]
    with pool.limited(request["threads"]):
        for call in calls:
            call()
        wrong = _different([output() for _, output in loaded])
        for turn in range(request["rounds"]):
            if turn >= request.get("least", LEAST) and time.perf_counter() > deadline:
                break
            for at, call in enumerate(calls):
                np.add(evict, 1, out=evict)
                seconds[at].append(_timed(call))
                if request.get("warm"):
                    warm[at].append(_timed(call))
    return {"seconds": seconds, "warm": warm, "wrong": wrong}


def _timed(call: Action) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _different(outputs: list[Array]) -> list[int]:
    """Return the places of outputs that are not those of the first."""
    outputs = [output.astype(np.float32) for output in outputs]  # of bytes, differences wrap
    first = outputs[0].reshape(-1)
    allowed = TOLERANCE * float(np.abs(first).max())
    return [
        at
        for at, output in enumerate(outputs)
        if output.size != first.size
        or not float(np.abs(output.reshape(-1) - first).max()) <= allowed
    ]


def _emitter(task: dict[str, Any], knobs: dict[str, int], cpu: CpuTarget) -> Any:
    if task["kind"] == "relayout":
        source, goal = (layout_of(task[side]) for side in ("source", "goal"))
        return Relayout(tuple(task["nchw"]), source, goal, task["written"], _dtype(task))
    op = _operator(task)
    if task["primitive"] == matrix.NAME:
        knobbed, dtype = Knobs.of(knobs), _dtype(task)
        return matrix.dense_linear(op, cpu, task["written"], None, knobbed, dtype)
    return plain_kernel(
        op, task["primitive"], task["weights"], cpu, task["written"], Knobs.of(knobs), _dtype(task)
    )


def _dtype(task: dict[str, Any]) -> str:
    return str(task.get("dtype", "float32"))


def _operator(task: dict[str, Any]) -> Conv2d:
    return Conv2d(**task["op"])


def _loaded(task: dict[str, Any], candidate: dict[str, Any], cpu: CpuTarget) -> Loaded:
    """Return a call of a candidate's code on memory of its own, and what tells its output."""
    code = Path(candidate["path"]).read_bytes()
    function = load_library(code, cpu.features)["candidate"]
    arrays, output = _memory(task, candidate, cpu)
    asked = zip(arrays, candidate["shapes"], candidate["types"], strict=True)
    arguments = [tensor(viewed(a, s, t)) for a, s, t in asked]
    return (lambda: function(*arguments)), output


def _memory(
    task: dict[str, Any], candidate: dict[str, Any], cpu: CpuTarget
) -> tuple[list[Array], Output]:
    """Return the arguments, the output last, and what tells the output as NCHW."""
    if task["kind"] == "module":
        random = np.random.default_rng(0)
        *shapes, shape = (tuple(s) for s in candidate["shapes"])
        arrays = [random.standard_normal(s).astype(np.float32) for s in shapes]
        cleared = _cleared(shape)
        return [*(aligned_copy(a, a.shape) for a in arrays), cleared], lambda: cleared
    emitter = _emitter(task, candidate["knobs"], cpu)
    if task["kind"] == "relayout":
        arrays, layout, nchw = _relayout_arrays(emitter), emitter.goal, emitter.nchw
    else:
        # Candidates may write tiles of different sizes.
        arrays, layout, nchw = _arrays(task, emitter), emitter.out, _operator(task).out_shape
    return arrays, lambda: unpack(arrays[-1], layout, nchw)


def _relayout_arrays(kernel: Relayout) -> list[Array]:
    x = np.random.default_rng(0).standard_normal(kernel.nchw)
    packed = pack((x * 40).astype(np.int32).astype(kernel.dtype) if kernel.dtype == "uint8"
                  else x.astype(np.float32), kernel.source)  # fmt: skip
    goal = kernel.goal.shape(kernel.nchw)
    return [aligned_copy(packed, packed.shape), _cleared(goal, kernel.dtype)]


def _arrays(task: dict[str, Any], kernel: Any) -> list[Array]:
    """Return the arguments of a convolution: the same numbers for every candidate."""
    op, random = _operator(task), np.random.default_rng(0)
    if _dtype(task) == "int8":
        return _quantized(op, kernel, random, task["zeros"])
    x = random.standard_normal(op.in_shape).astype(np.float32)
    weight = random.standard_normal(op.weight_shape).astype(np.float32)
    weight[random.random(op.weight_shape) < task["zeros"]] = 0
    bias = random.standard_normal(op.out_channels).astype(np.float32)
    constants = [aligned_copy(c, c.shape) for c in kernel.constants(weight, bias)]
    packed = pack(x, kernel.inp)
    output = _cleared(kernel.out.shape(op.out_shape))
    return [aligned_copy(packed, packed.shape), *constants, output]


def _quantized(op: Conv2d, kernel: Any, random: Any, zeros: float) -> list[Any]:
    """Return the arguments of a convolution in int8, with outputs spread over all of uint8.

    `zeros` is the share of groups of four input channels that hold nothing else.
    """
    x = random.integers(0, 256, op.in_shape).astype(np.uint8)
    weight = random.integers(-127, 128, op.weight_shape).astype(np.int8)
    per_in, each = op.weight_shape[1], INT8.group
    drawn = random.random((op.out_channels, -(-per_in // each), *op.kernel)) < zeros
    weight[drawn.repeat(each, 1)[:, :per_in]] = 0
    deviation = 73.0 * 73.0 * float(np.prod(op.weight_shape[1:])) ** 0.5
    scales = Quantization(Scale(1.0, 128), (1.0,), Scale(deviation / 60, 128))
    packed = [pack(x, kernel.inp, 128), *constants(kernel, weight, None, scales)]
    return [*(aligned_copy(a, a.shape) for a in packed),
            _cleared(kernel.out.shape(op.out_shape), "uint8")]  # fmt: skip


def _cleared(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    output = aligned(shape, dtype)
    output[...] = 0
    return output


_JOBS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "build": build,
    "measure": measure,
    "metaschedule": metaschedule.search,
}


def main() -> None:
    """Answer requests until the input ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            answer = {"ok": _JOBS[request["do"]](request)}
        except Exception as error:  # told to the parent, which counts the candidate as lost
            answer = {"error": f"{type(error).__name__}: {error}"[:LONGEST]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    del sys.modules["torch"]  # numerical libraries look whether it is there, and then use it
    main()
