"""probe: what does a runtime execute of a type on this machine?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from dlas.core.keys import Json
from dlas.core.protocols import HardwareTechnique, Software
from dlas.run.measure.args import JobArgs, read_args
from dlas.run.measure.latency import check_output, read_batches


@dataclass(frozen=True)
class ProbeArgs:
    """What the step is asked for; ``artifact`` and ``inputs`` are folders."""

    software: Software
    hardware: HardwareTechnique
    artifact: Path
    inputs: Path


def run(args: JobArgs) -> dict[str, Json]:
    """Infer once with a built network and read back what ran; nothing is timed.

    Returns ``ran``, a :class:`~dlas.protocols.Ran`.
    """
    given = read_args(ProbeArgs, args)
    session = given.software.load(given.artifact, given.hardware)
    (first, *_) = read_batches(given.inputs, 1)
    check_output(session(first), 1)
    return {"ran": asdict(session.observe(first))}
