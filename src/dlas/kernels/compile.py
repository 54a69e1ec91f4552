"""Whole models: from an exported program to a runnable, savable `Program`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlas.kernels.code.emit import argument_shapes, argument_types
from dlas.kernels.code.machine_code import compile_functions
from dlas.kernels.code.numbers import FLOAT32
from dlas.kernels.convolution.primitives import check_dtype
from dlas.kernels.graph.best import LIMIT_S, choose_measured
from dlas.kernels.graph.call_list import Call
from dlas.kernels.graph.calls import Calls
from dlas.kernels.graph.choose import Algorithm, Sparsity, choose, read
from dlas.kernels.graph.cost import Costs
from dlas.kernels.graph.model_graph import read_model, stored_as
from dlas.kernels.graph.store_halves import store_halves
from dlas.kernels.graph.tune_graph import counted, tune_choices
from dlas.kernels.ground.arena import Life, place
from dlas.kernels.ground.arrays import ALIGNMENT
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.program import FORMAT, Program, check_threads
from dlas.kernels.ground.records import Records
from dlas.kernels.ground.subprocesses import Workers
from dlas.kernels.ground.target import CpuTarget, resolve, runs_here
from dlas.kernels.tune.tuner import Tuner, parse


def compile_model(
    program: Any,
    algorithm: Algorithm = "best",
    threads: int = 1,
    target: str = "native",
    tuning: dict[str, Any] | None = None,
    weights: str = "dense",
    csr_threshold: float = 0.4,
    dtype: str | None = None,
) -> Program:
    """Build a `torch.export.ExportedProgram` of fixed shapes in float32, or a QDQ model in int8.

    Args:
        program: what `torch.export.export(model.eval(), inputs)` returns; or a quantized model in
            ONNX's QDQ form (the file, or an `onnx.ModelProto`), which runs in int8.
        algorithm: one primitive for all convolutions (`direct`, `gemm`, `spatial-pack`,
            `winograd`, `native`; what it cannot do runs by `spatial-pack`), `best`, or a map from
            operator (`*`: all others) to a primitive or to {"primitive": name, "weights": "dense"
            or "csr", "threshold": share of zeros}. `best` measures kernels and changes of layout
            on this machine (see `best`); `best-by-rule`, also for a CPU that is not this one,
            decides from the shape.
        threads: the most threads a run uses; `load` can set another number.
        target: `native`, `x86-64-v3`, `x86-64-v4`, `aarch64`, or one of `target.FIXED`.
        tuning: None: fixed schedules; {"scheduler": "template", "trials": N}: the knobs of each
            convolution's primitive are searched with `threads` threads on this machine, or
            "metaschedule": TVM's automatic scheduler (primitive `native` only).
            Optionally "seed", and "records": the folder of records (`records.default_folder`).
        weights: `dense`, or `csr` for convolutions and linear layers with enough zeros.
        csr_threshold: with `csr`, the share of zeros, from 0 to 1, below which a layer stays
            dense.
        dtype: `float32` (None), `bfloat16` or `float16`: in which convolutions and linear layers
            store their weights and, as the CPU can, multiply; all else is float32. A QDQ model
            says itself what runs in int8.

    Raises:
        UnsupportedError: the program or an option cannot be built; the message says why.
    """
    threads = check_threads(threads)
    search, cpu = parse(tuning), resolve(target)
    sparsity = Sparsity(weights, csr_threshold)
    read(algorithm, sparsity)  # refuses what is malformed before the import, which is slow
    kind = _float(dtype)
    graph = read_model(program)
    stored_as(graph, kind)
    choices = choose(graph, algorithm, sparsity)
    # Loops are always written for the pool: its size is set at run time. Sparse kernels have a job
    # for each thread that they are written for, others more.
    written = max(2, threads)
    with Workers() as workers:
        asked = {c.asked for c in choices.values() if c.primitive != "linear"}
        if "best" in asked and runs_here(cpu):
            records = Records(None if search is None else search.records)
            costs = Costs(cpu, threads, workers, records, LIMIT_S)
            choices = choose_measured(graph, choices, costs, written)
        if search is not None:
            tuner = Tuner(search, cpu, workers)
            choices = tune_choices(graph, choices, tuner, threads, written)
    if kind == "bfloat16":
        store_halves(graph, choices, cpu)
    calls = Calls(graph, choices, cpu, written)
    return _assemble(calls, cpu, threads, search is not None)


def _float(dtype: str | None) -> str:
    """Return the type of floats that is asked for.

    Raises:
        UnsupportedError: another type.
    """
    if dtype == "int8":
        raise UnsupportedError(
            "int8 is not asked for by name: give a quantized model, in ONNX's QDQ form"
        )
    check_dtype(dtype or FLOAT32.name)
    return dtype or FLOAT32.name


def _assemble(calls: Calls, target: CpuTarget, threads: int, tuned: bool) -> Program:
    functions, names = _functions(calls.all)
    shapes = {
        name: list(zip(argument_shapes(f), argument_types(f), strict=True))
        for name, f in functions.items()
    }
    roots, offsets, arena_bytes = _memory(calls)
    blob = _Blob()
    read = {roots[buffer][0] for each in calls.all for buffer in each.inputs}
    read |= {roots[buffer][0] for buffer in calls.outputs}
    constants = {
        name: blob.add(array) for name, array in calls.graph.constants.items() if name in read
    }

    def reference(buffer: str, shape: Sequence[int]) -> dict[str, Any]:
        root, inside = roots[buffer]
        place_, where = (
            ("weights", constants[root]) if root in constants else ("arena", offsets[root])
        )
        dtype = calls.buffers[buffer].dtype
        return {"in": place_, "at": where + inside, "shape": list(shape), "dtype": dtype}

    def call(each: Call) -> dict[str, Any]:
        name = names[each.kernel]
        packed = [
            {"in": "weights", "at": blob.add(c), "shape": list(c.shape), "dtype": str(c.dtype)}
            for c in each.constants
        ]
        extra = 1 if each.kind in ("conv2d", "linear") else len(each.inputs)
        buffers = [*each.inputs[:extra], *each.inputs[extra:], *each.outputs]
        references = [reference(b, ()) for b in buffers]
        arguments = [*references[:extra], *packed, *references[extra:]]
        for argument, (shape, dtype) in zip(arguments, shapes[name], strict=True):
            argument["dtype"] = dtype  # bytes may be read four at a time
            if shape is not None:
                argument["shape"] = list(shape)
        weight_bytes = sum(c.nbytes for c in each.constants)
        record = {"operator": each.operator, "kind": each.kind, **each.record}
        return {
            "function": name,
            "arguments": arguments,
            "record": record | {"weight_bytes": weight_bytes},
        }

    plan = {
        "format": FORMAT,
        "target": {
            "name": target.name, "cpu": target.cpu, "machine": target.machine,
            "lanes": target.lanes, "features": list(target.features),
            "attributes": list(target.attributes),
        },
        "threads": threads,
        "tuning": counted([each.record for each in calls.all]) if tuned else None,
        "arena_bytes": arena_bytes,
        "inputs": [
            {"name": n, **reference(n, calls.graph.values[n].shape)} for n in calls.graph.inputs
        ],
        "steps": [call(each) for each in calls.all],
        "outputs": [
            reference(b, calls.graph.values[n].shape)
            for n, b in zip(calls.graph.outputs, calls.outputs, strict=True)
        ],
    }  # fmt: skip
    return Program(plan, blob.bytes(), compile_functions(functions, target), threads)


def _functions(calls: list[Call]) -> tuple[dict[str, Any], dict[Any, str]]:
    """Return one function for each distinct kernel, and the kernels' names."""
    names: dict[Any, str] = {}
    functions = {}
    for each in calls:
        if each.kernel not in names:
            name = f"{each.kind.replace('.', '_')}_{len(names)}"
            names[each.kernel] = name
            functions[name] = each.kernel.function(name)
    return functions, names


