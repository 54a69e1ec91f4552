"""Operators that have no kernel here: TVM's own definition, outer loops spread over threads.

Some (a Pad of ONNX) are no operators of Relax: TVM's importer writes their function itself.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import tvm
from tvm import relax, s_tir

from dlas.kernels.code.emit import PrimFunc, begins_anywhere
from dlas.kernels.ground.errors import UnsupportedError

_SERIAL = 0
"""TVM's number of a loop without annotations."""
WORTH = 1 << 14
"""Iterations from which a loop nest is spread over threads: calling them takes microseconds."""


@dataclass(frozen=True)
class Fallback:
    """One Relax operator, lowered by `LegalizeOps`, or a call of a given function."""

    key: str
    """Operator, attributes and types: two calls of the same key share their code."""
    call: Any = field(compare=False, hash=False)
    threads: int = 1
    given: PrimFunc = field(default=None, compare=False, hash=False)
    """The function that the call is of."""

    def reads(self) -> tuple[int, ...]:
        """Return which of the call's tensors the function takes, in its own order.

        Of some TVM's definition needs the shape alone, as of the first one of `full_like`.

        Raises:
            UnsupportedError: TVM lowers the operator to something else than one function.
        """
        return self._lowered[1]

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (inputs ..., outputs ...).

        Raises:
            UnsupportedError: TVM lowers the operator to something else than one function.
        """
        function = self._lowered[0]
        function = function if self.threads == 1 else spread(function)
        function = begins_anywhere(function)
        return function.with_attr("global_symbol", name).with_attr("tirx.noalias", True)

    # Of this object alone: keys tell calls apart only while those are alive.
    @cached_property
    def _lowered(self) -> tuple[PrimFunc, tuple[int, ...]]:
        if self.given is None:
            return _lower(self.call)
        return self.given, tuple(range(len(self.call.args[1].fields)))


def _lower(call: Any) -> tuple[PrimFunc, tuple[int, ...]]:
    """Return TVM's definition of an operator, and the places of what it takes among the inputs."""
    try:
        module = relax.transform.LegalizeOps()(_alone(call))
    except Exception as error:  # what its lowerings raise is not documented
        raise UnsupportedError(f"TVM's own lowering of {call.op.name} fails: {error}") from error
    functions = [f for f in module.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    main = module["main"]
    made = [
        binding.value
        for block in main.body.blocks
        for binding in block.bindings
        if isinstance(binding.value, tvm.ir.Call)
    ]
    if len(functions) != 1 or len(made) != 1:
        raise UnsupportedError(f"TVM has no lowering of {call.op.name} to one function")
    places = {parameter: at for at, parameter in enumerate(main.params)}
    given = made[0].args[1]
    taken = given.fields if isinstance(given, tvm.ir.Tuple) else [given]
    if any(each not in places for each in taken):
        raise UnsupportedError(f"TVM has no lowering of {call.op.name} to one function")
    return functions[0], tuple(places[each] for each in taken)


def fallback(call: Any, threads: int = 1, given: PrimFunc = None) -> Fallback:
    """Return the kernel of a Relax call.

    Args:
        call: the call.
        threads: how many share the work.
        given: the function that it is of, where it calls one.

    Raises:
        UnsupportedError: a call of a function whose shapes are known only when it runs.
    """
    if given is not None:
        if len(call.args) > 2 or not all(_is_tensor(each) for each in call.args[1].fields):
            raise UnsupportedError(f"{call.args[0].name_hint}: its shapes are not fixed")
        return Fallback(given.script(), call, threads, given)
    types = [str(a.ty) if _is_tensor(a) else str(a) for a in call.args]
    return Fallback(f"{call.op.name} {call.attrs} {types}", call, threads)


def spread(function: PrimFunc) -> PrimFunc:
    """Return the function with the outer loops of its large loop nests made one parallel loop.

    Only loops that each run over one independent axis of a block are touched; the innermost one
    stays as it is, for vectors. A nest that TVM wrote by hand (sorting, scans) has none.
    """
    schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
    root = schedule.get_sblock("root")
    for block in schedule.get_child_blocks(root):
        loops, axes = schedule.get_loops(block), schedule.get(block).iter_vars
        extents = [schedule.get(loop).extent for loop in loops]
        if len(loops) != len(axes) or not all(isinstance(e, tvm.tirx.IntImm) for e in extents):
            continue
        outer = _independent(schedule, loops, axes)[: len(loops) - 1]
        if outer and math.prod(int(e) for e in extents) >= WORTH:
            schedule.parallel(schedule.fuse(*outer) if len(outer) > 1 else outer[0])
    return schedule.mod["main"]


def _independent(schedule: Any, loops: list[Any], axes: Any) -> list[Any]:
    """Return the outer loops, up to the first that is no independent axis of its own."""
    found = []
    for loop, axis in zip(loops, axes, strict=True):
        if axis.iter_type != tvm.tirx.IterVar.DataPar or schedule.get(loop).kind != _SERIAL:
            break
        found.append(loop)
    return found


def _is_tensor(argument: Any) -> bool:
    return isinstance(argument, (tvm.ir.Var, tvm.ir.GenericConst))


def _alone(call: Any) -> Any:
    """Return a module whose main function is this call of its own parameters."""
    builder = relax.BlockBuilder()
    parameters: list[Any] = []

    def bind(argument: Any) -> Any:
        if isinstance(argument, tvm.ir.Tuple):
            return tvm.ir.Tuple([bind(f) for f in argument.fields])
        if not _is_tensor(argument):
            return argument
        parameters.append(relax.Var(f"p{len(parameters)}", argument.ty))
        return parameters[-1]

    arguments = [bind(a) for a in call.args]
    with builder.function("main", parameters):
        with builder.dataflow():
            result = builder.emit(tvm.ir.Call(call.op, arguments, call.attrs))
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    return builder.get()
