"""What is alive of the processes that a test started, told by a mark in their environment."""

from __future__ import annotations

import time
from pathlib import Path


def marked(mark: str) -> list[str]:
    """Return the commands of the living processes whose environment holds a mark."""
    return [*processes(mark).values()]


def processes(mark: str) -> dict[int, str]:
    """Return the same by the processes' numbers."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    command = (folder / "cmdline").read_text().replace("\0", " ")
                    found[int(folder.name)] = command
        except OSError:
            continue
    return found


def gone(mark: str, within_s: float = 2.0) -> list[str]:
    """Return what is still alive after a while; empty as soon as nothing is."""
    until = time.monotonic() + within_s
    while (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    return left
