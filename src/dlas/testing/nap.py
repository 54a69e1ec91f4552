"""A step that only takes time, to see what an engine adds to it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def run(args: dict[str, Any]) -> dict[str, Any]:
    """Sleep for ``seconds``, and yield a file that holds ``text``."""
    time.sleep(args["seconds"])
    (Path(args["folder"]) / "out.txt").write_text(args["text"])
    return {"slept_s": args["seconds"]}
