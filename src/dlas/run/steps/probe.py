"""probe: what does a runtime execute of a type on this machine?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlas.run.measure.latency import check_output, read_batches, techniques


def run(args: dict[str, Any]) -> dict[str, Any]:
    """Infer once with a built network and read back what ran; nothing is timed.

    ``args``: ``artifact`` and ``inputs`` (folders), ``software`` and ``hardware`` (choices).
    Returns ``ran``, a :class:`~dlas.protocols.Ran`.
    """
    software, hardware = techniques(args)
    session = software.load(Path(args["artifact"]), hardware)
    (first, *_) = read_batches(Path(args["inputs"]), 1)
    check_output(session(first), 1)
    return {"ran": asdict(session.observe(first))}
