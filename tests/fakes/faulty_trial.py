"""A child for tests: does what a request says, for good or ill, then behaves like the real one."""

import os
import signal
import sys
import time

sys.modules["torch"] = None  # type: ignore[assignment]

from dlas.kernels.tune import trial  # noqa: E402


def misbehave(request: dict) -> dict:
    fault = request.get("fault")
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "hang":
        time.sleep(1000)
    if fault == "raise":
        raise RuntimeError("LLVM said no")
    if fault == "exit":
        os._exit(3)
    os.write(1, b"chatter on the standard output\n")
    return {"said": request["say"]}


trial._JOBS["misbehave"] = misbehave
trial.main()
