"""What the optimizations of a cell came to, as text: numbers, sentences, and layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlas.cli.display import table, text_of


def achieved_text(done: Mapping[str, Any], width: int | None) -> str:
    """Return what one optimization recorded (``Optimized.achieved``) as text.

    Its sentences (``said``) come first, then what is of the whole network, then a line for each
    of its ``layers``: a number, or what it was, is and lost (``[before, after]``), and beside it
    what else is told of layers by name.
    """
    layers: Mapping[str, Any] = done.get("layers") or {}
    beside = {
        name: value
        for name, value in done.items()
        if name != "layers"
        and isinstance(value, Mapping)
        and value
        and value.keys() <= layers.keys()
    }
    apart = {"said", "layers", "technique", *beside}
    whole = {_words(k): _line(v) for k, v in done.items() if k not in apart}
    wide = max((len(name) for name, text in whole.items() if text), default=0)
    lines = [f"achieved by {done.get('technique', 'an optimization')}"]
    lines += [f"  {sentence}" for sentence in done.get("said") or ()]
    lines += [f"  {name:{wide}}  {text}" for name, text in whole.items() if text]
    rows = [
        {
            "layer": name,
            **_change(value),
            **{_words(k): _line(v.get(name)) for k, v in beside.items()},
        }
        for name, value in layers.items()
    ]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return "\n".join(lines) + (f"\n{table(rows, columns, width)}" if rows else "")


def _change(value: object) -> dict[str, object]:
    """Return the columns of what is told of a layer."""
    if isinstance(value, list | tuple) and len(value) == 2 and value[0]:
        before, after = value
        return {"before": before, "after": after, "lost": f"{1 - after / before:.0%}"}
    return {"value": _line(value)}


def _words(name: str) -> str:
    return name.replace("_", " ")


def _line(value: object) -> str:
    """Return a value in a line: `Conv 20, Gemm 1`; `64 to 45`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(k))} {_line(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        pair = len(value) == 2 and all(isinstance(v, int | float) for v in value)
        return (" to " if pair else ", ").join(map(_line, value))
    return text_of(value)
