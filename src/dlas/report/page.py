"""The payload of numbers becomes one HTML file; all drawing is done by its script."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import Any

ASSETS = files("dlas.report") / "assets"


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _script_json(payload: Any) -> str:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(payload, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def render(payload: dict[str, Any]) -> str:
    """Return the page: template, style, script, the plotting library and the numbers in one."""
    from plotly.offline import get_plotlyjs

    parts = {
        "@@TITLE@@": escape(f"dlas: {payload['title']}"),
        "@@STYLE@@": _asset("page.css"),
        "@@PLOTLY@@": get_plotlyjs().replace("</script", "<\\/script"),
        "@@PAYLOAD@@": _script_json(payload),
        "@@SCRIPT@@": _asset("page.js"),
    }
    page = _asset("page.html")
    for place, text in parts.items():
        page = page.replace(place, text, 1)
    return page
