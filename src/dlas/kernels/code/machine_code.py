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

from dlas.kernels.code.emit import PrimFunc
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.target import CpuTarget

CROSS_COMPILERS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu and libc6-dev-arm64-cross"),
    "x86_64": ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu and libc6-dev-amd64-cross"),
}
"""What links for another machine than this one, and Debian's packages that have it."""
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
        UnsupportedError: no compiler that links for the target's machine is installed.
    """
    linker = _linker(target.machine)
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
        cc.create_shared(path, objects, cc=linker)
        return Path(path).read_bytes()


def _linker(machine: str) -> str:
    """Return the compiler that links for a machine."""
    if machine == platform.machine():
        own: str | None = cc.get_cc()
        if own is None:
            raise UnsupportedError(
                "linking kernels needs a C++ compiler, and none is installed (Debian: g++)"
            )
        return own
    linker, packages = CROSS_COMPILERS[machine]
    if shutil.which(linker) is None:
        raise UnsupportedError(
            f"linking for {machine} needs {linker}, which is not installed (Debian: {packages})"
        )
    return linker
