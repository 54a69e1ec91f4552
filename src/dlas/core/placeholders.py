"""What stands where a file should be: a pointer of Git LFS, a web page, nothing at all."""

from __future__ import annotations

import re
from pathlib import Path

HEAD = 256
"""How many bytes of a file are enough to tell."""
_PAGE = re.compile(
    rb"\s*(<!doctype html|<html|<\?xml[^>]*>\s*<(error|html|!doctype))", re.IGNORECASE
)


def instead(head: bytes) -> str:
    """Return what a file is in place of what was wanted, ``""``: its first bytes do not tell.

    A sentence without a full stop, which says how the file itself is got.
    """
    if not head:
        return "it is empty (0 bytes): copy or download it again"
    if head.startswith(b"version https://git-lfs."):
        return "it is a Git LFS pointer in place of the file: `git lfs pull` fetches it"
    if _PAGE.match(head):
        return "it is a web page in place of the file: its download failed, get it again"
    return ""


def instead_of(path: Path) -> str:
    """Return what a file is in place of what was wanted, or why it cannot be opened.

    As :func:`instead`: a sentence without a full stop, ``""``: its first bytes do not tell.
    """
    try:
        with path.open("rb") as handle:
            return instead(handle.read(HEAD))
    except OSError as error:
        return f"it cannot be opened ({error.strerror or error})"
