"""How a run tells people where it is. It redraws only when the run calls, between measurements."""

from __future__ import annotations

from typing import Any, Protocol


class Progress(Protocol):
    """What a run calls; the command line draws it on standard error."""

    def start(self, total_steps: int, total_measurements: int) -> None:
        """The plan is made."""

    def step(self, stage: str, text: str, done: int, total: int) -> None:
        """A step before measuring has ended (or was there already)."""

    def measurement(self, cell_text: str, done: int, total: int, left_s: float) -> None:
        """A measurement is about to start; nothing may be drawn until the next call."""

    def note(self, text: str) -> None:
        """Something a person should know, e.g. a step that failed."""

    def finish(self, summary: Any) -> None:
        """The run has ended."""


class Silent:
    """Says nothing: for use from Python and in tests."""

    def start(self, total_steps: int, total_measurements: int) -> None:
        """Say nothing."""

    def step(self, stage: str, text: str, done: int, total: int) -> None:
        """Say nothing."""

    def measurement(self, cell_text: str, done: int, total: int, left_s: float) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def finish(self, summary: Any) -> None:
        """Say nothing."""
