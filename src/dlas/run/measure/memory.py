"""Memory and cold start of one built artefact, in a process of its own.

``memory_mb`` is the peak of the resident set, less the resident set after importing the runtime
and the harness: what loading and running this artefact adds. It needs a process that was exec'd:
the peak of a forked child is blind to the pages it inherits. Megabytes are 10^6 bytes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlas.core.errors import StepError
from dlas.run.measure import host, latency

RUNS = 3
"""Inferences before the peak is read: the second and third may allocate what the first did not."""
_KB = 1024 / 1e6


def run(args: Mapping[str, Any]) -> dict[str, Any]:
    """Load an artefact, infer at least three times, return its memory and its cold start.

    ``args``: ``artifact``, ``software``, ``hardware``, ``inputs``, ``batch`` as in
    :func:`dlas.run.measure.latency.run`, and ``launched``.

    Returns ``memory_mb``, ``import_rss_mb``, ``peak_rss_mb``, ``import_s``, ``load_s`` and
    ``first_inference_s``.

    Raises:
        StepError: this process was forked, the peak cannot be reset, or an output is wrong.
    """
    if args["launched"]["launch"] != "exec":
        raise StepError("memory can be measured in an exec'd process only: this one was forked")
    batches = latency.read_batches(Path(args["inputs"]), args["batch"])
    software, hardware = latency.techniques(args)
    _reset_peak()
    imported = host.resident_kb("VmRSS")
    began = time.perf_counter()
    session = software.load(Path(args["artifact"]), hardware)
    loaded = time.perf_counter()
    output = session(batches[0])
    done = time.perf_counter()
    for index in range(1, RUNS):
        output = session(batches[index % len(batches)])
    peak = host.resident_kb("VmHWM")
    latency.check_output(output, args["batch"])
    return {
        "memory_mb": (peak - imported) * _KB,
        "import_rss_mb": imported * _KB,
        "peak_rss_mb": peak * _KB,
        "import_s": args["launched"]["import_s"],
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
