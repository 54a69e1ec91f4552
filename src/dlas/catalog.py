"""What this installation and this machine have: for ``dlas catalog`` and ``dlas doctor``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlas import registry
from dlas.display import table, text_of
from dlas.stack import LAYERS, TITLES


def parameters(row: Mapping[str, Any]) -> str:
    """Return a technique's parameters with their defaults: ``sparsity, epochs=1``."""
    shown = []
    for name, described in row["parameters"].items():
        default = described.get("default")
        known = "default" in described and default not in ("", None)
        shown.append(f"{name}={text_of(default)}" if known else name)
    return ", ".join(shown)


def catalogue_text(rows: Sequence[Mapping[str, Any]], width: int | None) -> str:
    """Return the techniques of each layer as text."""
    blocks = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        found = [row for row in rows if row["layer"] == layer]
        lines = [
            {
                "technique": row["name"],
                "what it is": row["summary"].replace("``", "`"),
                "parameters": parameters(row),
            }
            for row in found
        ]
        title = f"{layer}: {TITLES[layer]}"
        missing = [
            f"not available: {r['name']}: {r['unavailable']}" for r in found if r["unavailable"]
        ]
        body = table(lines, ("technique", "what it is", "parameters"), width)
        blocks.append("\n".join([title, body, *missing]))
    return "\n\n".join(blocks)


def examine() -> dict[str, Any]:
    """Return what the machine is, what is missing and how to get it, and what to mistrust."""
    from dlas.measure import host

    description = host.describe()
    rows = registry.catalogue()
    techniques = [
        {"layer": row["layer"], "name": row["name"], "missing": row["unavailable"] or _absent(row)}
        for row in rows
    ]
    return {
        "host": description,
        "host_class": host.host_class(description),
        "techniques": techniques,
        "concerns": host.concerns(description),
    }


def _absent(row: Mapping[str, Any]) -> str | None:
    """Return why a device is not there (hardware only)."""
    if row["layer"] != "hardware":
        return None
    device: Any = registry.make("hardware", row["name"])
    said: str | None = device.missing()
    return said


def examination_text(found: Mapping[str, Any], width: int | None) -> str:
    """Return what :func:`examine` found as text."""
    host = found["host"]
    cores = f"{host['cores_allowed']} of {host['cores']} cores, {host['memory_gib']} GiB"
    here = [f"{name} {v}" for name, v in host["libraries"].items() if v]
    techniques = found["techniques"]
    lines = [
        f"{host['cpu']}, {cores}, {host['distribution'] or host['os']}",
        f"host class {found['host_class']}, Python {host['python']}, dlas {host['dlas']}",
        f"libraries: {', '.join(here) or 'none'}",
        "",
    ]
    for layer in LAYERS:
        ready = [t["name"] for t in techniques if t["layer"] == layer and not t["missing"]]
        lines.append(f"{layer:13} {', '.join(ready) or 'none'}")
    if missing := [t for t in techniques if t["missing"]]:
        lines += ["", "missing:", table(missing, ("layer", "name", "missing"), width)]
    concerns = found["concerns"] or ["nothing speaks against timings on this machine"]
    return "\n".join([*lines, "", "timings:", *(f"- {concern}" for concern in concerns)])
