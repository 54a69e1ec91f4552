"""What parent, guardian, servers and jobs tell each other, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from dlas.core.keys import Json


class Start(TypedDict, total=False):
    """What a process is to do: a guardian's is a program, a server's a job."""

    argv: list[str]
    env: dict[str, str]
    job: str
    """The file of the job."""


class JobFile(TypedDict):
    """A job as the parent writes it."""

    task: str
    args: Mapping[str, Json]
    cpus: list[int] | None
    memory_limit_mb: int
    paths: list[str]
    preload: list[str]
    result: str
    """The file that its result goes to."""
