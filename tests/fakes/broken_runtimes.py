"""Algorithms, runtimes and devices that each break a promise, or several at once."""

from __future__ import annotations

import itertools
import json
import random
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from broken_promise import broken
from dlas.core.protocols import Algorithm, KernelChoice, Ran
from sound_techniques import Here, Session, Sound

_COUNT = itertools.count(1)

# ---------------------------------------------------------------- algorithms


@broken("every-answer-is-a-kernel-or-none")
class Numbers(Algorithm):
    """Answers with a number."""

    def kernel(self, operator: Any, target: str) -> Any:
        return 7


@broken("every-answer-is-a-kernel-or-none")
class Fickle(Algorithm):
    """Another kernel whenever it is asked."""

    def kernel(self, operator: Any, target: str) -> Any:
        return KernelChoice("direct", "dense", 1 / next(_COUNT))


@broken("it-names-kernels-exactly-if-it-chooses")
class NamesNone(Algorithm):
    """Chooses, and names nothing."""

    def kernel(self, operator: Any, target: str) -> Any:
        return None


@broken("it-names-kernels-exactly-if-it-chooses")
class NamesAll(Algorithm):
    """Says that it leaves the choice to the runtime, and does not."""

    chooses: ClassVar[bool] = False

    def kernel(self, operator: Any, target: str) -> Any:
        return "direct"


@broken("what-it-names-exists")
class MadeUp(Algorithm):
    """A primitive that nobody wrote."""

    def kernel(self, operator: Any, target: str) -> Any:
        return "strassen"


@broken("what-it-names-can-do-an-operator")
class Unable(Algorithm):
    """Winograd where winograd cannot."""

    def kernel(self, operator: Any, target: str) -> Any:
        return "winograd" if operator.kernel == (1, 1) else None


# ---------------------------------------------------------------- software


@broken(
    "its-environment-is-text",
    "its-declared-differences-are-precisions",
    "outputs-are-float32-rows",
    "a-session-is-repeatable",
    "outputs-are-not-overwritten",
    "threads-are-as-asked",
    "what-ran-in-float32-was-asked-for",
    "outputs-are-right-in-float32",
    "the-algorithm-asked-for-runs-or-is-told",
)
class Careless(Sound):
    """float64, one buffer for all, noise, three threads, bfloat16 behind the back."""

    executes: ClassVar[Any] = {"float32": "tf19"}

    def why_not(self, stack: Any) -> Any:
        return None

    def environment(self, hardware: Any) -> Any:
        return {"OMP_NUM_THREADS": "1"} if next(_COUNT) % 2 else {"OMP_NUM_THREADS": "2"}

    def spoil(self, y: Any) -> Any:
        _BUFFER.resize(y.shape, refcheck=False)
        _BUFFER[...] = y * (1 + 0.1 * random.random())
        return _BUFFER

    def ran(self, threads: int) -> Any:
        return Ran(precision="bfloat16", threads=3)


_BUFFER = np.zeros(0)


@broken(
    "what-ran-in-float16-was-asked-for",
    "outputs-are-right-in-float16",
    "what-ran-in-int8-was-asked-for",
    "outputs-are-right-in-int8",
    "what-ran-in-its-own-int8-was-asked-for",
    "outputs-are-right-in-its-own-int8",
)
class IgnoresPrecision(Sound):
    """float32 whatever is asked, and outputs of the wrong sign."""

    quantizer: ClassVar[str] = "numpy"

    def why_not(self, stack: Any) -> Any:
        return None

    def spoil(self, y: Any) -> Any:
        return -y


@broken("threads-are-as-asked")
class Greedy(Sound):
    """Says one thread and keeps a second one busy."""

    def load(self, folder: Path, hardware: Any) -> Any:
        import threading

        x = np.ones((128, 128))

        def work() -> None:
            while True:
                x @ x

        threading.Thread(target=work, daemon=True).start()
        return super().load(folder, hardware)

    def ran(self, threads: int) -> Any:
        return Ran(precision="float32", threads=threads)


@broken("the-artefact-stands-alone")
class RefersBack(Sound):
    """Stores where the model lay when it was built."""

    def build(self, program: Any, hardware: Any, folder: Path) -> Any:
        (folder / "where.json").write_text(json.dumps(str(program.onnx())))
        return {}

    def load(self, folder: Path, hardware: Any) -> Any:
        model = Path(json.loads((folder / "where.json").read_text())).read_bytes()
        return Session(self, model, hardware.threads)


@broken("it-builds-an-artefact")
class NotJson(Sound):
    """Facts that are no JSON."""

    def build(self, program: Any, hardware: Any, folder: Path) -> Any:
        super().build(program, hardware, folder)
        return {"folder": folder}


# ---------------------------------------------------------------- hardware


@broken("it-is-there-or-says-why-not")
class SaysNo(Here):
    """A bool instead of a reason."""

    def missing(self) -> Any:
        return True


@broken("it-describes-itself-as-json")
class Clock(Here):
    """What it is depends on when it is asked."""

    def describe(self) -> dict[str, Any]:
        return {"device": "cpu", "now": time.perf_counter()}


@broken("it-describes-itself-as-json")
class Flags(Here):
    """A set is no JSON."""

    def describe(self) -> dict[str, Any]:
        return {"device": "cpu", "flags": {"avx2"}}


@broken("its-target-is-json-without-threads")
class ThreadedTarget(Here):
    """Every thread count would be built for."""

    def target(self) -> Any:
        return {"threads": self.threads}


@broken("its-target-is-json-without-threads")
class NoTarget(Here):
    """Machine code of one machine would be taken on another."""

    def target(self) -> Any:
        return None


@broken("its-target-says-what-native-is")
class NativeTarget(Here):
    """Native is something else on every machine."""

    def target(self) -> Any:
        return {"isa": self.isa}


@broken("threads-are-checked")
class AnyThreads(Here):
    """No limit below."""

    threads: int = 1


@broken("threads-are-checked", "it-counts-the-processors-of-its-process")
class AllProcessors(Here):
    """Counts what the machine has, not what the process may use; and no limit above."""

    def missing(self) -> Any:
        return None
