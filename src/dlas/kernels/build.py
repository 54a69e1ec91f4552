"""From PrimFuncs to machine code: one shared library."""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tvm
from tvm.support import cc

from dlas.kernels.emit import PrimFunc
from dlas.kernels.target import CpuTarget

CROSS_COMPILER = "aarch64-linux-gnu-gcc"
KEEP_BUFFERS = {"tirx.disable_storage_rewrite": True}
PARTS = 4
"""Parts a CPU: functions differ in what they cost, and whoever is done takes the next part."""


def compiled(module: tvm.IRModule, target: CpuTarget) -> Any:
    """Compile the functions of a module."""
    try:
        # Sharing memory moves accumulators from the stack to the heap (see `emit.registers`).
        with tvm.transform.PassContext(opt_level=3, config=KEEP_BUFFERS):
            return tvm.compile(module, target=target.tvm())
    except tvm.error.InternalError:
        # This pass of TVM 0.27 may make a buffer's size depend on a loop inside its scope; other
        # errors come again.
        with tvm.transform.PassContext(
            opt_level=3, config=KEEP_BUFFERS, disabled_pass=["s_tir.CompactBufferAllocation"]
        ):
            return tvm.compile(module, target=target.tvm())


def compile_functions(functions: dict[str, PrimFunc], target: CpuTarget) -> bytes:
    """Compile the named functions and return the bytes of a shared library that holds them.

    They are compiled in parts side by side (TVM gives up Python's lock), an object file each. The
    library is linked at once: TVM's own in-memory code would be generated a second time when it
    is saved.
    """
    cpus = len(os.sched_getaffinity(0))
    count = min(len(functions), cpus * PARTS) if cpus > 1 else 1
    items = list(functions.items())
    with tempfile.TemporaryDirectory() as folder:

        def part(at: int) -> str:
            path = str(Path(folder) / f"part{at}.o")
            compiled(tvm.IRModule(dict(items[at::count])), target).mod.write_to_file(path)
            return path

        with ThreadPoolExecutor(min(count, cpus)) as pool:
            objects = list(pool.map(part, range(count)))
        path = str(Path(folder) / "kernels.so")
        if target.machine == "aarch64":
            cc.cross_compiler(CROSS_COMPILER)(path, objects)
        else:
            cc.create_shared(path, objects)
        return Path(path).read_bytes()
