"""What commands share: an option's allowed values, JSON, and text that only is text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from dlas.core.errors import UserError, near

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """Return text that a terminal shows and does not obey: control characters are written out."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def one_of(value: str, allowed: Sequence[str], option: str = "--format") -> str:
    """Return the value of an option.

    Raises:
        UserError: it is none of those allowed.
    """
    if value not in allowed:
        raise UserError(
            f"{option} {value!r}: must be one of {', '.join(allowed)}.{near(value, allowed)}"
        )
    return value


def print_json(data: object) -> None:
    """Print data."""
    print(json.dumps(data, indent=2, default=str, allow_nan=False))
