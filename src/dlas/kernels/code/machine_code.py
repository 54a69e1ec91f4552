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

from dlas.kernels.code.emit import PrimFunc, has_vectors
from dlas.kernels.ground.errors import UnsupportedError
from dlas.kernels.ground.target import CpuTarget

CROSS_COMPILERS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu and libc6-dev-arm64-cross"),
    "x86_64": ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu and libc6-dev-amd64-cross"),
}
"""What links for another machine than this one, and Debian's packages that have it."""
KEEP_BUFFERS = {"tirx.disable_storage_rewrite": True}
COMPACT = "s_tir.CompactBufferAllocation"
PARTS = 4
"""Parts a CPU: functions differ in what they cost, and whoever is done takes the next part."""


def compiled(functions: dict[str, PrimFunc], target: CpuTarget) -> Any:
    """Compile the named functions into one module: all of explicit vectors, or none."""
    if any(has_vectors(f) for f in functions.values()):
        return _compiled(functions, target, [COMPACT])
    try:
        return _compiled(functions, target)
    except tvm.error.InternalError:
        # A pass of TVM 0.27 may make a buffer's size depend on a loop inside its scope; other
        # errors come again.
        return _compiled(functions, target, [COMPACT])


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
    kinds: tuple[list[str], list[str]] = ([], [])
    for name, function in functions.items():
        kinds[has_vectors(function)].append(name)
    parts = []
    for names in kinds:
        count = min(len(names), cpus * PARTS) if cpus > 1 else min(len(names), 1)
        parts += [names[at::count] for at in range(count)]
    with tempfile.TemporaryDirectory() as folder:

        def part(at: int) -> str:
            path = str(Path(folder) / f"part{at}.o")
            some = {name: functions[name] for name in parts[at]}
            compiled(some, target).mod.write_to_file(path)
            return path

        with ThreadPoolExecutor(min(len(parts), cpus)) as pool:
            objects = list(pool.map(part, range(len(parts))))
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
