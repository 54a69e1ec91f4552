"""What is asked of a process: a piece of work, and the server that starts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dlas.core.keys import Json

START_S = 300.0
"""A server that has not imported its modules by then has failed."""
Launch = Literal["fork", "exec"]


@dataclass(frozen=True)
class Server:
    """What a fork server is keyed by: jobs with an equal one share a server."""

    preload: tuple[str, ...] = ()
    """Modules imported before the first fork; their time is the ``import_s`` of the jobs."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables set before any library loads, on top of the parent's."""
    python: str = ""
    """Another interpreter that has dlas installed; empty: this one."""


@dataclass(frozen=True)
class Job:
    """One piece of work for a process of its own."""

    task: str
    """``module:function`` below ``dlas.``; called with ``args`` and the additional entry
    ``launched: {"launch": "fork" | "exec", "import_s": float}``, returns a JSON object."""
    args: Mapping[str, Json]
    stage: str
    """For messages about the job."""
    timeout_s: float
    """Seconds until its whole process group is killed; the start of a server is not counted."""
    memory_limit_mb: int
    """Limit (MiB) of private writable memory of each of its processes."""
    cpus: tuple[int, ...] | None = None
    """Processors it may run on, set before it loads anything; None: all that dlas may use."""
    paths: tuple[str, ...] = ()
    """Folders put first on ``sys.path``."""
