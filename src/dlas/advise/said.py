"""What is advised, sentence by sentence: each with its evidence and how it is known."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dlas.core.stack import TITLES

HERE = "measured here"
ELSEWHERE = "measured elsewhere"
MODEL = "expected by the model"
DEFINITION = "by its definition"
REFUSED = "refused here"
UNKNOWN = "not known"
STATUSES = (HERE, ELSEWHERE, MODEL, DEFINITION, REFUSED, UNKNOWN)
"""How a sentence is known."""


@dataclass(frozen=True)
class Said:
    """One sentence of the checklist."""

    text: str
    status: str
    choice: str = ""
    """The choice that it speaks of."""
    gain: float | None = None
    """How many times as fast, where it says so; with its 95 % interval."""
    low: float | None = None
    high: float | None = None
    cells: tuple[str, ...] = ()
    """The cells that it rests on."""
    numbers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By cell and column what `dlas table` has of them, as far as the sentence tells it."""


@dataclass(frozen=True)
class LayerAdvice:
    """The checklist of one layer."""

    layer: str
    tried: tuple[Said, ...]
    """What was tried here, and what it gave."""
    interacts: tuple[Said, ...]
    """What it depends on, and where it flips."""
    diminishing: tuple[Said, ...]
    """Where more gives less than the noise floor, or costs without paying."""
    untried: tuple[Said, ...]
    """What was not tried though the rules allow it, and what it can be expected to give."""
    refused: tuple[Said, ...]
    """What the rules refuse here: never advised."""


@dataclass(frozen=True)
class Experiment:
    """One of the next experiments: a study file that runs as it is."""

    title: str
    why: tuple[Said, ...]
    study: str
    """The study file's text."""
    stacks: int
    file: str
    command: str


@dataclass(frozen=True)
class Advice:
    """The checklist, layer by layer, and the next experiments."""

    folders: tuple[str, ...]
    best: Said
    notes: tuple[str, ...]
    layers: tuple[LayerAdvice, ...]
    experiments: tuple[Experiment, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


# ---------------------------------------------------------------- as text

PARTS = (
    ("tried", "tried here"),
    ("interacts", "depends on"),
    ("diminishing", "more gives no more"),
    ("untried", "not tried, though it can be here"),
    ("refused", "not possible here"),
)


def as_text(advice: Advice, width: int | None = None) -> str:
    """Return the checklist for a terminal; sentences are folded to its width, commands are not."""
    best = f"best: {advice.best.text} [{advice.best.status}]"
    lines = [_folded(text, "", width) for text in (best, *advice.notes)]
    for each in advice.layers:
        lines += ["", f"{each.layer}: {TITLES[each.layer]}"]
        for name, title in PARTS:
            said = getattr(each, name)
            lines += [f"  {title}:"] if said else []
            lines += [_folded(f"- {one.text} [{one.status}]", "    ", width) for one in said]
    lines += ["", "next experiments:"]
    for number, one in enumerate(advice.experiments, start=1):
        stacks = "1 stack" if one.stacks == 1 else f"{one.stacks} stacks"
        lines += [f"  {number}. {one.title} ({stacks}):", f"     {one.command}"]
        lines += [_folded(f"- {why.text} [{why.status}]", "     ", width) for why in one.why]
    return "\n".join([*lines, *([] if advice.experiments else ["  none: nothing is left to try"])])


def _folded(text: str, indent: str, width: int | None) -> str:
    """Return a line, folded where it is longer than a terminal is wide."""
    if width is None:
        return indent + text
    hanging = indent + ("  " if text.startswith("- ") else "")
    return textwrap.fill(
        text, max(width, 40), initial_indent=indent, subsequent_indent=hanging,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def as_markdown(advice: Advice) -> str:
    """Return the checklist as Markdown, each study file in full."""
    lines = ["# What to do next", "", f"**Best:** {advice.best.text} *({advice.best.status})*", ""]
    lines += [f"- {note}" for note in advice.notes]
    for each in advice.layers:
        lines += ["", f"## {TITLES[each.layer]} (`{each.layer}`)"]
        for name, title in PARTS:
            said = getattr(each, name)
            lines += ["", f"### {title[0].upper()}{title[1:]}", ""] if said else []
            lines += [f"- {one.text} *({one.status})*" for one in said]
    lines += ["", "## Next experiments"]
    for number, one in enumerate(advice.experiments, start=1):
        lines += ["", f"### {number}. {one.title}", ""]
        lines += [f"- {why.text} *({why.status})*" for why in one.why]
        lines += ["", "```", one.command, "```", "", f"`{one.file}`:", "", "```yaml"]
        lines += [one.study.rstrip(), "```"]
    return "\n".join(lines) + "\n"
