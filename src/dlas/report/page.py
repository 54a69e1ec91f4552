"""The payload of numbers becomes one HTML file; its script draws them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files

ASSETS = files("dlas.report") / "assets"
SCRIPTS = (
    "core.js", "charts.js", "stats.js", "decide.js", "tradeoff.js", "effects.js", "gains.js",
    "returns.js", "elbows.js", "trust.js", "data.js", "start.js",
)  # fmt: skip
"""In the order in which they are read; the last one starts the page."""
PLACES = re.compile("@@(TITLE|STYLE|PLOTLY|PAYLOAD|SCRIPT)@@")


def render(payload: Mapping[str, object]) -> str:
    """Return the page: template, style, script, the plotting library and the numbers in one."""
    from plotly.offline import get_plotlyjs

    parts = {
        "TITLE": escape(f"dlas: {payload['title']}"),
        "STYLE": _asset("page.css"),
        "PLOTLY": get_plotlyjs().replace("</script", "<\\/script"),
        "PAYLOAD": _script_json(payload),
        "SCRIPT": "\n".join(_asset(name) for name in SCRIPTS),
    }
    # One pass: what a part holds is never taken for a place.
    return PLACES.sub(lambda found: parts[found[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _script_json(payload: object) -> str:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(payload, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
