"""The list of techniques that each break a promise, and how they get into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BROKEN: list[tuple[type, dict[str, Any], tuple[str, ...]]] = []
"""Technique, parameters, and the checks that must catch it."""


def broken(*checks: str, **params: Any) -> Any:
    """Name a class after itself, make it a technique, and list the checks that must catch it."""

    def note(cls: Any) -> Any:
        cls.name = cls.__name__.lower()
        made = cls if cls.__name__ == "Undecorated" else dataclass(frozen=True, kw_only=True)(cls)
        BROKEN.append((made, params, checks))
        return made

    return note
