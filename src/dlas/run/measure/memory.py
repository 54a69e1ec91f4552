"""Memory and cold start of one built artefact, in a process of its own.

``memory_mb`` is the peak of the resident set, less the resident set after importing the runtime
and the harness: what loading and running this artefact adds. It needs a process that was exec'd:
the peak of a forked child is blind to the pages it inherits. Megabytes are 10^6 bytes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from dlas.core.errors import StepError
from dlas.core.protocols import HardwareTechnique, Software
from dlas.run.measure import host, latency
from dlas.run.measure.args import JobArgs, Launched, read_args

RUNS = 3
"""Inferences before the peak is read: the second and third may allocate what the first did not."""
_KB = 1024 / 1e6


@dataclass(frozen=True)
class MemoryArgs:
    """What :func:`run` is asked for, as in :mod:`dlas.run.measure.latency`."""

    artifact: Path
    inputs: Path
    batch: int
    software: Software
    hardware: HardwareTechnique
    launched: Launched


def run(args: JobArgs) -> dict[str, float]:
    """Load an artefact, infer at least three times, return its memory and its cold start.

    Returns ``memory_mb``, ``import_rss_mb``, ``peak_rss_mb``, ``import_s``, ``load_s`` and
    ``first_inference_s``.

    Raises:
        StepError: this process was forked, the peak cannot be reset, or an output is wrong.
    """
    given = read_args(MemoryArgs, args)
    if given.launched.launch != "exec":
        raise StepError("memory can be measured in an exec'd process only: this one was forked")
    batches = latency.read_batches(given.inputs, given.batch)
    _reset_peak()
    imported = host.resident_kb("VmRSS")
    began = time.perf_counter()
    session = given.software.load(given.artifact, given.hardware)
    loaded = time.perf_counter()
    output = session(batches[0])
    done = time.perf_counter()
    for index in range(1, RUNS):
        output = session(batches[index % len(batches)])
    peak = host.resident_kb("VmHWM")
    latency.check_output(output, given.batch)
    return {
        "memory_mb": (peak - imported) * _KB,
        "import_rss_mb": imported * _KB,
        "peak_rss_mb": peak * _KB,
        "import_s": given.launched.import_s,
        "load_s": loaded - began,
        "first_inference_s": done - loaded,
    }


def _reset_peak() -> None:
    """Make the kernel forget the peak of the imports (proc(5), clear_refs, value 5)."""
    file = Path("/proc/self/clear_refs")
    try:
        file.write_text("5")
    except OSError as error:
        raise StepError(
            f"the peak of memory cannot be measured here: {file} cannot be written ({error})"
        ) from error
