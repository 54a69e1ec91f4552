"""The children that build and measure candidates: a crash or a hang of one is an answer, too."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from dlas.kernels.ground.errors import KernelError

START_S = 60.0
"""What a new child may take on top of its first request: it imports TVM."""
MODULE = "dlas.kernels.tune.trial"
Request = dict[str, Any]


class Answer(NamedTuple):
    """What became of a request: `ok`, or the sentence that says why there is no result."""

    ok: dict[str, Any] | None
    error: str | None = None


class _Child:
    """One child, which answers one request at a time."""

    def __init__(self, module: str, log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self._fresh = True
        self._rest = b""
        self.deadline = 0.0
        self.request: int | None = None

    def send(self, number: int, request: Request, timeout_s: float) -> None:
        assert self._process.stdin is not None
        self.request = number
        self.deadline = time.monotonic() + timeout_s + (START_S if self._fresh else 0.0)
        self._fresh = False
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: its output ends, and `receive` says so

    def fileno(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def receive(self) -> Answer | None:
        """Return the answer once it is whole; None: more must come."""
        data = os.read(self.fileno(), 1 << 20)
        if not data:
            return Answer(None, self._death())
        self._rest += data
        if not self._rest.endswith(b"\n"):
            return None
        said, self._rest = json.loads(self._rest), b""
        return Answer(said.get("ok"), said.get("error"))

    def _death(self) -> str:
        code = self._process.wait()
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        return f"crashed: {how}" + (f" ({last[0][:200]})" if last else "")

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()
        self._process.wait()


class Workers:
    """Children that are started when they are needed and replaced when they die.

    Call it from one thread only: a child dies with the thread that started it.
    """

    def __init__(self, count: int = 0, module: str = MODULE) -> None:
        self.count = count or max(1, min(4, len(os.sched_getaffinity(0))))
        self._module = module
        self._children: list[_Child] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="dlas-tuning-")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._children:
            child.close()
        self._children = []
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """A folder for what is built; it goes with the workers."""
        if self._folder is None:
            raise KernelError("the workers are not open: use them in a `with` block")
        return Path(self._folder.name)

    def one(self, request: Request, timeout_s: float) -> Answer:
        """Return the answer to one request while nothing else runs."""
        (answer,) = self.map([request], timeout_s)
        return answer

    def map(self, requests: Sequence[Request], timeout_s: float) -> list[Answer]:
        """Return the answers to the requests, which run side by side, a child each."""
        answers: dict[int, Answer] = {}
        waiting = list(enumerate(requests))[::-1]
        with selectors.DefaultSelector() as selector:
            while len(answers) < len(requests):
                for child in self._idle(len(waiting)):
                    number, request = waiting.pop()
                    child.send(number, request, timeout_s)
                    selector.register(child, selectors.EVENT_READ)
                busy = [c for c in self._children if c.request is not None]
                soonest = min(c.deadline for c in busy) - time.monotonic()
                ready = {key.fileobj for key, _ in selector.select(max(0.0, soonest))}
                for child in busy:
                    answer = self._heard(child, child in ready, timeout_s)
                    if answer is not None:
                        assert child.request is not None
                        answers[child.request] = answer
                        child.request = None
                        selector.unregister(child)
                        self._bury(child, answer)
        return [answers[n] for n in range(len(requests))]

    def _idle(self, wanted: int) -> list[_Child]:
        idle = [c for c in self._children if c.request is None]
        while len(idle) < wanted and len(self._children) < self.count:
            child = _Child(self._module, self.folder / f"child{time.monotonic_ns()}.log")
            self._children.append(child)
            idle.append(child)
        return idle[:wanted]

    @staticmethod
    def _heard(child: _Child, ready: bool, timeout_s: float) -> Answer | None:
        if ready:
            return child.receive()
        if time.monotonic() > child.deadline:
            return Answer(None, f"not done after {timeout_s:g} s")
        return None

    def _bury(self, child: _Child, answer: Answer) -> None:
        """Close a child that has died or hangs; a new one is started when it is needed."""
        if answer.error and answer.error.startswith(("crashed", "not done")):
            child.close()
            self._children.remove(child)
