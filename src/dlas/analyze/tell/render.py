"""An analysis as text: the findings, then the tables that carry them."""

from __future__ import annotations

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding

TOP = 12


def render_text(
    analysis: Analysis, *, most: int = TOP, evidence: bool = True, file: str | None = "the file"
) -> str:
    """Return the findings as lines of text, never wrapped.

    Args:
        analysis: what to tell.
        most: how many findings to tell; all where 0.
        evidence: add cells and what would overturn each finding.
        file: where all findings are; ``None``: nowhere.
    """
    table = analysis.table
    lines = [
        f"{table.metric} over {', '.join(table.layers)}: {int(table.complete.sum())} of "
        f"{len(table.cells)} cells complete"
    ]
    lines += [f"note: {note}" for note in table.notes]
    told = analysis.findings[:most] if most else analysis.findings
    for f in told:
        lines += ["", f"{f.rank}. {_marked(f)}"]
        if evidence:
            lines += _evidence(f)
    left = len(analysis.findings) - len(told)
    if left > 0:
        where = f"are in {file}" if file else "are shown by --top 0, or written by -o FILE"
        lines += ["", f"{left} more findings {where}."]
    return "\n".join(lines) + "\n"


def _marked(f: Finding) -> str:
    rate = f" (q {f.q:.2g})" if f.certainty == SIGNIFICANT else ""
    return f"[{f.kind}, {f.certainty}{rate}] {f.sentence}"


def _evidence(f: Finding) -> list[str]:
    lines = []
    if f.cells:
        shown = f.cells[:4]
        more = f" and {len(f.cells) - len(shown)} more" if len(f.cells) > len(shown) else ""
        lines.append(f"   cells: {'; '.join(shown)}{more}")
    if f.overturn:
        lines.append(f"   would overturn it: {f.overturn}")
    return lines
