"""The types that numbers are stored and multiplied in, by their names."""

from __future__ import annotations

import re

_NAME = re.compile(r"b?float(\d+)|int(\d+)")


def bits(name: str) -> int | None:
    """Return the bits of one number of a type, ``bfloat16`` or ``int8``; None: it names no type.

    Techniques are called so, and runtimes tell so what ran.
    """
    found = _NAME.fullmatch(name)
    return int(found[1] or found[2]) if found else None
