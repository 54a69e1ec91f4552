"""The errors dlas raises on purpose.

DlasError
├── UserError           a mistake in what the user gave: exit code 2, no traceback
│   └── UnknownName     a name that nothing is registered under, with near names
├── StorageError        the disk is full, read-only or damaged: exit code 2
└── StepError           one step of one stack failed: becomes a row, never stops a study
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class DlasError(Exception):
    """The root of everything dlas raises on purpose."""


class UserError(DlasError):
    """One or several mistakes in what the user gave, each a full sentence.

    ``problems`` holds them one by one; ``str()`` joins them by line breaks.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))


class UnknownName(UserError):
    """A name nothing is registered under."""


class StorageError(DlasError):
    """The disk refuses: full, read-only, or what was read is not what was written."""


class StepError(DlasError):
    """A step of one stack failed in a way the step itself could name."""


def near(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known names close to ``name``, or ``""``."""
    close = difflib.get_close_matches(str(name), sorted(known), n=3, cutoff=0.6)
    return f" Did you mean {', '.join(repr(c) for c in close)}?" if close else ""


def listed(items: Sequence[str], most: int = 4) -> str:
    """Return items with commas, the rest counted."""
    more = len(items) - most
    shown = ", ".join(items[:most])
    return f"{shown} and {more} more" if more > 0 else shown
