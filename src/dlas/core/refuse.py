"""Why a stack cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a stack cannot be: ``impossible`` holds for any implementation, ``unavailable`` here."""

    status: Literal["impossible", "unavailable"]
    reason: str


def impossible(reason: str) -> Refusal:
    """Refuse with a sentence that is true of any implementation."""
    return Refusal("impossible", reason)


def unavailable(reason: str) -> Refusal:
    """Refuse because something is not installed, not present or not implemented."""
    return Refusal("unavailable", reason)
