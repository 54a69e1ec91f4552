"""Which server's children do the steps of a stack."""

from __future__ import annotations

from dlas.core.protocols import Techniques
from dlas.run.process.tasks import Server

NETWORK_SERVER = Server(preload=("torch", "timm"), environment=(("OMP_NUM_THREADS", "1"),))
"""Where networks are made: one thread, so that fine-tuning does not depend on the machine."""


def runtime_server(techniques: Techniques) -> Server:
    """Return the server whose children load and run a stack's artefact."""
    software = techniques.software
    variables = tuple(sorted(software.environment(techniques.hardware).items()))
    return Server(software.preload, variables, software.python)


def build_server(techniques: Techniques) -> Server:
    """Return the server whose children build: torch is ready where the program is torch's."""
    runtime = runtime_server(techniques)
    preload = NETWORK_SERVER.preload if techniques.software.form != "onnx" else runtime.preload
    return Server(preload, runtime.environment, runtime.python)
