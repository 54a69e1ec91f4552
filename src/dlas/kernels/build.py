"""From PrimFuncs to machine code."""

from typing import Any

import tvm

from dlas.kernels.emit import PrimFunc
from dlas.kernels.target import CpuTarget


def compile_functions(functions: dict[str, PrimFunc], target: CpuTarget) -> Any:
    """Compile the named functions into one TVM runtime module."""
    module = tvm.IRModule(dict(functions))
    return tvm.compile(module, target=target.tvm())
