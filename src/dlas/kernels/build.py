"""From PrimFuncs to machine code: one shared library."""

import tempfile
from pathlib import Path

import tvm
from tvm.support import cc

from dlas.kernels.emit import PrimFunc
from dlas.kernels.target import CpuTarget

CROSS_COMPILER = "aarch64-linux-gnu-gcc"


def compile_functions(functions: dict[str, PrimFunc], target: CpuTarget) -> bytes:
    """Compile the named functions and return the bytes of a shared library that holds them.

    The library is linked at once: TVM's own in-memory code would be generated a second time when
    it is saved.
    """
    module = tvm.compile(tvm.IRModule(dict(functions)), target=target.tvm())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.so"
        if target.machine == "aarch64":
            module.export_library(str(path), fcompile=cc.cross_compiler(CROSS_COMPILER))
        else:
            module.export_library(str(path))
        return path.read_bytes()
