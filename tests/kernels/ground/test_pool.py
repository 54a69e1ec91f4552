"""TVM's thread pool: as many threads as asked, whatever the environment says of OpenMP."""

import os
import subprocess
import sys

import pytest

_ASK = """
from dlas.kernels.ground import pool
from dlas.kernels.ground.program import load_runtime
load_runtime()
from tvm_ffi import get_global_func
threads = get_global_func("runtime.NumThreads")
for asked in (1, 2, 1, 2):
    with pool.limited(asked) as ran:
        print(threads())
        assert ran == threads()
configure = get_global_func("runtime.config_threadpool")
for set_by_caller in (1, 2):
    configure(1, set_by_caller)
    with pool.limited(3 - set_by_caller):
        print(threads())
    print(threads())
with pool.limited(1000) as ran:
    assert ran == threads() < 1000
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_two_threads_on_two_cpus_and_the_caller_s_pool_is_restored() -> None:
    """TVM by itself halves the CPUs of an x86 machine, and heeds OMP_NUM_THREADS."""
    environment = {k: v for k, v in os.environ.items() if k != "TVM_NUM_THREADS"}
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", _ASK], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "2", "1", "2", *"21", *"12"]
