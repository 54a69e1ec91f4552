"""What commands share: an option's allowed values, and JSON on standard output."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dlas.core.errors import UserError, near


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
