"""From PrimFuncs to machine code: one shared library."""

import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tvm
from tvm.support import cc

from dlas.kernels.emit import PrimFunc
from dlas.kernels.errors import UnsupportedError
from dlas.kernels.target import CpuTarget

CROSS_COMPILER = "aarch64-linux-gnu-gcc"
KEEP_BUFFERS = {"tirx.disable_storage_rewrite": True}
PARTS = 4
"""Parts a CPU: functions differ in what they cost, and whoever is done takes the next part."""


def compiled(functions: dict[str, PrimFunc], target: CpuTarget) -> Any:
    """Compile the named functions into one module."""
    try:
        return _compiled(functions, target)
    except tvm.error.InternalError:
        # A pass of TVM 0.27 may make a buffer's size depend on a loop inside its scope; other
        # errors come again.
        return _compiled(functions, target, ["s_tir.CompactBufferAllocation"])


def _compiled(
    functions: dict[str, PrimFunc], target: CpuTarget, without: Sequence[str] = ()
) -> Any:
    # Sharing memory moves accumulators from the stack to the heap (see `emit.registers`).
    with tvm.transform.PassContext(opt_level=3, config=KEEP_BUFFERS, disabled_pass=list(without)):
        return tvm.compile(tvm.IRModule(functions), target=target.tvm())


def compile_functions(functions: dict[str, PrimFunc], target: CpuTarget) -> bytes:
    """Compile the named functions and return the bytes of a shared library that holds them.

    They are compiled in parts side by side (TVM gives up Python's lock), an object file each. The
    library is linked at once: TVM's own in-memory code would be generated a second time when it
    is saved.

    Raises:
        UnsupportedError: the target is another machine, and its linker is not installed.
    """
    cross = target.machine == "aarch64" != platform.machine()
    if cross and shutil.which(CROSS_COMPILER) is None:
        raise UnsupportedError(
            f"linking for {target.machine} needs {CROSS_COMPILER}, which is not installed "
            "(Debian: gcc-aarch64-linux-gnu and libc6-dev-arm64-cross)"
        )
    cpus = len(os.sched_getaffinity(0))
    count = min(len(functions), cpus * PARTS) if cpus > 1 else 1
    items = list(functions.items())
    with tempfile.TemporaryDirectory() as folder:

        def part(at: int) -> str:
            path = str(Path(folder) / f"part{at}.o")
            compiled(dict(items[at::count]), target).mod.write_to_file(path)
            return path

        with ThreadPoolExecutor(min(count, cpus)) as pool:
            objects = list(pool.map(part, range(count)))
        path = str(Path(folder) / "kernels.so")
        if cross:
            cc.cross_compiler(CROSS_COMPILER)(path, objects)
        else:
            cc.create_shared(path, objects)
        return Path(path).read_bytes()