def _memory(calls: Calls) -> tuple[dict[str, tuple[str, int]], dict[str, int], int]:
    """Return each buffer's root and place in it, the roots' offsets in the arena, its bytes."""
    roots: dict[str, tuple[str, int]] = {}
    for name in [*calls.graph.constants, *calls.buffers]:
        root, inside = name, 0
        while root in calls.buffers and calls.buffers[root].alias is not None:
            inside += calls.buffers[root].offset_bytes
            root = str(calls.buffers[root].alias)
        roots[name] = (root, inside)
    end = len(calls.all)
    first: dict[str, int] = dict.fromkeys(calls.graph.inputs, -1)
    last: dict[str, int] = dict.fromkeys(calls.graph.inputs, -1)
    size: dict[str, int] = {name: calls.buffers[name].size_bytes for name in calls.graph.inputs}

    def touch(buffer: str, at: int) -> None:
        root, _ = roots[buffer]
        first.setdefault(root, at)
        last[root] = max(last.get(root, at), at)
        size[root] = max(size.get(root, 0), calls.buffers[root].size_bytes)

    for at, each in enumerate(calls.all):
        for buffer in [*each.inputs, *each.outputs]:
            if roots[buffer][0] not in calls.graph.constants:
                touch(buffer, at)
    for buffer in calls.outputs:
        if roots[buffer][0] not in calls.graph.constants:
            touch(buffer, end)
    lives = {name: Life(size[name], first[name], last[name]) for name in first}
    offsets, total = place(lives)
    return roots, offsets, total


class _Blob:
    """Constants one behind the other, each aligned; equal arrays are stored once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.known: dict[int, int] = {}

    def add(self, array: Any) -> int:
        """Store the array and return its offset."""
        if id(array) in self.known:
            return self.known[id(array)]
        data = np.ascontiguousarray(array).tobytes()
        padded = math.ceil(max(1, len(data)) / ALIGNMENT) * ALIGNMENT
        self.parts.append(data + bytes(padded - len(data)))
        at, self.size = self.size, self.size + padded
        self.known[id(array)] = at
        return at

    def bytes(self) -> bytes:
        """Return all of it."""
        return b"".join(self.parts)
