"""One convolution, built alone: `build_conv2d`."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlas.kernels.code.emit import argument_shapes
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.machine_code import compile_functions
from dlas.kernels.convolution import primitives
from dlas.kernels.convolution.contract import Kernel, Request
from dlas.kernels.ground import pool
from dlas.kernels.ground.arrays import aligned, aligned_copy, tensor
from dlas.kernels.ground.errors import InputError, UnsupportedError
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import NCHW, Array
from dlas.kernels.ground.program import check_threads, load_library
from dlas.kernels.ground.shape import ACTIVATIONS, Conv2d
from dlas.kernels.ground.subprocesses import Workers
from dlas.kernels.ground.target import CpuTarget, require, resolve, runs_here
from dlas.kernels.operators.relayout import Relayout
from dlas.kernels.tune.tuner import (
    Task,
    Tuner,
    Tuning,
    check_primitive,
    knobs_of,
    parse,
    summary,
    zeros_of,
)


def build_conv2d(
    op: Conv2d,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    primitive: str = "spatial-pack",
    weights: str = "dense",
    dtype: str = "float32",
    activation: str | None = None,
    threads: int = 1,
    target: str = "native",
    tuning: dict[str, Any] | None = None,
) -> "BuiltConv2d":
    """Build y = activation(conv(x, weight) + bias [+ residual]) by the named primitive.

    Args:
        op: the shape.
        weight: filters, OIHW.
        bias: one value an output channel, or None.
        primitive: `direct`, `gemm`, `spatial-pack`, `winograd` (3x3, stride 1) or `native`
            (TVM's own default loops).
        weights: storage of the filters: `dense`, or `csr` (`direct`, `gemm`, `spatial-pack`).
        dtype: `float32`.
        activation: None, `relu`, `relu6` or `silu`, applied in the last store.
        threads: the most threads a call uses.
        target: `native`, `x86-64-v3`, `x86-64-v4` or `aarch64`.
        tuning: None: the fixed schedule; else see `compile_model`.

    Raises:
        UnsupportedError: the combination cannot be built; the message says why.
        InputError: weight or bias do not fit `op`.
    """
    chosen = primitives.find(primitive, weights)
    _check(dtype, activation)
    threads = check_threads(threads)
    search = parse(tuning)
    reason = chosen.why_not(op)
    if reason:
        raise UnsupportedError(f"{primitive}: {reason}")
    w = fitting(weight, op.weight_shape, "weight")
    b = None if bias is None else fitting(bias, (op.out_channels,), "bias")
    cpu = resolve(target)
    task = Task(op, primitive, weights, threads, threads)
    if search is not None and search.scheduler == "metaschedule":
        task = replace(task, activation=activation)
    knobs, found = _tuned(search, task, w, cpu)
    inp = chosen.needs(op, cpu, knobs)
    out = chosen.writes(op, cpu, knobs)
    kernels = []
    for residual in (None, out):
        request = Request(cpu, threads, inp, out, Epilogue(activation, residual), knobs)
        if residual is not None and knobs.module:
            request = replace(request, knobs=FIXED)  # it was scheduled without a residual
        kernels.append(chosen.lower(op, request))
    return BuiltConv2d(op, primitive, weights, cpu, threads, kernels[0], kernels[1], w, b, found)


def _tuned(
    search: Tuning | None, task: Task, weight: Array, cpu: CpuTarget
) -> tuple[Knobs, dict[str, Any] | None]:
    """Return the knobs and the summary of the record that they come from."""
    if search is None:
        return FIXED, None
    check_primitive(search, task.primitive, task.weights)
    with Workers() as workers:
        task = replace(task, zeros=zeros_of(weight, task.weights))
        record = Tuner(search, cpu, workers).best(task)
    return knobs_of(record), summary(search, record)


def _check(dtype: str, activation: str | None) -> None:
    if dtype != "float32":
        raise UnsupportedError(f"dtype must be 'float32', got {dtype!r}")
    if activation not in ACTIVATIONS:
        raise UnsupportedError(f"activation must be one of {ACTIVATIONS}, got {activation!r}")


def fitting(array: npt.ArrayLike, shape: tuple[int, ...], what: str) -> Array:
    """Return the array as C-contiguous float32 of this shape.

    Raises:
        InputError: it has another shape, or no real numbers.
    """
    given = np.asarray(array)
    if given.shape != shape:
        raise InputError(f"{what} must have shape {shape}, got {given.shape}")
    if not np.can_cast(given.dtype, np.float32, "same_kind"):
        raise InputError(f"{what} must hold real numbers, got {given.dtype}")
    return np.ascontiguousarray(given, dtype=np.float32)


@dataclass
class BuiltConv2d:
    """A compiled convolution; call it with NCHW float32."""

    op: Conv2d
    primitive: str
    weights: str
    target: CpuTarget
    threads: int
    kernel: Kernel
    with_residual: Kernel
    weight: Array
    bias: Array | None
    tuning: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        op, inp, out = self.op, self.kernel.inp, self.kernel.out
        self.ran_threads: int | None = None
        """Threads that the pool had in the last call; None before the first."""
        self._shapes: dict[str, list[tuple[int, ...] | None]] = {}
        self._functions: dict[str, Any] = {}
        functions = {"conv": self.kernel.function("conv")}
        if inp != NCHW:
            relayout = Relayout(op.in_shape, NCHW, inp, self.threads)
            functions["pack_x"] = relayout.function("pack_x")
        if out != NCHW:
            relayout = Relayout(op.out_shape, out, NCHW, self.threads)
            functions["unpack_y"] = relayout.function("unpack_y")
        self._compile(functions)
        packed = self.kernel.constants(self.weight, self.bias)
        self._constants = [aligned_copy(c, c.shape) for c in packed]

    def _compile(self, functions: dict[str, Any]) -> None:
        code = compile_functions(functions, self.target)
        if not runs_here(self.target):
            return  # it can be described here; calls are refused
        module = load_library(code)
        for name, function in functions.items():
            self._functions[name] = module[name]
            self._shapes[name] = argument_shapes(function)

    def _compile_residual(self) -> None:
        """Build the variant with a residual when it is first asked for."""
        op, out = self.op, self.kernel.out
        functions = {"conv_residual": self.with_residual.function("conv_residual")}
        if out != NCHW:
            relayout = Relayout(op.out_shape, NCHW, out, self.threads)
            functions["pack_r"] = relayout.function("pack_r")
        self._compile(functions)

    def __call__(self, x: npt.ArrayLike, residual: npt.ArrayLike | None = None) -> Array:
        """Return the NCHW output of an NCHW input, with `residual` added before the activation.

        Raises:
            InputError: an array of another shape than the operator's.
            MissingFeatureError: it was built for a CPU that this one is not.
        """
        arrays = self._arrays(x, residual)
        steps = self._steps(arrays)
        with pool.limited(self.threads) as self.ran_threads:
            for function, arguments, _ in steps:
                function(*arguments)
        return arrays["result"].reshape(self.op.out_shape).copy()

    def samples(
        self,
        x: npt.ArrayLike,
        residual: npt.ArrayLike | None = None,
        scope: str = "kernel",
        repeats: int = 30,
        warm_up: int = 3,
    ) -> list[float]:
        """Return the seconds of `repeats` runs, after `warm_up` more.

        Args:
            x: NCHW input.
            residual: NCHW tensor to add, or None.
            scope: `kernel`: layouts as carried, halo in place, weights packed; `standalone`:
                from NCHW to NCHW, packing and unpacking included.
            repeats: number of samples.
            warm_up: runs that are not counted.

        Raises:
            InputError: an unknown scope or an array that does not fit.
            MissingFeatureError: it was built for a CPU that this one is not.
        """
        if scope not in ("kernel", "standalone"):
            raise InputError(f"scope must be 'kernel' or 'standalone', got {scope!r}")
        steps = self._steps(self._arrays(x, residual))
        seconds = []
        with pool.limited(self.threads) as self.ran_threads:
            for function, arguments, _ in steps:
                function(*arguments)
            timed = [s for s in steps if scope == "standalone" or s[2] == "conv"]
            for _ in range(warm_up + repeats):
                start = time.perf_counter()
                for function, arguments, _ in timed:
                    function(*arguments)
                seconds.append(time.perf_counter() - start)
        return seconds[warm_up:]

    def describe(self) -> dict[str, Any]:
        """Return what was built: algorithm, layouts, schedule, target, bytes, multiplications."""
        inp, out = self.kernel.inp, self.kernel.out
        packing = math.prod(inp.shape(self.op.in_shape)) if inp != NCHW else 0
        unpacking = math.prod(out.shape(self.op.out_shape)) if out != NCHW else 0
        schedule = self.kernel.describe()
        return {
            "primitive": self.primitive,
            "weights": self.weights,
            "non_zeros": int(np.count_nonzero(self.weight)),
            "dtype": "float32",
            "schedule": schedule,
            "tuning": self.tuning,
            "input_layout": inp.text(),
            "output_layout": out.text(),
            "target": self.target.name,
            "cpu": self.target.cpu,
            "lanes": self.target.lanes,
            "instruction_set": list(self.target.features),
            "threads": self.threads,
            "ran_threads": self.ran_threads,
            "multiplications": primitives.multiplications(
                self.op, schedule, self.weights, self.weight
            ),
            "dense_multiplications": self.op.multiplications,
            "weight_bytes": sum(c.nbytes for c in self._constants),
            "pack_bytes": 4 * packing,
            "unpack_bytes": 4 * unpacking,
        }

    def _arrays(self, x: npt.ArrayLike, residual: npt.ArrayLike | None) -> dict[str, Array]:
        op, inp, out = self.op, self.kernel.inp, self.kernel.out
        arrays = {"x": aligned_copy(fitting(x, op.in_shape, "x"), op.in_shape)}
        if residual is not None:
            fitted = fitting(residual, op.out_shape, "residual")
            arrays["residual"] = aligned_copy(fitted, op.out_shape)
        packed = {"packed_x": (inp, op.in_shape, "x")}
        packed["packed_y"] = (out, op.out_shape, "result")
        if residual is not None:
            packed["packed_residual"] = (out, op.out_shape, "residual")
        arrays["result"] = aligned(op.out_shape)
        for name, (layout, shape, plain) in packed.items():
            arrays[name] = arrays[plain] if layout == NCHW else aligned(layout.shape(shape))
        return arrays

    def _steps(self, arrays: dict[str, Array]) -> list[tuple[Any, list[Any], str]]:
        """Return (function, arguments, kind) of packing, the kernel and unpacking."""
        require(self.target.machine, self.target.features)
        steps = []
        if arrays["packed_x"] is not arrays["x"]:
            steps.append(self._step("pack_x", [arrays["x"], arrays["packed_x"]]))
        name, extra = "conv", []
        if "residual" in arrays:
            if "conv_residual" not in self._functions:
                self._compile_residual()
            name, extra = "conv_residual", [arrays["packed_residual"]]
            if arrays["packed_residual"] is not arrays["residual"]:
                steps.append(self._step("pack_r", [arrays["residual"], *extra]))
        arguments = [arrays["packed_x"], *self._constants, *extra, arrays["packed_y"]]
        steps.append((*self._step(name, arguments)[:2], "conv"))
        if arrays["packed_y"] is not arrays["result"]:
            steps.append(self._step("unpack_y", [arrays["packed_y"], arrays["result"]]))
        return steps

    def _step(self, name: str, arrays: list[Array]) -> tuple[Any, list[Any], str]:
        shaped = zip(arrays, self._shapes[name], strict=True)
        return (
            self._functions[name],
            [tensor(a if s is None else a.reshape(s)) for a, s in shaped],
            name,
        )
