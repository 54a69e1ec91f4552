"""Operators that have no kernel here: TVM's own definition in default loops."""

from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import relax

from dlas.kernels.emit import PrimFunc
from dlas.kernels.errors import UnsupportedError


@dataclass(frozen=True)
class Fallback:
    """One Relax operator, lowered by `LegalizeOps`."""

    key: str
    """Operator, attributes and types: two calls of the same key share their code."""
    call: Any = field(compare=False, hash=False)

    def function(self, name: str) -> PrimFunc:
        """Return the kernel: (inputs ..., outputs ...).

        Raises:
            UnsupportedError: TVM lowers the operator to something else than one function.
        """
        module = relax.transform.LegalizeOps()(_alone(self.call))
        functions = [f for f in module.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
        if len(functions) != 1:
            raise UnsupportedError(f"TVM has no lowering of {self.call.op.name} to one function")
        function = functions[0].with_attr("global_symbol", name)
        return function.with_attr("tirx.noalias", True)


def fallback(call: Any) -> Fallback:
    """Return the kernel of a Relax call."""
    types = [str(a.ty) if _is_tensor(a) else str(a) for a in call.args]
    return Fallback(f"{call.op.name} {call.attrs} {types}", call)


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
