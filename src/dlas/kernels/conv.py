"""One convolution, built alone: `build_conv2d`."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlas.kernels.code.emit import argument_shapes, argument_types
from dlas.kernels.code.epilogue import Epilogue
from dlas.kernels.code.machine_code import compile_functions
from dlas.kernels.convolution import primitives
from dlas.kernels.convolution.contract import Kernel, Request
from dlas.kernels.ground import pool
from dlas.kernels.ground.arrays import aligned, aligned_copy, tensor, viewed
from dlas.kernels.ground.errors import InputError, UnsupportedError
from dlas.kernels.ground.knobs import FIXED, Knobs
from dlas.kernels.ground.layout import NCHW, AnyArray, Layout
from dlas.kernels.ground.program import check_threads, load_library
from dlas.kernels.ground.quantization import Quantization
from dlas.kernels.ground.shape import ACTIVATIONS, Conv2d
from dlas.kernels.ground.subprocesses import Workers
from dlas.kernels.ground.target import CpuTarget, require, resolve, runs_here
from dlas.kernels.ground.types import GIVEN
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
    quantization: Quantization | None = None,
) -> "BuiltConv2d":
    """Build y = activation(conv(x, weight) + bias [+ residual]) by the named primitive.

    In `int8` x, y and the residual are uint8, the filters int8, the bias int32 in units of the
    product of both scales; `quantization` tells what they stand for. In `bfloat16` and `float16`
    arrays are float32; filters are rounded and stored so, and what else is (`describe()["types"]`)
    depends on the CPU.

    Args:
        op: the shape.
        weight: filters, OIHW.
        bias: one value an output channel, or None.
        primitive: `direct`, `gemm`, `spatial-pack`, `winograd` (3x3, stride 1) or `native`
            (TVM's own default loops).
        weights: storage of the filters: `dense`, or `csr` (`direct`, `gemm`, `spatial-pack`).
        dtype: `float32`, `bfloat16`, `float16` or `int8`.
        activation: None, `relu`, `relu6` or `silu` (float32), applied in the last store.
        threads: the most threads a call uses.
        target: `native`, `x86-64-v3`, `x86-64-v4`, `aarch64`, or one of `target.FIXED`.
        tuning: None: the fixed schedule; else see `compile_model`.
        quantization: scales and zero points of an int8 convolution.

    Raises:
        UnsupportedError: the combination cannot be built; the message says why.
        InputError: weight or bias do not fit `op`.
    """
    chosen = primitives.find(primitive, weights, dtype)
    scales = _check(dtype, activation, quantization)
    threads = check_threads(threads)
    search = parse(tuning)
    reason = chosen.why_not(op)
    if reason:
        raise UnsupportedError(f"{primitive}: {reason}")
    w = fitting(weight, op.weight_shape, "weight", GIVEN[dtype].weight)
    kind = GIVEN[dtype].accumulate
    b = None if bias is None else fitting(bias, (op.out_channels,), "bias", kind)
    if scales is not None:
        scales.factors(op.out_channels)  # refuses a wrong number of them
    cpu = resolve(target)
    task = Task(op, primitive, weights, threads, threads, dtype=dtype)
    if search is not None and search.scheduler == "metaschedule":
        task = replace(task, activation=activation)
    knobs, found = _tuned(search, task, w, cpu)
    inp = chosen.needs(op, cpu, knobs)
    out = chosen.writes(op, cpu, knobs)
    kernels = []
    first = scales is not None and scales.sum is not None and scales.sum.first
    for residual in (None, out):
        table = scales is not None and scales.table is not None
        epilogue = Epilogue(activation if scales is None else None, residual, first, table)
        request = Request(cpu, threads, inp, out, epilogue, knobs)
        if residual is not None and knobs.module:
            request = replace(request, knobs=FIXED)  # it was scheduled without a residual
        kernels.append(chosen.lower(op, request))
    return BuiltConv2d(
        op, primitive, weights, cpu, threads, kernels[0], kernels[1], w, b, found, dtype, scales
    )


def _tuned(
    search: Tuning | None, task: Task, weight: AnyArray, cpu: CpuTarget
) -> tuple[Knobs, dict[str, Any] | None]:
    """Return the knobs and the summary of the record that they come from."""
    if search is None:
        return FIXED, None
    check_primitive(search, task.primitive, task.weights, task.dtype)
    with Workers() as workers:
        task = replace(task, zeros=zeros_of(task.op, weight, task.weights, task.dtype))
        record = Tuner(search, cpu, workers).best(task)
    return knobs_of(record), summary(search, record)


def _check(
    dtype: str, activation: str | None, quantization: Quantization | None
) -> Quantization | None:
    """Return the scales of the stored output, its activation among them; None in float32."""
    if activation not in ACTIVATIONS:
        raise UnsupportedError(f"activation must be one of {ACTIVATIONS}, got {activation!r}")
    if dtype != "int8":
        if quantization is not None:
            raise UnsupportedError(f"scales and zero points belong to dtype int8, not {dtype}")
        return None
    if activation == "silu":
        raise UnsupportedError(
            f"silu is not implemented in {dtype}: relu and relu6 are bounds of what is stored, "
            "silu is no bound"
        )
    if quantization is None:
        raise UnsupportedError(f"{dtype} needs `quantization`: the scales and zero points")
    return replace(quantization, activation=activation)


def fitting(
    array: npt.ArrayLike, shape: tuple[int, ...], what: str, dtype: str = "float32"
) -> AnyArray:
    """Return the array as C-contiguous numbers of this type and shape.

    Raises:
        InputError: it has another shape, or no such numbers.
    """
    given = np.asarray(array)
    if given.shape != shape:
        raise InputError(f"{what} must have shape {shape}, got {given.shape}")
    if dtype != "float32":
        return _whole_numbers(given, what, dtype)
    if not np.can_cast(given.dtype, np.float32, "same_kind"):
        raise InputError(f"{what} must hold real numbers, got {given.dtype}")
    return np.ascontiguousarray(given, dtype=np.float32)


def _whole_numbers(given: AnyArray, what: str, dtype: str) -> AnyArray:
    if given.dtype.kind not in "iu":
        raise InputError(f"{what} must hold whole numbers ({dtype}), got {given.dtype}")
    info = np.iinfo(dtype)
    if given.size and not (info.min <= given.min() and given.max() <= info.max):
        raise InputError(
            f"{what} must hold numbers from {info.min} to {info.max} ({dtype}), got "
            f"{given.min()} to {given.max()}"
        )
    return np.ascontiguousarray(given, dtype=dtype)


@dataclass
class BuiltConv2d:
    """A compiled convolution; call it with NCHW float32, or uint8 where it is of int8."""

    op: Conv2d
    primitive: str
    weights: str
    target: CpuTarget
    threads: int
    kernel: Kernel
    with_residual: Kernel
    weight: AnyArray
    bias: AnyArray | None
    tuning: dict[str, Any] | None = None
    dtype: str = "float32"
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        op, inp, out = self.op, self.kernel.inp, self.kernel.out
        self.ran_threads: int | None = None
        """Threads that the pool had in the last call; None before the first."""
        self._shapes: dict[str, list[tuple[tuple[int, ...] | None, str]]] = {}
        self._functions: dict[str, Any] = {}
        functions = {"conv": self.kernel.function("conv")}
        if inp != NCHW:
            zero = 0 if self.quantization is None else self.quantization.x.zero
            functions["pack_x"] = self._relayout(op.in_shape, NCHW, inp, zero).function("pack_x")
        if out != NCHW:
            functions["unpack_y"] = self._relayout(op.out_shape, out, NCHW).function("unpack_y")
        self._compile(functions)
        scales = self.quantization
        alone = None if scales is None else replace(scales, sum=None)
        self._constants = self._packed(self.kernel, alone)
        self._with_residual: list[AnyArray] = []

    def _relayout(
        self, nchw: tuple[int, int, int, int], source: Layout, goal: Layout, zero: int = 0
    ) -> Relayout:
        return Relayout(nchw, source, goal, self.threads, GIVEN[self.dtype].input, zero)

    def _packed(self, kernel: Kernel, scales: Quantization | None) -> list[AnyArray]:
        packed = primitives.constants(kernel, self.weight, self.bias, scales)
        return [aligned_copy(c, c.shape) for c in packed]

    def _compile(self, functions: dict[str, Any]) -> None:
        code = compile_functions(functions, self.target)
        if not runs_here(self.target):
            return  # it can be described here; calls are refused
        module = load_library(code, self.target.features)
        for name, function in functions.items():
            self._functions[name] = module[name]
            shaped = zip(argument_shapes(function), argument_types(function), strict=True)
            self._shapes[name] = list(shaped)

    def _compile_residual(self) -> None:
        """Build the variant with a residual when it is first asked for."""
        op, out, scales = self.op, self.kernel.out, self.quantization
        functions = {"conv_residual": self.with_residual.function("conv_residual")}
        if out != NCHW:
            zero = 0 if scales is None or scales.sum is None else scales.sum.other.zero
            functions["pack_r"] = self._relayout(op.out_shape, NCHW, out, zero).function("pack_r")
        self._compile(functions)
        packed = scales is not None
        self._with_residual = self._packed(self.with_residual, scales) if packed else []

    def __call__(self, x: npt.ArrayLike, residual: npt.ArrayLike | None = None) -> AnyArray:
        """Return the NCHW output of an NCHW input, with `residual` added before the activation.

        Raises:
            InputError: an array of another shape than the operator's, or (int8) a residual where
                `quantization` has no `sum`.
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
        types = primitives.types_of(self.kernel)
        size = np.dtype(GIVEN[self.dtype].input).itemsize
        return {
            "primitive": self.primitive,
            "weights": self.weights,
            "non_zeros": int(np.count_nonzero(self.weight)),
            "dtype": self.dtype,
            "types": types._asdict(),
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
            "pack_bytes": size * packing,
            "unpack_bytes": size * unpacking,
        }

    def _arrays(self, x: npt.ArrayLike, residual: npt.ArrayLike | None) -> dict[str, AnyArray]:
        op, inp, out = self.op, self.kernel.inp, self.kernel.out
        kind = GIVEN[self.dtype].input
        arrays = {"x": aligned_copy(fitting(x, op.in_shape, "x", kind), op.in_shape)}
        if residual is not None:
            if self.quantization is not None and self.quantization.sum is None:
                raise InputError(
                    "a residual in int8 needs the scales of the sum: Quantization.sum"
                )
            fitted = fitting(residual, op.out_shape, "residual", kind)
            arrays["residual"] = aligned_copy(fitted, op.out_shape)
        packed = {"packed_x": (inp, op.in_shape, "x")}
        packed["packed_y"] = (out, op.out_shape, "result")
        if residual is not None:
            packed["packed_residual"] = (out, op.out_shape, "residual")
        arrays["result"] = aligned(op.out_shape, kind)
        for name, (layout, shape, plain) in packed.items():
            arrays[name] = arrays[plain] if layout == NCHW else aligned(layout.shape(shape), kind)
        return arrays

    def _steps(self, arrays: dict[str, AnyArray]) -> list[tuple[Any, list[Any], str]]:
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
        constants = (extra and self._with_residual) or self._constants
        arguments = [arrays["packed_x"], *constants, *extra, arrays["packed_y"]]
        steps.append((*self._step(name, arguments)[:2], "conv"))
        if arrays["packed_y"] is not arrays["result"]:
            steps.append(self._step("unpack_y", [arrays["packed_y"], arrays["result"]]))
        return steps

    def _step(self, name: str, arrays: list[AnyArray]) -> tuple[Any, list[Any], str]:
        asked = zip(arrays, self._shapes[name], strict=True)
        return self._functions[name], [tensor(viewed(a, *form)) for a, form in asked], name
