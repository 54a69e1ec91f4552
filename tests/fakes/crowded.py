"""What the browser is asked to find out about a page: texts that overflow, collide or break.

The questions are functions of ``crowded.js``; each answers with at most twelve texts.
"""

from __future__ import annotations

from pathlib import Path

_SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def _called(name: str) -> str:
    return f"(() => {{ {_SCRIPT}; return {name}; }})()"


OVERFLOWS = _called("overflows")
"""Called with a selector: the texts that stick out of their box, or of the window."""
COLLISIONS = _called("collisions")
"""Called with a selector: pairs of texts that lie on each other."""
CHART_TEXTS = _called("chartTexts") + "()"
"""The texts of charts that are cut off, or lie on each other."""
BROKEN_WORDS = _called("brokenWords")
"""Called with a selector: words of up to 16 letters that are broken between lines."""
